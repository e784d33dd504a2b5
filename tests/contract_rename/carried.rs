//! What a file is after it has changed sides: all that it was before.

use super::harness::{Lower, run};
use super::{EVERYWHERE, Sides, on};
use rustix::fs::{CWD, Timespec, Timestamps, XattrFlags, utimensat};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// All that a rename must keep, as it is beneath the mount.
#[derive(Debug, PartialEq)]
pub struct State {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, i64),
    atime: (i64, i64),
    xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a rename must keep of the object at `path`.
pub fn state(path: &Path) -> State {
    let stat = fs::symlink_metadata(path).expect("stat");
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names).expect("listxattr");
    let xattrs = names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value).expect("getxattr");
            (
                String::from_utf8_lossy(name).into_owned(),
                value[..len].to_vec(),
            )
        })
        .collect();
    State {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        size: stat.size(),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        atime: (stat.atime(), stat.atime_nsec()),
        xattrs,
    }
}

/// Times that no clock shows by itself.
pub fn set_times(path: &Path) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 123_456_789,
        },
        last_modification: Timespec {
            tv_sec: 1_111_111_111,
            tv_nsec: 987_654_321,
        },
    };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}

/// `security.capability`, revision 2: CAP_NET_BIND_SERVICE permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn b4_owner_mode_times_acl_and_attributes_move_along() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let beneath = etcfs.local().join("local");
            fs::write(&beneath, "content").expect("write");
            chown(&beneath, Some(1000), Some(1001)).expect("chown");
            fs::set_permissions(&beneath, fs::Permissions::from_mode(0o6751)).expect("chmod");
            run(Command::new("setfacl")
                .args(["-m", "u:1234:rw,g:55:x,m::rwx"])
                .arg(&beneath))
            .expect("setfacl");
            for (name, value) in [
                ("user.note", b"some\0bytes".as_slice()),
                ("user.empty", b""),
                ("trusted.secret", b"t"),
                ("security.capability", &CAPABILITY),
                ("security.etcfs", b"label"),
            ] {
                rustix::fs::setxattr(&beneath, name, value, XattrFlags::empty())
                    .unwrap_or_else(|e| panic!("setxattr {name}: {e}"));
            }
            set_times(&beneath);
            let before = state(&beneath);
            assert_eq!(before.mode & 0o7777, 0o6771);
            assert!(before.xattrs.contains_key("system.posix_acl_access"));
            // What it replaces is different in everything.
            let target = etcfs.global().join("global");
            fs::write(&target, "old content").expect("write");
            rustix::fs::setxattr(&target, "user.old", b"x", XattrFlags::empty()).expect("setxattr");
            fs::rename(etcfs.mnt().join("local"), etcfs.mnt().join("global")).expect("rename");
            assert_eq!(state(&target), before);
            let shown = fs::metadata(etcfs.mnt().join("global")).expect("stat");
            assert_eq!(shown.mtime_nsec(), 987_654_321);
            assert_eq!(shown.mode() & 0o7777, 0o6771);
            assert_eq!(fs::read_to_string(&target).expect("read"), "content");
        });
    }
}

#[test]
fn an_acl_that_the_target_directory_hands_down_is_not_taken() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            run(Command::new("setfacl")
                .args(["-d", "-m", "u:1234:rwx"])
                .arg(etcfs.global()))
            .expect("setfacl");
            let beneath = etcfs.local().join("local");
            fs::write(&beneath, "x").expect("write");
            fs::set_permissions(&beneath, fs::Permissions::from_mode(0o640)).expect("chmod");
            let before = state(&beneath);
            fs::rename(etcfs.mnt().join("local"), etcfs.mnt().join("global")).expect("rename");
            assert_eq!(state(&etcfs.global().join("global")), before);
        });
    }
}

#[test]
fn a_symlinks_owner_times_and_attributes_move_along() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            let beneath = etcfs.local().join("local");
            std::os::unix::fs::symlink("nowhere", &beneath).expect("symlink");
            std::os::unix::fs::lchown(&beneath, Some(1000), Some(1001)).expect("lchown");
            rustix::fs::lsetxattr(&beneath, "trusted.note", b"x", XattrFlags::empty())
                .expect("lsetxattr");
            set_times(&beneath);
            let before = state(&beneath);
            fs::rename(etcfs.mnt().join("local"), etcfs.mnt().join("global")).expect("rename");
            let after = state(&etcfs.global().join("global"));
            // Reading the link for the copy may count as an access.
            let before = State {
                atime: after.atime,
                ..before
            };
            assert_eq!(after, before);
        });
    }
}

#[test]
fn b33_holes_stay_holes() {
    for sides in EVERYWHERE {
        on(sides, move |etcfs| {
            // 3 GiB, of which three pieces are data: more than 32 bits of offset, and an end that is a hole.
            let beneath = etcfs.local().join("local");
            let file = fs::File::create(&beneath).expect("create");
            let pieces = [0, (1 << 20) + 5, (2 << 30) + 77];
            for at in pieces {
                file.write_all_at(&[9; 5000], at).expect("write");
            }
            file.set_len((3 << 30) + 1).expect("set_len");
            file.sync_all().expect("fsync");
            let before = file.metadata().expect("stat");
            fs::rename(etcfs.mnt().join("local"), etcfs.mnt().join("global")).expect("rename");
            let copy = fs::File::open(etcfs.global().join("global")).expect("open");
            let after = copy.metadata().expect("stat");
            assert_eq!(after.size(), before.size());
            assert!(
                after.blocks() <= 2 * before.blocks() + 64,
                "{} blocks became {}",
                before.blocks(),
                after.blocks()
            );
            for at in pieces {
                let mut data = [1; 5002];
                copy.read_exact_at(&mut data, at.saturating_sub(1))
                    .expect("read");
                let skip = usize::from(at > 0);
                assert!(data[skip..skip + 5000].iter().all(|b| *b == 9));
                assert!(at == 0 || data[0] == 0);
            }
        });
    }
}

#[test]
fn other_hard_links_go_on_naming_what_they_named() {
    for sides in [
        Sides::Same(Lower::Tmpfs),
        Sides::Apart(Lower::Tmpfs, Lower::Disk),
    ] {
        on(sides, move |etcfs| {
            let name = |n: &str| etcfs.mnt().join(n);
            fs::write(name("local"), "x").expect("write");
            fs::hard_link(name("local"), name("other")).expect("link");
            fs::rename(name("local"), name("global")).expect("rename");
            assert_eq!(fs::read_to_string(name("other")).expect("read"), "x");
            assert_eq!(fs::read_to_string(name("global")).expect("read"), "x");
            let links = fs::metadata(etcfs.global().join("global"))
                .expect("stat")
                .nlink();
            // One inode cannot be on two file systems.
            assert_eq!(
                links,
                if matches!(sides, Sides::Same(_)) {
                    2
                } else {
                    1
                }
            );
        });
    }
}

#[test]
fn two_names_of_one_inode_are_left_alone() {
    on(Sides::Same(Lower::Tmpfs), |etcfs| {
        fs::write(etcfs.local().join("local"), "x").expect("write");
        fs::hard_link(etcfs.local().join("local"), etcfs.global().join("global")).expect("link");
        fs::rename(etcfs.mnt().join("local"), etcfs.mnt().join("global")).expect("rename");
        assert!(etcfs.local().join("local").exists(), "as rename(2) says");
    });
}
