//! B24: an ordinary user owns a directory and exchanges what is in it, beneath the mount and through it, for symlinks
//! that lead out of the tree, while root works there. Root's own calls follow no symlink, so whatever changes outside
//! was changed by the daemon.

use super::harness::{
    Bases, CONFIG, Etcfs, Lower, Opts, User, as_user, differences, private, snapshot,
};
use rustix::fd::AsFd;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timestamps, Uid, XattrFlags, chmodat,
    chownat, linkat, mkdirat, mknodat, open, openat, renameat, renameat_with, symlinkat, unlinkat,
    utimensat,
};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(150);

/// How long each race lasts.
const RACE: Duration = Duration::from_secs(6);

const USER: u32 = 1000;

/// Makes `dir/x`, a directory with a file in it, `dir/f`, a file, and for both a symlink to the same names outside, all
/// of them the user's.
fn bait(dir: &Path, outside: &Path, relative: &Path) {
    fs::create_dir_all(dir.join("x")).expect("mkdir");
    fs::write(dir.join("x/file"), "inside").expect("write");
    fs::write(dir.join("f"), "inside").expect("write");
    symlink(outside.join("x"), dir.join("x.link")).expect("symlink");
    symlink(relative.join("f"), dir.join("f.link")).expect("symlink");
    for name in ["", "x", "x/file", "f"] {
        chown(dir.join(name), Some(USER), Some(USER)).expect("chown");
    }
}

/// Exchanges each object for its symlink, over and over.
fn attack(dir: &Path, stop: &AtomicBool) -> usize {
    let dir = open(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open");
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        for (a, b) in [("x", "x.link"), ("f", "f.link")] {
            if renameat_with(&dir, a, &dir, b, RenameFlags::EXCHANGE).is_ok() {
                swaps += 1;
            }
        }
    }
    swaps
}

/// What root does, by descriptors and without following symlinks. Most of it fails at any one moment.
fn work(mnt: &Path, dir: &str, stop: &AtomicBool) -> usize {
    let base = open(
        mnt.join(dir),
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .expect("open");
    let nofollow = OFlags::NOFOLLOW;
    let no = AtFlags::SYMLINK_NOFOLLOW;
    let times = || Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
    };
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut count = |worked: bool| done += usize::from(worked);
        let write = OFlags::WRONLY | OFlags::TRUNC | nofollow;
        if let Ok(file) = openat(&base, "f", write, Mode::empty()) {
            count(rustix::io::write(&file, b"root was here").is_ok());
            count(rustix::fs::ftruncate(&file, 3).is_ok());
        }
        count(
            chownat(
                &base,
                "f",
                Some(Uid::from_raw(7)),
                Some(Gid::from_raw(7)),
                no,
            )
            .is_ok(),
        );
        count(utimensat(&base, "f", &times(), no).is_ok());
        count(linkat(&base, "f", &base, "hard", AtFlags::empty()).is_ok());
        let _ = unlinkat(&base, "hard", AtFlags::empty());
        count(renameat(&base, "f", &base, "g").is_ok());
        let _ = renameat(&base, "g", &base, "f");
        count(renameat(&base, "f", &base, "global").is_ok());
        let _ = renameat(&base, "global", &base, "f");
        // A pinned file, changed without its name.
        if let Ok(file) = openat(&base, "f", OFlags::RDONLY | nofollow, Mode::empty()) {
            count(rustix::fs::fchmod(&file, Mode::from_raw_mode(0o4777)).is_ok());
            count(rustix::fs::fsetxattr(&file, "user.root", b"x", XattrFlags::empty()).is_ok());
            count(rustix::fs::fchown(&file, Some(Uid::from_raw(8)), None).is_ok());
        }
        let Ok(sub) = openat(
            &base,
            "x",
            OFlags::RDONLY | OFlags::DIRECTORY | nofollow,
            Mode::empty(),
        ) else {
            continue;
        };
        let sub = sub.as_fd();
        let create = OFlags::CREATE | OFlags::WRONLY | nofollow;
        if let Ok(file) = openat(sub, "new", create, Mode::from_raw_mode(0o666)) {
            count(rustix::io::write(&file, b"root was here").is_ok());
        }
        count(chmodat(sub, "file", Mode::from_raw_mode(0o4777), AtFlags::empty()).is_ok());
        count(mkdirat(sub, "dir", Mode::RWXU).is_ok());
        count(symlinkat("nowhere", sub, "link").is_ok());
        count(mknodat(sub, "fifo", FileType::Fifo, Mode::RWXU, 0).is_ok());
        count(renameat(sub, "new", &base, "moved").is_ok());
        let _ = renameat(&base, "moved", sub, "new");
        // Names with rules of their own, below a directory that is exchanged.
        count(openat(sub, "global", create, Mode::from_raw_mode(0o666)).is_ok());
        count(rustix::fs::statat(sub, "enforced", no).is_ok());
        count(rustix::fs::statat(sub, "enforced-dir", no).is_ok());
        count(rustix::fs::statat(sub, "file", no).is_ok());
        for name in ["new", "link", "fifo", "global"] {
            let _ = unlinkat(sub, name, AtFlags::empty());
        }
        let _ = unlinkat(sub, "dir", AtFlags::REMOVEDIR);
        let mut buffer = [std::mem::MaybeUninit::<u8>::uninit(); 4096];
        let mut entries = rustix::fs::RawDir::new(sub, &mut buffer);
        while let Some(Ok(_)) = entries.next() {}
    }
    done
}

/// Runs one race: the user's `attack` on the directories `targets` against root's work in `dir` of the mount.
fn race(through_mount: bool, dir: &'static str) {
    private(DEADLINE, move |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        // Beside the two lower directories, on the same file system, so that nothing but the daemon's care protects it.
        let beside = bases.local().parent().expect("a parent").to_owned();
        let outside = beside.join("outside");
        fs::create_dir_all(outside.join("x/enforced-dir")).expect("mkdir");
        fs::write(outside.join("x/file"), "victim").expect("write");
        fs::write(outside.join("x/enforced"), "victim").expect("write");
        fs::write(outside.join("x/conf"), "victim\n").expect("write");
        fs::write(outside.join("f"), "victim").expect("write");
        let inject = env.scratch().join("inject");
        fs::write(&inject, "# injected\n").expect("write");
        for side in [bases.local(), bases.global()] {
            bait(&side.join(dir), &outside, Path::new("../../outside"));
        }
        if dir.contains('/') {
            chown(bases.local().join("gdir"), Some(USER), Some(USER)).expect("chown");
        }
        let etcfs = Etcfs::serve(
            env,
            bases,
            Opts {
                config: vec![
                    "add_global /gdir".into(),
                    format!("add_global /{dir}/global"),
                    format!("add_global /{dir}/x/global"),
                    format!("add_override symlink /{dir}/x/enforced target"),
                    format!("add_override directory /{dir}/x/enforced-dir/sub x"),
                    format!("add_override inject /{dir}/x/conf {}", inject.display()),
                    format!("add_override inject /{dir}/f {}", inject.display()),
                ],
                ..Opts::default()
            },
        );
        let before = snapshot(&outside, &[]);
        let (stop, swaps, works) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let targets: Vec<PathBuf> = if through_mount {
            vec![etcfs.mnt().join(dir)]
        } else {
            vec![etcfs.local().join(dir), etcfs.global().join(dir)]
        };
        std::thread::scope(|scope| {
            for target in &targets {
                let (stop, swaps) = (&stop, &swaps);
                scope.spawn(move || {
                    let made = as_user(&User::plain(USER), || attack(target, stop));
                    swaps.fetch_add(made, Ordering::Relaxed);
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    let made = work(&etcfs.mnt(), dir, &stop);
                    works.fetch_add(made, Ordering::Relaxed);
                });
            }
            let end = Instant::now() + RACE;
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let after = snapshot(&outside, &[]);
        assert_eq!(differences(&before, &after), Vec::<String>::new());
        let (swaps, works) = (swaps.into_inner(), works.into_inner());
        eprintln!("{swaps} exchanges, {works} successful calls of root's");
        assert!(swaps > 50 && works > 50, "{swaps} {works}");
        assert!(
            fs::read(etcfs.mnt().join(CONFIG)).is_ok(),
            "the daemon lives"
        );
    });
}

#[test]
fn b24_exchanges_beneath_the_mount_lead_the_daemon_nowhere() {
    race(false, "user");
}

#[test]
fn b24_exchanges_through_the_mount_lead_the_daemon_nowhere() {
    race(true, "user");
}

#[test]
fn b24_exchanges_in_a_global_directory_lead_the_daemon_nowhere() {
    race(false, "gdir/user");
}
