//! Objects of every kind, through all that can be done to them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use crate::harness::{self, Pair, User};
use crate::{every_way, rdwr};

#[test]
fn every_kind_of_object_is_made_changed_moved_and_removed_as_natively() {
    every_way(|etcfs| {
        let mut pair = Pair::of(etcfs);
        for user in [User::plain(0), User::plain(1000)] {
            let uid = user.uid;
            let dir = format!("by-{uid}");
            let _ = pair.same("mkdir", |root| {
                fs::create_dir(root.join(&dir)).map_err(harness::errno)?;
                let all = fs::Permissions::from_mode(0o2777);
                fs::set_permissions(root.join(&dir), all).map_err(harness::errno)
            });
            let outcomes = pair.each_as(&user, |root| objects(&root.join(&dir)));
            for (what, outcome) in outcomes {
                assert!(outcome.is_ok(), "{what} as {uid}, natively: {outcome:?}");
            }
        }
        pair.same_trees();
        pair.finish();
    });
}

/// A row of calls on every kind of object below `dir`.
fn objects(dir: &Path) -> Vec<(String, rustix::io::Result<String>)> {
    use rustix::fs::{
        CWD, FileType, chmodat, linkat, mkdirat, mknodat, openat, renameat, unlinkat,
    };
    let mut all = Vec::new();
    let mut row = |what: &str, outcome: rustix::io::Result<String>| {
        all.push((what.to_owned(), outcome));
    };
    let at = |name: &str| dir.join(name);
    let done = |()| String::new();
    let mode = Mode::from_raw_mode(0o640);
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    row(
        "create",
        openat(CWD, at("file"), create, mode).map(|_| String::new()),
    );
    row(
        "mkdir",
        mkdirat(CWD, at("sub"), Mode::from_raw_mode(0o750)).map(done),
    );
    row(
        "mkfifo",
        mknodat(CWD, at("fifo"), FileType::Fifo, mode, 0).map(done),
    );
    row(
        "symlink",
        rustix::fs::symlinkat("file", CWD, at("sym")).map(done),
    );
    row(
        "link",
        linkat(CWD, at("file"), CWD, at("hard"), AtFlags::empty()).map(done),
    );
    for name in ["file", "sub", "fifo"] {
        let mode = Mode::from_raw_mode(0o711);
        row(
            "chmod",
            chmodat(CWD, at(name), mode, AtFlags::empty()).map(done),
        );
        let value = rustix::fs::setxattr(at(name), "user.mine", b"value", XattrFlags::CREATE);
        // tmpfs and ramfs know user attributes from Linux 6.6 on, or never; natively the answer is the same.
        row("setxattr", value.map(done).or_else(|e| Ok(e.to_string())));
        let mut space = [0; 64];
        let got = rustix::fs::getxattr(at(name), "user.mine", &mut space[..]);
        row(
            "getxattr",
            got.map(|n| n.to_string()).or_else(|e| Ok(e.to_string())),
        );
    }
    let time = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 7,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    for name in ["file", "sub", "fifo", "sym"] {
        let set = rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW);
        row("utimens", set.map(done));
        let own = rustix::fs::chownat(CWD, at(name), None, None, AtFlags::SYMLINK_NOFOLLOW);
        row("chown", own.map(done));
    }
    row(
        "readlink",
        rustix::fs::readlinkat(CWD, at("sym"), Vec::new()).map(|l| format!("{l:?}")),
    );
    row(
        "rename",
        renameat(CWD, at("file"), CWD, at("sub/moved")).map(done),
    );
    row(
        "rename over",
        renameat(CWD, at("sub/moved"), CWD, at("fifo")).map(done),
    );
    row(
        "rename a directory",
        renameat(CWD, at("sub"), CWD, at("sub2")).map(done),
    );
    let truncated = rdwr(&at("hard"));
    row(
        "truncate",
        rustix::fs::ftruncate(&truncated, 5000).map(done),
    );
    drop(truncated);
    row(
        "mkdir",
        mkdirat(CWD, at("gone"), Mode::from_raw_mode(0o700)).map(done),
    );
    row(
        "rmdir",
        unlinkat(CWD, at("gone"), AtFlags::REMOVEDIR).map(done),
    );
    row(
        "unlink",
        unlinkat(CWD, at("fifo"), AtFlags::empty()).map(done),
    );
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    row("list", Ok(format!("{names:?}")));
    all
}
