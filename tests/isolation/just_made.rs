//! Somebody who may write to a directory puts something else on the name of what is just being made there.
//!
//! A socket is bound to the inode that MKNOD answers. With a daemon that answers what it finds under the name, root's
//! listener was bound to the user's own socket file 4 times of 2900 in [`RACE`], for all who may connect to that one.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, fstat, mknodat, openat, renameat_with,
    unlinkat,
};

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, User, as_user, private};

const USER: u32 = 1000;
const RACE: Duration = Duration::from_secs(2);

/// True if `name` is a file of the user's and somebody listens at it.
fn is_listened_at(dir: &OwnedFd, name: &str) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(fd) = openat(dir, name, flags, Mode::empty()) else {
        return false;
    };
    let of_the_user = fstat(&fd).is_ok_and(|stat| stat.st_uid == USER);
    of_the_user && UnixStream::connect(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).is_ok()
}

fn directory(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).expect("open the directory")
}

#[test]
fn a_listener_is_never_bound_to_a_socket_file_of_somebody_else() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let (below, above) = (etcfs.local().join("run"), etcfs.mnt().join("run"));
        fs::create_dir(&below).expect("mkdir");
        fs::set_permissions(&below, fs::Permissions::from_mode(0o755)).expect("chmod");
        chown(&below, Some(USER), Some(USER)).expect("chown");
        let user = User::plain(USER);
        let stop = AtomicBool::new(false);
        let (bound, stolen) = std::thread::scope(|scope| {
            scope.spawn(|| {
                as_user(&user, || {
                    let dir = directory(&below);
                    while !stop.load(Ordering::Relaxed) {
                        let _ = renameat_with(&dir, "s", &dir, "bait", RenameFlags::EXCHANGE);
                    }
                });
            });
            let (dir, mount) = (directory(&below), directory(&above));
            let (mut bound, mut stolen) = (0, 0);
            let end = Instant::now() + RACE;
            while Instant::now() < end {
                for name in ["s", "bait"] {
                    let _ = unlinkat(&dir, name, AtFlags::empty());
                }
                let mode = Mode::from_raw_mode(0o777);
                mknodat(&dir, "bait", FileType::Socket, mode, 0).expect("mknod");
                let owner = rustix::fs::Uid::from_raw(USER);
                let chowned =
                    rustix::fs::chownat(&dir, "bait", Some(owner), None, AtFlags::empty());
                if chowned.is_err() {
                    continue;
                }
                if let Ok(_listener) = UnixListener::bind(above.join("s")) {
                    bound += 1;
                    stolen += usize::from(["s", "bait"].iter().any(|n| is_listened_at(&mount, n)));
                }
            }
            stop.store(true, Ordering::Relaxed);
            (bound, stolen)
        });
        eprintln!("{bound} listeners, {stolen} of them at the user's file");
        assert_eq!(stolen, 0, "of {bound} listeners");
        assert!(bound > 20, "{bound} listeners");
    });
}
