//! In a directory with the sticky bit nobody removes or carries off another's file, whatever has its name between the
//! kernel's check on the mount and the act: one user makes and removes its own file `x` over and over, through the mount and
//! beneath, another puts its own file on that name whenever it is free, and takes it back a moment later.
//!
//! A daemon that removes as root lost a file of the other in two of three runs of this length.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, renameat_with, statat};
use rustix::io::Errno;

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, private};

const RACE: Duration = Duration::from_millis(1500);

/// What user 1000 does in `dir` until told to stop.
fn makes_and_removes(dir: &Path, stop: &AtomicBool) {
    let (x, own) = (dir.join("x"), dir.join("own/x"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut carries = false;
    while !stop.load(Ordering::Relaxed) {
        let _ = rustix::fs::open(&x, flags, Mode::RUSR);
        carries = !carries;
        let _ = match carries {
            true => rustix::fs::rename(&x, &own),
            false => rustix::fs::unlink(&x),
        };
    }
}

/// The same user's other hand, beneath: it frees the name while the first one's removal is under way.
fn frees(dir: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = rustix::fs::unlink(dir.join("x"));
    }
}

/// What the other user does beneath; how often it had put its file there, and how often that was gone.
fn puts_and_takes_back(dir: &Path, until: Instant) -> (usize, usize) {
    let (file, x) = (dir.join("theirs"), dir.join("x"));
    let (mut put, mut stolen) = (0, 0);
    while Instant::now() < until {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::open(&file, flags, mode).expect("its own file");
        let ino = rustix::fs::fstat(&fd).expect("fstat").st_ino;
        match renameat_with(CWD, &file, CWD, &x, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => continue,
            other => other.expect("put it there"),
        }
        put += 1;
        for _ in 0..20 {
            let there = statat(CWD, &x, AtFlags::SYMLINK_NOFOLLOW);
            if there.map(|stat| stat.st_ino) != Ok(ino) {
                stolen += 1;
                break;
            }
        }
        let _ = rustix::fs::rename(&x, &file);
    }
    (put, stolen)
}

/// Stops the other party, also when this one fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn race(mount: &Path, beneath: &Path) -> (usize, usize) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let user = scope.spawn(|| as_user(&User::plain(1000), || makes_and_removes(mount, &stop)));
        scope.spawn(|| as_user(&User::plain(1000), || frees(beneath, &stop)));
        let ending = Ending(&stop);
        let until = Instant::now() + RACE;
        let seen = as_user(&User::plain(1001), || puts_and_takes_back(beneath, until));
        drop(ending);
        user.join().expect("the user");
        seen
    })
}

fn sticky(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).expect("chmod");
    fs::create_dir(dir.join("own")).expect("mkdir");
    chown(dir.join("own"), Some(1000), Some(1000)).expect("chown");
}

#[test]
fn nobody_takes_anothers_file_out_of_a_sticky_directory() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let second = bases.second(env, "second");
        for dir in [bases.local(), bases.global(), bases.native()] {
            sticky(&dir.join("tmp"));
        }
        let first = Etcfs::serve(env, bases.clone(), Opts::default());
        let other = Etcfs::serve(env, second, Opts::default());
        let ways = [
            ("natively", first.native(), first.native()),
            ("beneath", first.mnt(), first.local()),
        ];
        for (way, mount, beneath) in ways {
            let (put, stolen) = race(&mount.join("tmp"), &beneath.join("tmp"));
            assert!(put > 50, "{way}: {put} times");
            assert_eq!(stolen, 0, "{way}: of {put} times");
        }
        for etcfs in [&first, &other] {
            etcfs.write_config(&["add_global /tmp"]).expect("configure");
        }
        let (put, stolen) = race(&first.mnt().join("tmp"), &other.mnt().join("tmp"));
        assert!(put > 50, "through another stratum: {put} times");
        assert_eq!(stolen, 0, "through another stratum: of {put} times");
    });
}
