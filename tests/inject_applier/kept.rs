//! What an edit keeps, and whom it leaves alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::Command;

use crate::harness::{Lower, private, run};
use crate::{DEADLINE, NEW, OLD, STEPS, TEXT, dress, put, without_data};
use etcfs::fs::enforce::inject_file::{Change, Edited, edit};
use etcfs::fs::enforce::original::EditStep;
use rustix::fd::AsFd;
use rustix::fs::XattrFlags;
use rustix::mount::MountFlags;

#[test]
fn b34_owner_mode_acl_attributes_and_times_are_kept() {
    private(DEADLINE, |env| {
        for lower in [Lower::Tmpfs, Lower::Ext4] {
            let dir = env.dir(&format!("{lower:?}"));
            lower.mount(env, &dir).unwrap();
            // What the directory hands down must not reach the file.
            run(Command::new("setfacl")
                .args(["-d", "-m", "u:4321:rwx"])
                .arg(&dir))
            .unwrap();
            let path = dir.join("file");
            dress(&path);
            let before = fs::metadata(&path).unwrap();
            let expected = without_data(&dir);
            assert_eq!(put(&dir, "file", &mut |_| {}), Edited::Done);
            assert_eq!(fs::read(&path).unwrap(), NEW);
            let entries = |list: Vec<String>| list[1..].to_vec();
            assert_eq!(entries(without_data(&dir)), entries(expected));
            let after = fs::metadata(&path).unwrap();
            assert_eq!(
                (after.mtime(), after.mtime_nsec()),
                (before.mtime(), before.mtime_nsec())
            );
            assert_eq!(put(&dir, "file", &mut |_| {}), Edited::InPlace);
        }
    });
}

#[test]
fn b34_a_file_with_two_names_stays_one_file() {
    private(DEADLINE, |env| {
        for lower in [Lower::Tmpfs, Lower::Ext4] {
            let dir = env.dir(&format!("{lower:?}"));
            lower.mount(env, &dir).unwrap();
            let (one, two) = (dir.join("one"), dir.join("two"));
            dress(&one);
            fs::hard_link(&one, &two).unwrap();
            let before = fs::metadata(&one).unwrap();
            let mut expected = without_data(&dir);
            assert_eq!(put(&dir, "one", &mut |_| {}), Edited::Done);
            assert_eq!(fs::read(&one).unwrap(), NEW);
            assert_eq!(fs::read(&two).unwrap(), NEW);
            let take = |reached: &mut dyn FnMut(EditStep)| {
                let at = File::open(&dir).unwrap();
                edit(at.as_fd(), c"two", Change::Take(TEXT), &|| true, reached).unwrap()
            };
            assert_eq!(take(&mut |_| {}), Edited::Done);
            assert_eq!(fs::read(&one).unwrap(), b"first line\nlast line\n");
            let after = fs::metadata(&one).unwrap();
            assert_eq!(after.ino(), before.ino());
            assert_eq!(
                (after.mtime(), after.mtime_nsec()),
                (before.mtime(), before.mtime_nsec())
            );
            let mut found = without_data(&dir);
            assert_eq!(found.split_off(1), expected.split_off(1));
            // From the middle it cannot be taken without tearing: the name parts from the other one.
            fs::write(&one, [NEW, b"after\n"].concat()).unwrap();
            assert_eq!(take(&mut |_| {}), Edited::Done);
            assert_eq!(fs::read(&two).unwrap(), b"first line\nlast line\nafter\n");
            assert_eq!(fs::read(&one).unwrap(), [NEW, b"after\n"].concat());
        }
    });
}

#[test]
fn a_link_that_a_user_may_have_made_is_not_written_through() {
    private(DEADLINE, |env| {
        let dir = env.dir("lower");
        let own = env.dir("lower/own");
        fs::write(dir.join("shadow"), OLD).unwrap();
        fs::hard_link(dir.join("shadow"), own.join("file")).unwrap();
        std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
        assert_eq!(put(&own, "file", &mut |_| {}), Edited::Done);
        assert_eq!(fs::read(own.join("file")).unwrap(), NEW);
        assert_eq!(fs::read(dir.join("shadow")).unwrap(), OLD);
    });
}

#[test]
fn s16_a_full_file_system_keeps_the_old_file_and_nothing_else() {
    private(DEADLINE, |env| {
        let dir = env.dir("full");
        let size = c"size=16k";
        rustix::mount::mount("full", &dir, "tmpfs", MountFlags::empty(), size).unwrap();
        fs::write(dir.join("file"), OLD).unwrap();
        fs::write(dir.join("linked"), [b'x'; 4096]).unwrap();
        fs::hard_link(dir.join("linked"), dir.join("link")).unwrap();
        let fill = fs::write(dir.join("fill"), [0; 16384]).unwrap_err();
        assert_eq!(fill.raw_os_error(), Some(libc::ENOSPC));
        let at = File::open(&dir).unwrap();
        for name in [c"file", c"linked"] {
            let result = edit(at.as_fd(), name, Change::Put(TEXT), &|| true, &mut |_| {});
            assert_eq!(result, Err(rustix::io::Errno::NOSPC), "{name:?}");
        }
        assert_eq!(fs::read(dir.join("file")).unwrap(), OLD);
        assert_eq!(fs::read(dir.join("link")).unwrap(), [b'x'; 4096]);
        let marked = rustix::fs::getxattr(dir.join("link"), "trusted.etcfs.length", &mut [0; 8]);
        assert!(marked.is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4);
    });
}

#[test]
fn a_half_written_append_is_taken_back() {
    private(DEADLINE, |env| {
        let dir = env.dir("lower");
        Lower::Ext4.mount(env, &dir).unwrap();
        let (one, two) = (dir.join("one"), dir.join("two"));
        for torn in [&b"\n# INJ"[..], b"\n", b"\n# INJECTED\nmore"] {
            let _ = fs::remove_file(&one);
            let _ = fs::remove_file(&two);
            fs::write(&one, [OLD, torn].concat()).unwrap();
            fs::hard_link(&one, &two).unwrap();
            let length = (OLD.len() as u64).to_le_bytes();
            rustix::fs::setxattr(&one, "trusted.etcfs.length", &length, XattrFlags::empty())
                .unwrap();
            assert_eq!(put(&dir, "one", &mut |_| {}), Edited::Done);
            assert_eq!(fs::read(&two).unwrap(), NEW, "{}", torn.escape_ascii());
            assert!(rustix::fs::getxattr(&one, "trusted.etcfs.length", &mut [0; 8]).is_err());
        }
        // Lines that somebody has added since are not a part of the text and stay.
        fs::write(&one, [OLD, b"\nmine\n"].concat()).unwrap();
        let length = (OLD.len() as u64).to_le_bytes();
        rustix::fs::setxattr(&one, "trusted.etcfs.length", &length, XattrFlags::empty()).unwrap();
        assert_eq!(put(&dir, "one", &mut |_| {}), Edited::Done);
        assert_eq!(fs::read(&one).unwrap(), [OLD, b"\nmine\n", TEXT].concat());
    });
}

#[test]
fn a_writer_that_comes_at_any_step_loses_nothing() {
    private(DEADLINE, |env| {
        let dir = env.dir("lower");
        Lower::Ext4.mount(env, &dir).unwrap();
        let path = dir.join("file");
        for at in STEPS
            .into_iter()
            .take_while(|step| *step != EditStep::Switched)
        {
            fs::write(&path, OLD).unwrap();
            let mut written = false;
            let outcome = put(&dir, "file", &mut |step| {
                if step == at && !written {
                    written = true;
                    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                    file.write_all(b"\nwriter").unwrap();
                }
            });
            assert!(written, "{at:?}");
            assert_eq!(outcome, Edited::Done, "{at:?}");
            let expected = [OLD, b"\nwriter\n", TEXT].concat();
            assert_eq!(fs::read(&path).unwrap(), expected, "{at:?}");
        }
        // Whoever has the file open for writing is left alone.
        fs::write(&path, OLD).unwrap();
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(put(&dir, "file", &mut |_| {}), Edited::Busy);
        assert_eq!(fs::read(&path).unwrap(), OLD);
        drop(writer);
        // Whoever wants to write at the moment of the switch gets the old file back, in its place.
        let mut wanted = false;
        let outcome = put(&dir, "file", &mut |step| {
            if step == EditStep::Switched && !wanted {
                wanted = true;
                let hidden = fs::read_dir(&dir)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .find(|path| {
                        path.file_name()
                            .unwrap()
                            .as_bytes()
                            .starts_with(b".etcfs-hidden-")
                    })
                    .expect("there is a place of the daemon's own");
                let old = fs::read_dir(hidden).unwrap().flatten().next();
                let refused = OpenOptions::new()
                    .append(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(old.expect("the old file is in it").path());
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
            }
        });
        assert_eq!(outcome, Edited::Busy);
        assert_eq!(fs::read(&path).unwrap(), OLD);
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            2,
            "file and lost+found"
        );
    });
}
