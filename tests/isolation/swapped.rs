//! Two names are exchanged over and over while a user opens, reads ACLs and reads links by these names: every answer is
//! that of the inode which the kernel has asked about, and never that of what has its name by then.
//!
//! A daemon that reads ACLs and links by name gave 1900 wrong answers in [`RACE`] with the exchanges beneath, 1300 with
//! those through another stratum and 60 with those through the same mount.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, XattrFlags, fstat, getxattr, openat, renameat_with,
    setxattr,
};
use rustix::io::{Errno, Result};

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, acl, as_user, private};

const RACE: Duration = Duration::from_millis(1500);
const USER: u32 = 1000;
const ACL: &str = "system.posix_acl_access";

/// `user::rw-, user:1000:rw-, group::---, mask::rw-, other::---`.
const FOR_THE_USER: [(u16, u16, u32); 5] = [
    (0x01, 6, u32::MAX),
    (0x02, 6, USER),
    (0x04, 0, u32::MAX),
    (0x10, 6, u32::MAX),
    (0x20, 0, u32::MAX),
];

/// Fills `dir`, which the user owns: a file of root's that the user may not read and one that an ACL lets the user read,
/// a link of root's and one of the user's.
fn fill(dir: &Path) {
    fs::create_dir_all(dir).expect("mkdir");
    for (name, text) in [("roots", "secret"), ("open", "free")] {
        fs::write(dir.join(name), text).expect("write");
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o640)).expect("chmod");
    }
    setxattr(
        dir.join("open"),
        ACL,
        &acl(&FOR_THE_USER),
        XattrFlags::empty(),
    )
    .expect("setfacl");
    symlink("target-of-roots", dir.join("link-roots")).expect("symlink");
    symlink("target-of-open", dir.join("link-open")).expect("symlink");
    std::os::unix::fs::lchown(dir.join("link-open"), Some(USER), Some(USER)).expect("lchown");
    chown(dir, Some(USER), Some(USER)).expect("chown");
}

/// What was seen in a race.
#[derive(Debug, Default)]
struct Seen {
    wrong: Vec<String>,
    right: usize,
}

impl Seen {
    fn note(&mut self, what: &str, result: Result<bool>) {
        match result {
            Ok(true) => self.right += 1,
            Ok(false) => self.wrong.push(what.to_owned()),
            // Another object had the name, or none was found by it twice in a row.
            Err(_) => {}
        }
    }
}

/// Opens and reads `name` once; `Ok(false)` if what was read is root's secret.
fn read_once(dir: &OwnedFd, name: &str) -> Result<bool> {
    let fd = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0; 16];
    let len = rustix::io::read(&fd, &mut text)?;
    Ok(&text[..len] != b"secret")
}

/// Pins `name` and compares its ACL with what its inode has: `open` (by number) has one, the other has none.
fn acl_once(dir: &OwnedFd, name: &str, open: u64) -> Result<bool> {
    let fd = openat(dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let has = fstat(&fd)?.st_ino == open;
    let mut value = [0; 128];
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match getxattr(path, ACL, &mut value[..]) {
        Ok(_) => Ok(has),
        Err(Errno::NODATA) => Ok(!has),
        Err(errno) => Err(errno),
    }
}

/// Pins the symlink `name` and compares where it leads with what its inode says.
fn link_once(dir: &OwnedFd, name: &str, roots: u64) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let is_roots = fstat(&fd)?.st_ino == roots;
    let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
    Ok((target.to_bytes() == b"target-of-roots") == is_roots)
}

/// Exchanges the files and the links in `at` while the user works in `dir`, both being the same directory.
fn race(dir: &Path, at: &Path, stop: &AtomicBool) -> Seen {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let number = |name: &str| {
        rustix::fs::statat(rustix::fs::CWD, dir.join(name), AtFlags::SYMLINK_NOFOLLOW)
            .expect("stat")
            .st_ino
    };
    let (open, roots) = (number("open"), number("link-roots"));
    let user = User::plain(USER);
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            as_user(&user, || {
                let at = rustix::fs::open(at, flags, Mode::empty()).expect("open");
                let mut swaps = 0;
                while !stop.load(Ordering::Relaxed) {
                    for (a, b) in [("roots", "open"), ("link-roots", "link-open")] {
                        swaps += usize::from(
                            renameat_with(&at, a, &at, b, RenameFlags::EXCHANGE).is_ok(),
                        );
                    }
                }
                swaps
            })
        });
        let seen = as_user(&user, || {
            let dir = rustix::fs::open(dir, flags, Mode::empty()).expect("open");
            let mut seen = Seen::default();
            let until = Instant::now() + RACE;
            while Instant::now() < until {
                for name in ["roots", "open"] {
                    seen.note("read root's file", read_once(&dir, name));
                    seen.note("another file's ACL", acl_once(&dir, name, open));
                }
                for name in ["link-roots", "link-open"] {
                    seen.note("another link's target", link_once(&dir, name, roots));
                }
            }
            seen
        });
        stop.store(true, Ordering::Relaxed);
        let swaps = swaps.join().expect("the exchanging thread");
        assert!(swaps > 100, "{swaps} exchanges");
        seen
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Beneath,
    OtherStratum,
    SameMount,
}

fn answers_stay_right(way: Way, options: &[&str]) {
    let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
    private(DEADLINE, move |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let other = bases.second(env, "other");
        for dir in ["local", "global"] {
            fill(&bases.local().join(dir));
            fill(&bases.global().join(dir));
        }
        let opts = |stratum: &str| Opts {
            stratum: stratum.to_owned(),
            options: options.clone(),
            config: vec!["add_global /global".into()],
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts("one"));
        let second = Etcfs::serve(env, other, opts("two"));
        let (dir, at) = match way {
            Way::Beneath => (etcfs.mnt().join("local"), etcfs.local().join("local")),
            Way::OtherStratum => (etcfs.mnt().join("global"), second.mnt().join("global")),
            Way::SameMount => (etcfs.mnt().join("local"), etcfs.mnt().join("local")),
        };
        let stop = AtomicBool::new(false);
        let seen = race(&dir, &at, &stop);
        let few: Vec<_> = seen.wrong.iter().take(5).collect();
        assert!(
            seen.wrong.is_empty(),
            "{way:?}: {} wrong answers, {} right ones; the first: {few:?}",
            seen.wrong.len(),
            seen.right
        );
        assert!(seen.right > 50, "{way:?}: {} right answers", seen.right);
    });
}

#[test]
fn names_exchanged_beneath_give_nobody_anothers_answer() {
    answers_stay_right(Way::Beneath, &[]);
    answers_stay_right(Way::Beneath, &["passthrough"]);
}

#[test]
fn names_exchanged_through_another_stratum_give_nobody_anothers_answer() {
    answers_stay_right(Way::OtherStratum, &[]);
    answers_stay_right(Way::OtherStratum, &["passthrough"]);
}

#[test]
fn names_exchanged_through_the_same_mount_give_nobody_anothers_answer() {
    answers_stay_right(Way::SameMount, &[]);
    answers_stay_right(Way::SameMount, &["passthrough"]);
}
