//! What has a name in a sticky directory at the moment of removing or renaming decides, not what had it when the kernel
//! looked.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, User, as_user, private};

/// How long each race runs. A daemon that removed and renamed with root's rights lost each of
/// them within 20 ms.
const RACE: Duration = Duration::from_millis(700);

/// What uid 1000 does to the name `n`.
#[derive(Clone, Copy, Debug)]
enum Act {
    Unlink,
    Rename,
    /// To the other side, on one file system or two.
    Across,
}

/// Where `file` is, whatever its name.
fn place(file: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("readlink")
}

/// Somebody else exchanges two names of a sticky directory all the time, the one of a file of uid 2000's, the other of one
/// of uid 1000's, who removes or renames the one name through a mount: `shown` is the directory there, `beneath` the same
/// beneath the mount, and `swapper` by the way that the exchange takes. `to`: where uid 1000 renames to.
fn race(act: Act, shown: &Path, beneath: &Path, swapper: &Path, to: &Path) {
    let theirs = beneath.join("theirs");
    fs::write(&theirs, "uid 2000's").expect("write");
    chown(&theirs, Some(2000), Some(2000)).expect("chown");
    let file = rustix::fs::open(&theirs, OFlags::PATH, Mode::empty()).expect("open");
    let stop = AtomicBool::new(false);
    let (mut done, mut lost) = (0, None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (swapper.join("n"), swapper.join("theirs"));
            while !stop.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            }
        });
        as_user(&User::plain(1000), || {
            let began = Instant::now();
            while began.elapsed() < RACE && lost.is_none() {
                let n = shown.join("n");
                let result = match act {
                    Act::Unlink => fs::remove_file(&n),
                    Act::Rename | Act::Across => fs::rename(&n, to.join("n")),
                };
                done += usize::from(result.is_ok());
                let place = place(&file);
                if place != beneath.join("n") && place != beneath.join("theirs") {
                    lost = Some(began.elapsed());
                }
                // Whichever name is free gets a file of uid 1000's.
                for name in ["n", "theirs"] {
                    let open = fs::OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .open(beneath.join(name));
                    drop(open);
                }
            }
        });
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        lost,
        None,
        "{act:?} took uid 2000's file, now {:?}",
        place(&file)
    );
    eprintln!("{act:?}: {done} times done");
    for name in ["n", "theirs"] {
        let _ = fs::remove_file(beneath.join(name));
    }
}

/// The sides on one file system or two, a sticky directory, and directories of uid 1000's on either side.
fn made(env: &Env, apart: bool) -> Bases {
    let bases = Bases::new(env, Lower::Tmpfs);
    if apart {
        let mounted = Lower::Tmpfs.mount(env, &bases.global());
        mounted.unwrap_or_else(|e| panic!("{e}"));
    }
    for (dir, owner, mode) in [
        (bases.local().join("sticky"), 0, 0o1777),
        (bases.global().join("gsticky"), 0, 0o1777),
        (bases.local().join("own"), 1000, 0o755),
        (bases.local().join("gdir"), 1000, 0o755),
        (bases.global().join("gdir"), 1000, 0o755),
    ] {
        fs::create_dir(&dir).expect("mkdir");
        chown(&dir, Some(owner), Some(owner)).expect("chown");
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    bases
}

fn opts() -> Opts {
    Opts {
        config: vec!["add_global /gdir".into(), "add_global /gsticky".into()],
        ..Opts::default()
    }
}

#[test]
fn names_that_are_exchanged_beneath_the_mount_lead_to_nobody_elses_file() {
    for apart in [false, true] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::serve(env, made(env, apart), opts());
            let (mnt, beneath) = (etcfs.mnt(), etcfs.local().join("sticky"));
            for (act, to) in [
                (Act::Unlink, "own"),
                (Act::Rename, "own"),
                (Act::Across, "gdir"),
            ] {
                race(act, &mnt.join("sticky"), &beneath, &beneath, &mnt.join(to));
            }
        });
    }
}

#[test]
fn names_that_are_exchanged_through_another_stratum_lead_to_nobody_elses_file() {
    for apart in [false, true] {
        private(DEADLINE, move |env| {
            let bases = made(env, apart);
            let other = bases.second(env, "other");
            let etcfs = Etcfs::serve(env, bases, opts());
            let other = Etcfs::serve(env, other, opts());
            let mnt = etcfs.mnt();
            for (act, to) in [
                (Act::Unlink, "gdir"),
                (Act::Rename, "gdir"),
                (Act::Across, "own"),
            ] {
                let shown = mnt.join("gsticky");
                let swapper = other.mnt().join("gsticky");
                let beneath = etcfs.global().join("gsticky");
                race(act, &shown, &beneath, &swapper, &mnt.join(to));
            }
        });
    }
}
