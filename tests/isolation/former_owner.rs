//! A user keeps a descriptor of what root takes over from him: beneath the mount, through another stratum's mount or through
//! the same one. What he then tries with it ends as on the native file system, although the kernel's inode of the mount
//! may still say for a tick that it is his. Each act is tried on an object of its own, at once after the taking over.
//!
//! A daemon that acts as root for whom the kernel has let pass answered 112 of the acts of one run wrongly.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, XattrFlags};
use rustix::io::{Errno, Result};

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, User, acl, as_user, errno, private};

const USER: u32 = 1000;

/// What is tried through the descriptor's name in `/proc`; the directory beside is the user's own.
type Act = fn(&Path, &Path) -> Result<()>;

/// `user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::r-x`.
const LIST: [(u16, u16, u32); 5] = [
    (0x01, 7, u32::MAX),
    (0x02, 7, USER),
    (0x04, 5, u32::MAX),
    (0x10, 7, u32::MAX),
    (0x20, 5, u32::MAX),
];

fn times(nsec: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: 1,
        tv_nsec: nsec,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn chmod(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
}

fn make(path: PathBuf) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map(drop)
}

const ON_BOTH: &[(&str, Act)] = &[
    ("chmod 6777", |at, _| chmod(at, 0o6777)),
    ("chmod 0777", |at, _| chmod(at, 0o777)),
    ("an access list", |at, _| {
        rustix::fs::setxattr(
            at,
            "system.posix_acl_access",
            &acl(&LIST),
            XattrFlags::empty(),
        )
    }),
    ("an attribute", |at, _| {
        rustix::fs::setxattr(at, "user.k", b"v", XattrFlags::empty())
    }),
    ("reading an attribute", |at, _| {
        rustix::fs::getxattr(at, "user.secret", &mut [0_u8; 64][..]).map(drop)
    }),
    ("removing an attribute", |at, _| {
        rustix::fs::removexattr(at, "user.secret")
    }),
    ("times", |at, _| {
        rustix::fs::utimensat(CWD, at, &times(0), AtFlags::empty())
    }),
    ("times of now", |at, _| {
        rustix::fs::utimensat(CWD, at, &times(UTIME_NOW), AtFlags::empty())
    }),
    ("chgrp", |at, _| {
        let group = Some(Gid::from_raw(USER));
        rustix::fs::chownat(CWD, at, None, group, AtFlags::empty())
    }),
    ("chown to nobody else", |at, _| {
        rustix::fs::chownat(CWD, at, None, None, AtFlags::empty())
    }),
];

const ON_FILES: &[(&str, Act)] = &[
    ("link", |at, own| {
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, at, CWD, own.join("stolen"), follow)
    }),
    ("truncate", |at, _| {
        let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes()).expect("no NUL");
        #[allow(unsafe_code)]
        // SAFETY: a C string and an integer.
        match unsafe { libc::truncate(path.as_ptr(), 1) } {
            0 => Ok(()),
            _ => Err(errno(std::io::Error::last_os_error())),
        }
    }),
];

const ON_DIRECTORIES: &[(&str, Act)] = &[
    ("a default list", |at, _| {
        rustix::fs::setxattr(
            at,
            "system.posix_acl_default",
            &acl(&LIST),
            XattrFlags::empty(),
        )
    }),
    ("making a file", |at, _| make(at.join("new"))),
    ("making a directory", |at, _| {
        rustix::fs::mkdir(at.join("new"), Mode::RWXU)
    }),
    ("making a symlink", |at, _| {
        rustix::fs::symlink("/", at.join("new"))
    }),
    ("a nameless file", |at, _| {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        rustix::fs::open(at, flags, Mode::RUSR).map(drop)
    }),
    ("removing", |at, _| rustix::fs::unlink(at.join("inside"))),
    ("carrying off", |at, own| {
        rustix::fs::rename(at.join("inside"), own.join("stolen"))
    }),
    ("bringing in", |at, own| {
        make(own.join("mine"))?;
        rustix::fs::rename(own.join("mine"), at.join("inside"))
    }),
];

/// How root and the user reach the same directory.
struct Ways {
    root: PathBuf,
    user: PathBuf,
}

impl Ways {
    fn both(dir: &Path) -> Ways {
        Ways {
            root: dir.to_owned(),
            user: dir.to_owned(),
        }
    }
}

/// Root takes over an object that the user has open with `flags`, and the user tries `act` at once.
fn tried(ways: &Ways, is_dir: bool, flags: OFlags, act: Act) -> Result<()> {
    let (at_root, own) = (ways.root.join("thing"), ways.root.join("own"));
    let _ = fs::remove_dir_all(&own);
    let _ = fs::remove_dir_all(&at_root).or_else(|_| fs::remove_file(&at_root));
    fs::create_dir(&own).expect("mkdir");
    chown(&own, Some(USER), Some(USER)).expect("chown");
    if is_dir {
        fs::create_dir(&at_root).expect("mkdir");
        fs::write(at_root.join("inside"), "root's").expect("write");
    } else {
        fs::write(&at_root, "#!/bin/sh\n").expect("write");
    }
    rustix::fs::setxattr(&at_root, "user.secret", b"s", XattrFlags::empty()).expect("setxattr");
    chown(&at_root, Some(USER), Some(USER)).expect("chown");
    let (opened, is_open) = channel();
    let (taken, is_taken) = channel();
    std::thread::scope(|scope| {
        let user = scope.spawn(move || {
            as_user(&User::plain(USER), move || {
                let path = ways.user.join("thing");
                let fd: OwnedFd = rustix::fs::open(&path, flags, Mode::empty()).expect("open");
                rustix::fs::fstat(&fd).expect("fstat");
                opened.send(()).expect("root listens");
                is_taken.recv().expect("root takes over");
                let at = PathBuf::from(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()));
                act(&at, &ways.user.join("own"))
            })
        });
        is_open.recv().expect("the user opens");
        chown(&at_root, Some(0), Some(0)).expect("chown");
        fs::set_permissions(&at_root, fs::Permissions::from_mode(0o700)).expect("chmod");
        taken.send(()).expect("the user waits");
        user.join().expect("the user")
    })
}

fn compare(wrong: &mut Vec<String>, what: &str, mount: &Ways, native: &Ways) {
    for (is_dir, own) in [(false, ON_FILES), (true, ON_DIRECTORIES)] {
        for flags in [OFlags::RDONLY, OFlags::PATH] {
            for (name, act) in ON_BOTH.iter().chain(own) {
                let right = tried(native, is_dir, flags | OFlags::CLOEXEC, *act);
                let answer = tried(mount, is_dir, flags | OFlags::CLOEXEC, *act);
                if answer != right {
                    wrong.push(format!(
                        "{what}: {name}, directory {is_dir}, {flags:?}: {answer:?}, natively {right:?}"
                    ));
                }
            }
        }
    }
}

fn on(env: &Env, lower: Lower, passthrough: bool) {
    let options = || Opts {
        lower,
        options: passthrough
            .then(|| "passthrough".to_owned())
            .into_iter()
            // What root does beneath counts at once.
            .chain(["cache=strict".to_owned()])
            .collect(),
        config: vec!["add_global /shared".to_owned()],
        ..Opts::default()
    };
    let bases = Bases::new(env, lower);
    fs::create_dir(bases.global().join("shared")).expect("mkdir");
    let second = bases.second(env, "second");
    let first = Etcfs::serve(env, bases.clone(), options());
    let other = Etcfs::serve(env, second, options());
    let native = Ways::both(&first.native());
    let mut wrong = Vec::new();
    let beneath = Ways {
        root: first.local(),
        user: first.mnt(),
    };
    compare(&mut wrong, "root beneath", &beneath, &native);
    let through_another = Ways {
        root: other.mnt().join("shared"),
        user: first.mnt().join("shared"),
    };
    compare(
        &mut wrong,
        "root through another stratum",
        &through_another,
        &native,
    );
    compare(
        &mut wrong,
        "root through the mount",
        &Ways::both(&first.mnt()),
        &native,
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // It does tell right from wrong.
    let chmod = ON_BOTH[0].1;
    assert_eq!(
        tried(&native, false, OFlags::RDONLY, chmod),
        Err(Errno::PERM)
    );
}

#[test]
fn a_former_owner_gets_on_tmpfs_what_natively_he_gets() {
    private(DEADLINE, |env| on(env, Lower::Tmpfs, false));
}

#[test]
fn a_former_owner_gets_on_ext4_what_natively_he_gets() {
    private(DEADLINE, |env| on(env, Lower::Ext4, false));
}

#[test]
fn a_former_owner_gets_with_passthrough_what_natively_he_gets() {
    private(DEADLINE, |env| on(env, Lower::Ext4, true));
}
