//! What is mounted covers what is served, whatever is renamed at that moment by the owner of a directory above.

use super::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, mounts, private};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the daemon is started. A daemon that walked the path for the base and again for the mount covered another
/// directory than the one it served within the first ten starts (0.3 s).
const STARTS: usize = 40;

#[test]
fn a_mount_covers_the_directory_that_it_serves() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let home = bases.mnt().parent().expect("above").join("home");
        let seen_below = bases.local().parent().expect("above").join("home");
        for name in ["one", "two"] {
            fs::create_dir_all(home.join(name).join("mnt")).expect("mkdir");
            fs::write(home.join(name).join("mnt/who"), name).expect("write");
        }
        for dir in [&home, &home.join("one"), &home.join("two")] {
            std::os::unix::fs::chown(dir, Some(1000), Some(1000)).expect("chown");
        }
        let stop = AtomicBool::new(false);
        let pause = AtomicBool::new(false);
        let paused = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                as_user(&User::plain(1000), || {
                    while !stop.load(Ordering::Acquire) {
                        if pause.load(Ordering::Acquire) {
                            paused.store(true, Ordering::Release);
                            std::thread::sleep(Duration::from_millis(1));
                            continue;
                        }
                        paused.store(false, Ordering::Release);
                        let (one, two) = (home.join("one"), home.join("two"));
                        renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE)
                            .expect("the owner swaps");
                    }
                });
            });
            let checked = std::panic::catch_unwind(|| {
                for _ in 0..STARTS {
                    pause.store(false, Ordering::Release);
                    start_and_look(&bases, &home, &seen_below, &pause, &paused);
                }
            });
            stop.store(true, Ordering::Release);
            if let Err(panic) = checked {
                std::panic::resume_unwind(panic);
            }
        });
    });
}

/// One daemon on `home/one/mnt`; what it shows must be what is beneath, as seen from where no mount is.
fn start_and_look(
    bases: &Bases,
    home: &Path,
    seen_below: &Path,
    pause: &AtomicBool,
    paused: &AtomicBool,
) {
    let mut command = Etcfs::command(bases, &Opts::default());
    let program = command.get_program().to_owned();
    let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    *args.last_mut().expect("the mountpoint") = home.join("one/mnt").into_os_string();
    command = std::process::Command::new(program);
    let mut daemon = command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let until = Instant::now() + Duration::from_secs(20);
    let at: PathBuf = loop {
        let found = mounts()
            .into_iter()
            .find(|m| m.at.starts_with(home) && m.fstype == "fuse.etcfs");
        if found.is_some() {
            pause.store(true, Ordering::Release);
            while !paused.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            // Where it is now that nothing moves any more.
            break mounts()
                .into_iter()
                .find(|m| m.at.starts_with(home) && m.fstype == "fuse.etcfs")
                .expect("it stays mounted")
                .at;
        }
        if let Some(status) = daemon.try_wait().expect("wait") {
            let said = std::io::read_to_string(daemon.stderr.take().expect("piped"));
            panic!("{status}: {said:?}");
        }
        assert!(Instant::now() < until, "no mount");
    };
    let shown = fs::read_to_string(at.join("who"));
    let inside = at.strip_prefix(home).expect("below it");
    let beneath = fs::read_to_string(seen_below.join(inside).join("who"));
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    daemon.wait().expect("it ends");
    assert_eq!(
        shown.expect("the mount answers"),
        beneath.expect("the directory beneath"),
        "shown and beneath"
    );
}
