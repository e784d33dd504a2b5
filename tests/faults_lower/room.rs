//! A lower file system that has no room, or takes no changes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::{Errno, Result};
use rustix::mount::MountFlags;

use crate::harness::{Root, errno, private};
use crate::others::Others;
use crate::{DEADLINE, Faulty, WAYS, ext4, tmpfs, user};

/// Writes to a file beside both directories until there is no room.
fn fill(at: &Path) {
    let mut filler = File::create(at.join("filler")).expect("create");
    for size in [64 * 1024, 4096, 1024] {
        while filler.write_all(&vec![1; size]).is_ok() {}
    }
    let _ = filler.sync_all();
}

fn append(root: &Root, bytes: usize) -> Result<()> {
    let file = OpenOptions::new().append(true).open(root.join("file"));
    let mut file = file.map_err(errno)?;
    file.write_all(&vec![2; bytes]).map_err(errno)?;
    file.sync_all().map_err(errno)
}

#[test]
fn full_the_caller_gets_enospc_as_natively_and_goes_on_when_there_is_room() {
    for options in WAYS {
        for kind in ["tmpfs", "ext4"] {
            private(DEADLINE, move |env| {
                let faulty = Faulty::new(env, options, |at| match kind {
                    "tmpfs" => tmpfs(at, "size=1m,nr_inodes=40,mode=0755"),
                    _ => drop(ext4(env, at, 8)),
                });
                let mut pair = faulty.pair();
                let who = user();
                let made = |root: &Root| fs::write(root.join("file"), "before").map_err(errno);
                assert_eq!(pair.same_as(&who, "make a file", made), Ok(()));
                let others = Others::start(&own(&faulty));
                fill(&faulty.at);
                let said = pair.same_as(&who, "append 64 KiB", |root| append(root, 64 * 1024));
                assert_eq!(said, Err(Errno::NOSPC), "{kind}");
                for n in 0..64 {
                    // How many fit is the file system's affair, and each of the two takes from the same.
                    for path in [faulty.at.join("native"), faulty.etcfs.mnt().join("g")] {
                        let _ = fs::write(path.join(format!("more-{n}")), [3; 4096]);
                    }
                }
                pair.same_as(&who, "overwrite what there is", |root| {
                    let file = OpenOptions::new().write(true).open(root.join("file"));
                    file.map_err(errno)?.write_all(b"BEFORE").map_err(errno)
                })
                .expect("room that it has already");
                let local = faulty.etcfs.mnt().join("own/large");
                fs::write(&local, vec![4; 512 * 1024]).expect("the local side has room");
                let moved = fs::rename(&local, faulty.etcfs.mnt().join("g/large"));
                assert_eq!(moved.map_err(errno), Err(Errno::NOSPC), "across sides");
                assert_eq!(fs::metadata(&local).expect("it stays").len(), 512 * 1024);
                assert!(!faulty.at.join("global/g/large").exists());
                pair.same_as(&who, "read it", |root| {
                    fs::read(root.join("file"))
                        .map(|text| text[..6].to_vec())
                        .map_err(errno)
                })
                .expect("reading takes no room");
                others.go_on();
                fs::remove_file(faulty.at.join("filler")).expect("make room");
                let said = pair.same_as(&who, "append when there is room", |root| append(root, 9));
                assert_eq!(said, Ok(()), "{kind}");
                fs::rename(&local, faulty.etcfs.mnt().join("g/large")).expect("across sides");
                others.go_on();
                pair.finish();
            });
        }
    }
}

/// A directory on the sound side, where others work.
fn own(faulty: &Faulty) -> std::path::PathBuf {
    let own = faulty.etcfs.mnt().join("own");
    fs::create_dir_all(&own).expect("mkdir");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&own, everybody).expect("chmod");
    own
}

/// Everything that changes something, and what reads. (Of a name that is not there unlink(2) says ENOENT on the mount and
/// EROFS natively: the kernel asks whether the mount itself can be written before it looks for the name.)
fn everything(root: &Root) -> Vec<(String, Result<String>)> {
    let dir = &root.dir;
    let mode = Mode::from_raw_mode(0o644);
    let open = |name: &str, flags| rustix::fs::openat(dir, name, flags, mode).map(drop);
    let calls: Vec<(&str, Result<()>)> = vec![
        ("open to write", open("file", OFlags::RDWR)),
        (
            "open to empty",
            open("file", OFlags::WRONLY | OFlags::TRUNC),
        ),
        ("create", open("new", OFlags::WRONLY | OFlags::CREATE)),
        ("create over", open("file", OFlags::RDONLY | OFlags::CREATE)),
        ("nameless", open(".", OFlags::WRONLY | OFlags::TMPFILE)),
        ("mkdir", rustix::fs::mkdirat(dir, "dir", mode)),
        (
            "rmdir",
            rustix::fs::unlinkat(dir, "there", AtFlags::REMOVEDIR),
        ),
        ("symlink", rustix::fs::symlinkat("x", dir, "link")),
        (
            "link",
            rustix::fs::linkat(dir, "file", dir, "hard", AtFlags::empty()),
        ),
        ("rename", rustix::fs::renameat(dir, "file", dir, "other")),
        (
            "unlink",
            rustix::fs::unlinkat(dir, "file", AtFlags::empty()),
        ),
        ("mkdir over", rustix::fs::mkdirat(dir, "there", mode)),
        (
            "chmod",
            rustix::fs::chmodat(dir, "file", mode, AtFlags::empty()),
        ),
        ("utimes", {
            let now = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            rustix::fs::utimensat(dir, "file", &times, AtFlags::empty())
        }),
        ("setxattr", {
            let path = root.join("file");
            rustix::fs::setxattr(path, "user.x", b"x", XattrFlags::empty())
        }),
        ("truncate", {
            let file = OpenOptions::new().write(true).open(root.join("file"));
            file.and_then(|file| file.set_len(0)).map_err(errno)
        }),
    ];
    let mut answers: Vec<_> = calls
        .into_iter()
        .map(|(what, answer)| (what.to_owned(), answer.map(|()| String::new())))
        .collect();
    answers.push((
        "read".to_owned(),
        fs::read_to_string(root.join("file")).map_err(errno),
    ));
    answers.push((
        "list".to_owned(),
        fs::read_dir(root.join("."))
            .map(|list| list.count().to_string())
            .map_err(errno),
    ));
    answers
}

#[test]
fn read_only_the_caller_gets_erofs_as_natively_and_can_write_when_it_is_not() {
    for options in WAYS {
        private(DEADLINE, move |env| {
            let faulty = Faulty::new(env, options, |at| tmpfs(at, "mode=0755"));
            let mut pair = faulty.pair();
            let who = user();
            pair.same_as(&who, "make a file", |root| {
                fs::create_dir(root.join("there")).map_err(errno)?;
                fs::write(root.join("file"), "before").map_err(errno)
            })
            .expect("it can be written");
            let others = Others::start(&own(&faulty));
            let reader = File::open(faulty.etcfs.mnt().join("g/file")).expect("open to read");
            remount(&faulty.at, MountFlags::RDONLY);
            let answers = pair.each_as(&who, everything);
            for (what, answer) in &answers[..16] {
                let refused = matches!(answer, Err(Errno::ROFS | Errno::NOENT | Errno::EXIST));
                assert!(refused || what == "create over", "{what}: {answer:?}");
            }
            let mut text = String::new();
            std::io::Read::read_to_string(&mut &reader, &mut text).expect("read on");
            assert_eq!(text, "before");
            others.go_on();
            remount(&faulty.at, MountFlags::empty());
            let answers = pair.each_as(&who, everything);
            assert_eq!(answers[0].1, Ok(String::new()), "open to write");
            others.go_on();
            pair.finish();
        });
    }
}

/// The file system itself, not one mount of it.
fn remount(at: &Path, flags: MountFlags) {
    let flags = flags | MountFlags::NOSUID | MountFlags::NODEV;
    let remounted = rustix::mount::mount_remount(at, flags, c"mode=0755");
    remounted.unwrap_or_else(|errno| panic!("remount: {errno}"));
}
