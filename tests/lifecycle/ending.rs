//! Ending: by signals, by unmounting, by dying.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::harness::{Bases, CONFIG, Etcfs, Lower, Opts, mounts, private};
use crate::{DEADLINE, LONG, background, until};

#[test]
fn d19_ending_signals_unmount_even_if_busy_and_exit_0() {
    // Contract D19.
    private(DEADLINE, |env| {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let bases = Bases::new(env, Lower::Tmpfs);
            fs::write(bases.local().join("busy"), "x").expect("write");
            let mut etcfs = Etcfs::serve(env, bases, Opts::default());
            let held = fs::File::open(etcfs.mnt().join("busy")).expect("open");
            etcfs.signal(signal);
            let status = etcfs.wait(LONG).expect("it ends");
            assert_eq!(status.code(), Some(0), "{signal:?}: {}", etcfs.stderr());
            assert!(etcfs.mount().is_none(), "{signal:?}");
            assert_eq!(
                fs::read(etcfs.mnt().join("busy")).expect("the directory is back"),
                b"x"
            );
            assert_eq!(etcfs.stderr(), "");
            drop(held);
            drop(etcfs);
            for view in ["fs", "below"] {
                rustix::mount::unmount(env.dir(view), UnmountFlags::DETACH).expect("unmount");
            }
        }
    });
}

#[test]
fn d19_a_busy_daemon_ends_within_250_ms() {
    private(DEADLINE, |env| {
        // A machine that is busy itself may spoil a try, not all of them.
        let mut times = Vec::new();
        for _ in 0..5 {
            let bases = Bases::new(env, Lower::Tmpfs);
            fs::write(bases.local().join("busy"), "x").expect("write");
            let mut etcfs = Etcfs::serve(env, bases, Opts::default());
            let held = fs::File::open(etcfs.mnt().join("busy")).expect("open");
            let mut waiting = Command::new("flock");
            waiting.arg(etcfs.mnt().join("busy")).arg("true");
            waiting.stderr(Stdio::null());
            rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("lock");
            let mut waiting = waiting.spawn().expect("flock(1)");
            until("a client waits for a lock", || {
                let tasks = fs::read_dir(format!("/proc/{}/task", etcfs.pid())).expect("tasks");
                tasks.flatten().any(|task| {
                    fs::read_to_string(task.path().join("comm"))
                        .is_ok_and(|comm| comm == "etcfs-lock\n")
                })
            });
            let start = std::time::Instant::now();
            etcfs.signal(Signal::TERM);
            let status = etcfs.wait(LONG).expect("it ends");
            times.push(start.elapsed());
            assert_eq!(status.code(), Some(0), "{}", etcfs.stderr());
            assert!(etcfs.mount().is_none());
            waiting.wait().expect("wait");
            drop(held);
            drop(etcfs);
            for view in ["fs", "below"] {
                rustix::mount::unmount(env.dir(view), UnmountFlags::DETACH).expect("unmount");
            }
            if times.last() <= Some(&Duration::from_millis(250)) {
                return;
            }
        }
        panic!("it never ended within 250 ms: {times:?}");
    });
}

#[test]
fn d20_sigpipe_ends_nothing() {
    // Contract D20.
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        etcfs.signal(Signal::PIPE);
        etcfs.read_config().expect("it still answers");
    });
}

#[test]
fn d18_daemon_leaves_with_the_last_user_of_a_lazily_unmounted_mount() {
    // Contract D18.
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let held = fs::File::open(etcfs.mnt().join(CONFIG)).expect("open");
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("umount -l");
        held.metadata().expect("it still answers");
        assert_eq!(etcfs.wait(Duration::from_millis(50)), None);
        drop(held);
        assert_eq!(
            etcfs.wait(LONG).expect("it ends").code(),
            Some(0),
            "{}",
            etcfs.stderr()
        );
    });
}

#[test]
fn mount_over_ours_survives_our_end() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("t", etcfs.mnt(), "tmpfs", flags, None).expect("mount a tmpfs");
        etcfs.signal(Signal::TERM);
        assert_eq!(etcfs.wait(LONG).expect("it ends").code(), Some(0));
        assert!(
            etcfs.stderr().contains("another mount covers this one"),
            "{}",
            etcfs.stderr()
        );
        let top = mounts()
            .into_iter()
            .rfind(|mount| mount.at == etcfs.mnt())
            .expect("a mount");
        assert_eq!(top.fstype, "tmpfs");
        rustix::mount::unmount(etcfs.mnt(), UnmountFlags::DETACH).expect("unmount");
    });
}

#[test]
fn d15_mount_of_a_killed_daemon_is_replaced() {
    // Contract D15.
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let mut killed = Etcfs::serve(env, bases.clone(), Opts::default());
        killed.signal(Signal::KILL);
        killed.wait(LONG).expect("it dies");
        assert!(fs::metadata(killed.mnt()).is_err(), "a dead mount is left");
        let etcfs = Etcfs::serve(env, bases, background());
        etcfs.read_config().expect("the new one answers");
        assert_eq!(
            mounts()
                .iter()
                .filter(|mount| mount.at == etcfs.mnt())
                .count(),
            1,
            "contract D12"
        );
        etcfs.signal(Signal::TERM);
        until("it is unmounted", || etcfs.mount().is_none());
    });
}
