//! An inode number is used again: what a former owner still holds never leads to the new file.
//!
//! ext4 with inodes of 128 bytes has no birth time, and gives the lowest free number of a group: with a daemon that knew
//! inodes by their number there, each of these states led to the new file at once.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags, fchmod, fstat, linkat, mkdirat,
    openat, setxattr, statat, utimensat,
};
use rustix::io::{Errno, Result};

use crate::DEADLINE;
use crate::harness::{Bases, Entry, Etcfs, Lower, Opts, User, as_user, private, snapshot};

const USER: u32 = 1000;

/// Longer than the kernel may keep attributes.
const TICKS: Duration = Duration::from_millis(20);

/// What the former owner holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    Open,
    Pinned,
    Dir,
}

/// How what has the name goes.
#[derive(Debug, Clone, Copy)]
enum Gone {
    Beneath,
    ThroughOtherStratum,
}

/// Where the new object stands.
#[derive(Debug, Clone, Copy)]
enum New {
    UnderTheSameName,
    ElsewhereAndLookedUp,
}

fn number(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("stat").ino()
}

/// Makes objects of root's in `dir`, closed to others, until one has the number `ino`; `None` if none gets it. The other
/// stratum's daemon holds what was removed through it until the kernel has told it that nobody uses that any more.
fn reuse(dir: &Path, ino: u64, is_dir: bool, tries: usize) -> Option<PathBuf> {
    for n in 0..tries {
        if n >= 50 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let path = dir.join(format!("new{n}"));
        if is_dir {
            fs::create_dir(&path).expect("mkdir");
        } else {
            fs::write(&path, "root's").expect("write");
        }
        let mode = if is_dir { 0o700 } else { 0o600 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        if number(&path) == ino {
            if is_dir {
                fs::write(path.join("inside"), "root's").expect("write");
            }
            return Some(path);
        }
    }
    None
}

/// All that the user tries with what is held. Returns what worked and told something of an object that is not the user's.
fn attempts(fd: &OwnedFd, dir: &OwnedFd, held: Held) -> Vec<String> {
    let mut reached = Vec::new();
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut note = |what: &str, result: Result<()>| {
        if result.is_ok() {
            reached.push(what.to_owned());
        }
    };
    if fstat(fd).is_ok_and(|stat| stat.st_uid != USER) {
        note("fstat", Ok(()));
    }
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
        last_modification: Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
    };
    // On the file that is still the user's own these work, as natively; the caller compares the new one.
    let _ = fchmod(fd, Mode::from_raw_mode(0o777));
    let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o777));
    let _ = setxattr(&path, "user.reached", b"yes", XattrFlags::empty());
    let _ = utimensat(CWD, &path, &times, AtFlags::empty());
    let linked = linkat(CWD, &path, dir, "linked", AtFlags::SYMLINK_FOLLOW);
    if linked.is_ok() {
        let stat = statat(dir, "linked", AtFlags::SYMLINK_NOFOLLOW).expect("stat");
        note(
            "link",
            if stat.st_uid == USER {
                Err(Errno::PERM)
            } else {
                Ok(())
            },
        );
    }
    if held == Held::Dir {
        note("mkdir", mkdirat(fd, "made", Mode::RWXU));
        note(
            "stat inside",
            statat(fd, "inside", AtFlags::empty()).map(drop),
        );
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = openat(fd, ".", flags, Mode::empty())
            .and_then(rustix::fs::Dir::new)
            .map(|dir| dir.flatten().any(|e| e.file_name() == c"inside"));
        if listed == Ok(true) {
            note("list", Ok(()));
        }
    } else if let Ok(opened) = openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        let mut text = [0; 16];
        let len = rustix::io::read(&opened, &mut text).unwrap_or(0);
        if &text[..len] == b"root's" {
            note("open and read", Ok(()));
        }
    }
    reached
}

fn new_one_is_safe(env: &crate::harness::Env, held: Held, gone: Gone, new: New, options: &[&str]) {
    let bases = Bases::new(env, Lower::Ext4Small);
    let other = bases.second(env, "other");
    let global = bases.global();
    for dir in ["shared", "closed"] {
        fs::create_dir_all(global.join(dir)).expect("mkdir");
    }
    chown(global.join("shared"), Some(USER), Some(USER)).expect("chown");
    let opts = |stratum: &str| Opts {
        stratum: stratum.to_owned(),
        options: options.iter().map(|&o| o.to_owned()).collect(),
        config: vec!["add_global /shared".into(), "add_global /closed".into()],
        ..Opts::default()
    };
    let one = Etcfs::serve(env, bases, opts("one"));
    let two = Etcfs::serve(env, other, opts("two"));
    let what = format!("{held:?}, {gone:?}, {new:?}, {options:?}");

    let below = global.join("shared/old");
    match held {
        Held::Dir => fs::create_dir(&below).expect("mkdir"),
        _ => fs::write(&below, "the user's").expect("write"),
    }
    chown(&below, Some(USER), Some(USER)).expect("chown");
    let ino = number(&below);
    let flags = match held {
        Held::Open => OFlags::RDONLY,
        Held::Pinned => OFlags::PATH,
        Held::Dir => OFlags::PATH | OFlags::DIRECTORY,
    };
    let (shared, user) = (one.mnt().join("shared"), User::plain(USER));
    let (fd, dir) = as_user(&user, || {
        let open = |path: PathBuf, flags| {
            openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).expect("open")
        };
        (
            open(shared.join("old"), flags),
            open(shared.clone(), OFlags::PATH),
        )
    });
    let gone_from = match gone {
        Gone::Beneath => below.clone(),
        Gone::ThroughOtherStratum => two.mnt().join("shared/old"),
    };
    match held {
        Held::Dir => fs::remove_dir(gone_from).expect("rmdir"),
        _ => fs::remove_file(gone_from).expect("unlink"),
    }
    let tries = if held == Held::Open { 50 } else { 500 };
    let Some(made) = reuse(&global.join("closed"), ino, held == Held::Dir, tries) else {
        // What is held below keeps its number; natively it does, too.
        assert!(
            held != Held::Pinned,
            "{what}: the number was not used again"
        );
        return;
    };
    let made = match new {
        New::UnderTheSameName => {
            fs::rename(&made, &below).expect("rename");
            below
        }
        New::ElsewhereAndLookedUp => {
            let name = made.file_name().expect("a name");
            fs::symlink_metadata(one.mnt().join("closed").join(name)).expect("root looks");
            made
        }
    };
    std::thread::sleep(TICKS);
    let state = || -> (BTreeMap<PathBuf, Entry>, u64, i64) {
        let all = snapshot(made.parent().expect("a directory"), &["linked"]);
        let stat = fs::symlink_metadata(&made).expect("stat");
        (all, stat.nlink(), stat.ctime_nsec())
    };
    let before = state();
    let reached = as_user(&user, || attempts(&fd, &dir, held));
    assert_eq!(reached, Vec::<String>::new(), "{what}");
    let after = state();
    assert_eq!((before.1, before.2), (after.1, after.2), "{what}");
    assert_eq!(
        crate::harness::differences(&before.0, &after.0),
        Vec::<String>::new(),
        "{what}"
    );
}

fn each(held: Held) {
    for gone in [Gone::Beneath, Gone::ThroughOtherStratum] {
        for new in [New::UnderTheSameName, New::ElsewhereAndLookedUp] {
            for options in [&[][..], &["passthrough"]] {
                private(DEADLINE, move |env| {
                    new_one_is_safe(env, held, gone, new, options);
                });
            }
        }
    }
}

#[test]
fn an_open_file_never_leads_to_a_new_one_of_its_number() {
    each(Held::Open);
}

#[test]
fn a_pinned_file_never_leads_to_a_new_one_of_its_number() {
    each(Held::Pinned);
}

#[test]
fn a_directory_in_use_never_leads_to_a_new_one_of_its_number() {
    each(Held::Dir);
}

/// A ramfs has neither birth times nor file handles.
#[test]
fn what_nothing_tells_from_others_is_held_while_it_is_known() {
    private(DEADLINE, |env| {
        const FILES: usize = 20;
        let etcfs = Etcfs::start(
            env,
            Opts {
                lower: Lower::Ramfs,
                ..Opts::default()
            },
        );
        let held = || {
            let at = fs::read_dir(format!("/proc/{}/fd", etcfs.pid())).expect("descriptors");
            at.flatten()
                .filter_map(|fd| fs::read_link(fd.path()).ok())
                .filter(|to| to.to_string_lossy().contains("etc/held"))
                .count()
        };
        let file = |n: usize| etcfs.mnt().join(format!("held{n}"));
        for n in 0..FILES {
            fs::write(etcfs.local().join(format!("held{n}")), "text").expect("write");
            assert_eq!(fs::symlink_metadata(file(n)).expect("stat").len(), 4);
            fs::symlink_metadata(file(n)).expect("stat");
        }
        assert_eq!(held(), FILES);
        for n in 0..FILES {
            fs::remove_file(file(n)).expect("remove");
        }
        for _ in 0..500 {
            if held() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} are still held", held());
    });
}
