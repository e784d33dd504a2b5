//! Nothing is given an owner or a mode, or removed, under a name in a directory where others make names.

use std::ffi::CStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, RawDir, RenameFlags, SeekFrom, mknodat, renameat_with,
};

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, User, as_user, private};

/// How long each race runs. A daemon that went by names lost the first race after 0.2 to 0.7 s and the second one after
/// 0.15 s (two CPUs, one of them busy).
const RACE: Duration = Duration::from_secs(2);

/// A directory that belongs to uid 1000.
fn users_dir(path: &Path) {
    fs::create_dir_all(path).expect("mkdir");
    chown(path, Some(1000), Some(1000)).expect("chown");
}

/// Exchanges `bait` with whatever hidden name shows up in `dir`, as uid 1000 beneath the mount, until `stop`.
fn exchange(dir: &Path, bait: &CStr, stop: &AtomicBool) {
    as_user(&User::plain(1000), || {
        let dir = fs::File::open(dir).expect("open");
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        while !stop.load(Ordering::Relaxed) {
            rustix::fs::seek(&dir, SeekFrom::Start(0)).expect("seek");
            let mut entries = RawDir::new(&dir, &mut buffer);
            while let Some(Ok(entry)) = entries.next() {
                let name = entry.file_name();
                if name.to_bytes().starts_with(b".etcfs-hidden-") {
                    let _ = renameat_with(&dir, name, &dir, bait, RenameFlags::EXCHANGE);
                }
            }
        }
    });
}

/// Sides on two file systems.
fn apart(env: &Env) -> Bases {
    let bases = Bases::new(env, Lower::Tmpfs);
    Lower::Tmpfs
        .mount(env, &bases.global())
        .unwrap_or_else(|e| panic!("{e}"));
    bases
}

/// Holds what is at `path`, whatever its name becomes.
fn pin(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH, Mode::empty()).expect("open")
}

/// Its owner and mode.
fn owned(pinned: &OwnedFd) -> (u32, u32) {
    let stat = rustix::fs::fstat(pinned).expect("fstat");
    (stat.st_uid, stat.st_mode & 0o7777)
}

/// Fault: the copy of a FIFO was made under a hidden name, and what had that name a moment later got the FIFO's owner.
#[test]
fn a_fifo_that_changes_sides_gives_away_nothing_of_others() {
    private(DEADLINE, |env| {
        let bases = apart(env);
        let (local, global) = (bases.local().join("u"), bases.global().join("gdir"));
        users_dir(&local);
        users_dir(&global);
        fs::create_dir(bases.local().join("gdir")).expect("mkdir");
        chown(bases.local().join("gdir"), Some(1000), Some(1000)).expect("chown");
        let secret = global.join("secret");
        fs::write(&secret, "root's").expect("write");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
        let secret = pin(&secret);
        let opts = Opts {
            config: vec!["add_global /gdir".into()],
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts);
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        let mut moved = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&global, c"secret", &stop));
            as_user(&User::plain(1000), || {
                let (from, to) = (etcfs.mnt().join("u/fifo"), etcfs.mnt().join("gdir/fifo"));
                while began.elapsed() < RACE {
                    let _ = fs::remove_file(&from);
                    if mknodat(CWD, &from, FileType::Fifo, Mode::RWXU, 0).is_err() {
                        break;
                    }
                    moved += usize::from(fs::rename(&from, &to).is_ok());
                    if owned(&secret) != (0, 0o600) {
                        break;
                    }
                    // Where the exchange came too late, the secret has the FIFO's name.
                    let there = global.join("fifo");
                    let ino = |stat: rustix::fs::Stat| stat.st_ino;
                    let is_secret =
                        rustix::fs::lstat(&there).map(ino) == rustix::fs::fstat(&secret).map(ino);
                    if is_secret {
                        let there = (CWD, &there, CWD, &global.join("secret"));
                        let _ = renameat_with(
                            there.0,
                            there.1,
                            there.2,
                            there.3,
                            RenameFlags::EXCHANGE,
                        );
                    }
                }
            });
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(owned(&secret), (0, 0o600), "after {:?}", began.elapsed());
        eprintln!("{moved} FIFOs moved");
        assert!(moved > 0, "the race was one");
    });
}

/// Fault: the directory that an override makes was given to root under its hidden name, and so was what another user had
/// in the directory.
#[test]
fn a_directory_override_takes_nothing_away_from_others() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let dir = bases.local().join("u");
        users_dir(&dir);
        let theirs = dir.join("theirs");
        fs::create_dir(&theirs).expect("mkdir");
        chown(&theirs, Some(2000), Some(2000)).expect("chown");
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o700)).expect("chmod");
        let theirs = pin(&theirs);
        let overrides = (0..4000).map(|n| format!("add_override directory /u/d{n} x"));
        let opts = Opts {
            config: vec![overrides.collect::<Vec<_>>().join("\n")],
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts);
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&dir, c"theirs", &stop));
            for n in 0..4000 {
                let _ = fs::metadata(etcfs.mnt().join(format!("u/d{n}")));
                if owned(&theirs) != (2000, 0o700) || began.elapsed() > RACE {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(owned(&theirs), (2000, 0o700), "after {:?}", began.elapsed());
        let made = (0..4000).filter(|n| dir.join(format!("d{n}")).is_dir());
        assert!(made.count() > 0, "the race was one");
    });
}

/// What a killed daemon leaves is recognised through its descriptor; what users have under hidden names is theirs.
#[test]
fn a_sweep_in_a_users_directory_removes_the_daemons_places_alone() {
    private(DEADLINE, |env| {
        let dir = env.dir("users");
        let hidden = |n: u32| dir.join(format!(".etcfs-hidden-{n:016x}"));
        // A place with an object in it.
        fs::create_dir(hidden(1)).expect("mkdir");
        fs::set_permissions(hidden(1), fs::Permissions::from_mode(0o700)).expect("chmod");
        fs::write(hidden(1).join(".etcfs-hidden-5"), "left").expect("write");
        // A private directory of root's that the user has given such a name.
        fs::create_dir(hidden(2)).expect("mkdir");
        fs::set_permissions(hidden(2), fs::Permissions::from_mode(0o700)).expect("chmod");
        fs::write(hidden(2).join("root's"), "kept").expect("write");
        // A directory, a file and a link of the user's.
        fs::create_dir(hidden(3)).expect("mkdir");
        chown(hidden(3), Some(1000), Some(1000)).expect("chown");
        fs::write(hidden(4), "theirs").expect("write");
        std::os::unix::fs::symlink("theirs", hidden(5)).expect("symlink");
        users_dir(&dir);
        let fd = fs::File::open(&dir).expect("open");
        assert_eq!(etcfs::fs::staging::sweep::sweep(fd.as_fd(), -1), Ok(true));
        let left = (1..=5).filter(|&n| fs::symlink_metadata(hidden(n)).is_ok());
        assert_eq!(left.collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert!(hidden(2).join("root's").exists());
    });
}
