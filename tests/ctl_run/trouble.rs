//! Daemons that hang, are of another version, or are pestered; and the watchdog.

use super::harness::{CONFIG, Etcfs, Opts, mounts, private};
use super::{DEADLINE, arg, failure, json, run, text};
use etcfs::ctl::door::reach;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// A connection to the daemon, whose messages are made by hand.
pub(super) fn dial(etcfs: &Etcfs) -> OwnedFd {
    let minor = etcfs.mount().expect("mounted").minor;
    let (socket, pid) = reach((0, minor), 0, Duration::from_secs(5)).expect("reach the daemon");
    assert_eq!(i64::from(pid), i64::from(etcfs.pid()));
    socket
}

pub(super) fn answer(socket: &OwnedFd) -> String {
    let mut buffer = vec![0; 70_000];
    let (len, _) = recv(socket, &mut buffer[..], RecvFlags::empty()).expect("an answer");
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn a_stopped_daemon_does_not_hang_the_client() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        etcfs.signal(Signal::STOP);
        let begun = Instant::now();
        for args in [
            vec!["--timeout", "0.5", "stats", arg(&mnt)],
            vec!["--timeout", "0.5", "doctor", arg(&mnt)],
            vec!["--timeout", "0.5", "log", arg(&mnt)],
            vec!["--timeout", "0.5", "which", arg(&mnt)],
        ] {
            let line = failure(&args);
            assert!(line.contains("does not answer within 500ms"), "{line}");
            assert!(line.contains(&format!("pid {}", etcfs.pid())), "{line}");
            assert!(line.contains("T (stopped)"), "{line}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "bounded");
        etcfs.signal(Signal::CONT);
        json(&["stats", arg(&mnt)]);
    });
}

#[test]
fn a_killed_daemon_is_told_from_one_that_hangs() {
    private(DEADLINE, |env| {
        let mut etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        etcfs.signal(Signal::KILL);
        etcfs.wait(Duration::from_secs(10)).expect("it ends");
        if etcfs.mount().is_some() {
            let line = failure(&["stats", arg(&mnt)]);
            assert!(line.contains("it has died"), "{line}");
        }
    });
}

#[test]
fn no_mount_and_the_wrong_path_are_told() {
    private(DEADLINE, |env| {
        let dir = env.dir("plain");
        assert!(failure(&["stats", arg(&dir)]).contains("no etcfs is mounted there"));
        assert!(failure(&["which", arg(&dir)]).contains("is not in a mounted etcfs"));
        let first = Etcfs::start(env, Opts::default());
        let only = mounts().iter().filter(|m| m.fstype == "fuse.etcfs").count() == 1;
        if only {
            assert!(text(&["stats"]).contains(arg(&first.mnt())));
        }
    });
}

#[test]
fn random_messages_never_disturb_the_mount() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let bytes = proptest::collection::vec(any::<u8>(), 1..9000);
        let asks = prop_oneof![
            Just(r#"{"etcfs":1,"ask":"which","path":"../../x"}"#.to_owned()),
            Just(r#"{"etcfs":1,"ask":"which","path":"a\u0000b"}"#.to_owned()),
            Just(r#"{"etcfs":1,"ask":"log","ops":[],"min_us":18446744073709551615}"#.to_owned()),
            Just("[".repeat(4000)),
            ".{0,300}",
        ];
        let message = prop_oneof![bytes, asks.prop_map(String::into_bytes)];
        let mut runner = TestRunner::new(Config::with_cases(300));
        runner
            .run(&(message, any::<bool>()), |(message, listens)| {
                let socket = dial(&etcfs);
                let _ = send(&socket, &message, SendFlags::NOSIGNAL);
                if listens {
                    let mut buffer = [0; 4096];
                    let _ = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT);
                }
                Ok(())
            })
            .expect("no case fails");
        fs::write(mnt.join("file"), "x").expect("the mount works");
        while json(&["stats", arg(&mnt)])["listeners"] != 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn many_silent_clients_leave_room_again() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let silent: Vec<OwnedFd> = (0..16).map(|_| dial(&etcfs)).collect();
        let line = failure(&["stats", arg(&mnt)]);
        assert!(line.contains("16 clients"), "{line}");
        fs::metadata(mnt.join(CONFIG)).expect("the mount works");
        drop(silent);
        let until = Instant::now() + Duration::from_secs(20);
        while !run(&["stats", arg(&mnt)]).status.success() {
            assert!(Instant::now() < until, "the places come free");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_request_that_waits_for_a_lock_is_counted_and_no_hang() {
    use rustix::fs::{FlockOperation, flock};
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let open = || fs::File::create(mnt.join("lock")).expect("open");
        let (holder, waiter) = (open(), open());
        flock(&holder, FlockOperation::LockExclusive).expect("lock");
        let waits = std::thread::spawn(move || flock(&waiter, FlockOperation::LockExclusive));
        while json(&["stats", arg(&mnt)])["lock_waiters"] != 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = text(&["doctor", arg(&mnt)]);
        assert!(said.contains("1 request waits for a file lock"), "{said}");
        drop(holder);
        waits.join().expect("the waiter").expect("it gets the lock");
        assert_eq!(json(&["stats", arg(&mnt)])["lock_waiters"], 0);
    });
}
