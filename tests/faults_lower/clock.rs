//! A clock that was set back by a day: everything beneath was last changed tomorrow.
//!
//! The clock is the whole machine's, and no namespace has one of its own. So the files are dated instead, which only the file
//! system itself can do: in its image, while it is not mounted.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::harness::{Root, acl, errno, private, run, text};
use crate::{DEADLINE, Faulty, WAYS, ext4, mount_image, user};

const FILES: [&str; 3] = ["file", "injected", "guarded"];

fn tomorrow() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_secs()).expect("before the end of time") + 86_400
}

/// Mounts an ext4 whose files are all from tomorrow.
fn dated(env: &crate::harness::Env, at: &Path, time: i64) {
    let image = ext4(env, at, 16);
    let mut commands = String::new();
    for dir in ["global/g", "native"] {
        fs::create_dir_all(at.join(dir)).expect("mkdir");
        for file in FILES {
            let path = at.join(dir).join(file);
            fs::write(&path, "text\n").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
            for field in ["ctime", "mtime", "atime", "crtime"] {
                commands += &format!("set_inode_field /{dir}/{file} {field} @{time}\n");
            }
        }
    }
    rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()).expect("unmount");
    let list = env.scratch().join("debugfs");
    fs::write(&list, commands).expect("write");
    run(Command::new("debugfs")
        .args(["-w", "-f"])
        .arg(&list)
        .arg(&image))
    .unwrap_or_else(|e| panic!("{e}"));
    mount_image(&image, at);
}

#[test]
fn clock_set_back_a_day_nobody_notices() {
    for options in WAYS {
        private(DEADLINE, move |env| {
            let time = tomorrow();
            let faulty = Faulty::new(env, options, |at| dated(env, at, time));
            let source = env.scratch().join("inject");
            fs::write(&source, "of the stratum\n").expect("write");
            let line = format!("add_override inject /g/injected {}", source.display());
            faulty.etcfs.write_config(&[line]).expect("an override");
            let beneath = faulty.at.join("global/g");
            let (who, mnt) = (user(), faulty.etcfs.mnt().join("g"));
            let mut pair = faulty.pair();
            let changed = pair.same("stat", |root| {
                fs::metadata(root.join("file"))
                    .map(|stat| stat.ctime())
                    .map_err(errno)
            });
            assert_eq!(changed, Ok(time), "it is from tomorrow");
            // An inject is made, once, and holds.
            for _ in 0..5 {
                assert_eq!(text(&mnt.join("injected")), "text\nof the stratum\n");
            }
            // Every change is seen by the next call, whichever side it comes from.
            for n in 0..200 {
                let version = format!("version {n}");
                let (from, to) = match n % 2 {
                    0 => (&beneath, &mnt),
                    _ => (&mnt, &beneath),
                };
                fs::write(from.join("file"), &version).expect("write");
                assert_eq!(text(&to.join("file")), version);
            }
            // What was known of a file from tomorrow is not believed of it as it is today.
            let open = |root: &Root| fs::read(root.join("guarded")).map_err(errno);
            assert_eq!(pair.same_as(&who, "read", open), Ok(b"text\n".to_vec()));
            let entries = [
                (1, 6, u32::MAX),
                (2, 0, crate::USER),
                (4, 6, u32::MAX),
                (16, 6, u32::MAX),
                (32, 6, u32::MAX),
            ];
            for dir in [&beneath, &faulty.at.join("native")] {
                let (path, name) = (dir.join("guarded"), "system.posix_acl_access");
                rustix::fs::setxattr(path, name, &acl(&entries), XattrFlags::empty()).expect("ACL");
            }
            assert_eq!(pair.same_as(&who, "read again", open), Err(Errno::ACCESS));
            pair.same_as(&who, "make", |root| {
                fs::create_dir(root.join("dir")).map_err(errno)?;
                std::os::unix::fs::symlink("x", root.join("dir/link")).map_err(errno)?;
                fs::write(root.join("dir/new"), "x").map_err(errno)?;
                fs::rename(root.join("dir/new"), root.join("file")).map_err(errno)
            })
            .expect("what is made is from today");
            pair.finish();
        });
    }
}
