//! Programs that lock, as users run them, and the bounds they meet.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use crate::DEADLINE;
use crate::agent::{Agent, SOON, native_flock};
use crate::harness::private;
use crate::places::{done, one_file, two_strata};

const RDWR: i32 = libc::O_RDWR;

/// As a script would: flock(1) holds a lock while a command runs, and another one gives up, waits, or sees it in lslocks(8).
#[test]
fn flock_and_lslocks_work_as_natively() {
    private(DEADLINE, |env| {
        let (alpha, beta, _) = two_strata(env, &[]);
        let (here, there) = (alpha.mnt().join("shared"), beta.mnt().join("shared"));
        let mut holder = Command::new("flock")
            .arg(&here)
            .arg("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("flock(1)");
        let until = Instant::now() + SOON;
        let taken = || {
            let status = Command::new("flock")
                .arg("-n")
                .arg(&there)
                .arg("true")
                .status();
            status.expect("flock(1)").code() == Some(1)
        };
        while !taken() {
            assert!(Instant::now() < until, "flock(1) never took the lock");
        }
        let seen = Command::new("lslocks")
            .args(["-n", "-o", "TYPE,MODE,INODE"])
            .output();
        let seen = String::from_utf8_lossy(&seen.expect("lslocks(8)").stdout).into_owned();
        let ino = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&here).expect("stat"));
        let line = seen
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        let ino = ino.to_string();
        assert!(
            line.into_iter()
                .any(|l| l == ["FLOCK", "WRITE", ino.as_str()]),
            "{seen}"
        );
        drop(holder.stdin.take());
        assert!(holder.wait().expect("wait").success());
        assert!(!taken());
    });
}

/// `flock -w` sets an alarm with a handler: the wait ends with EINTR, and the program says that it had no luck.
#[test]
fn a_signal_ends_the_wait_f2() {
    private(DEADLINE, |env| {
        let (etcfs, mount, _) = one_file(env, &[]);
        let holder = File::open(&mount).expect("open");
        native_flock(&holder, libc::LOCK_EX).expect("the lock is free");
        let start = Instant::now();
        let mut impatient: Vec<Child> = (0..50)
            .map(|_| {
                let mut flock = Command::new("flock");
                flock.args(["-w", "0.1"]).arg(&mount).arg("true");
                flock.spawn().expect("flock(1)")
            })
            .collect();
        for flock in &mut impatient {
            assert_eq!(flock.wait().expect("wait").code(), Some(1));
        }
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        drop(holder);
        let next = File::open(&mount).expect("open");
        native_flock(&next, libc::LOCK_EX).expect("the lock is free");
        assert!(etcfs.mount().is_some());
    });
}

/// A shell ends while the child that it has started waits for a lock on a descriptor of both.
#[test]
fn a_waiter_outlives_its_parent() {
    private(DEADLINE, |env| {
        let (_etcfs, mount, _) = one_file(env, &[]);
        let holder = File::open(&mount).expect("open");
        native_flock(&holder, libc::LOCK_EX).expect("the lock is free");
        let script = r#"exec 9<"$0"; (flock 9 && echo had) & exit 0"#;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .arg(&mount)
            .stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("sh(1)");
        assert!(shell.wait().expect("wait").success());
        let mut said = shell.stdout.take().expect("piped");
        std::thread::sleep(Duration::from_millis(100));
        drop(holder);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut said, &mut text).expect("read");
        assert_eq!(text, "had\n");
        let next = File::open(&mount).expect("open");
        native_flock(&next, libc::LOCK_EX).expect("the lock is free");
    });
}

#[test]
fn one_users_bound_is_not_anothers() {
    private(DEADLINE, |env| {
        let (etcfs, mount, _) = one_file(env, &["max_lock_waiters=20"]);
        let holder = File::open(&mount).expect("open");
        native_flock(&holder, libc::LOCK_EX).expect("the lock is free");
        let as_user = |uid: u32| {
            let mut flock = Command::new("flock");
            flock.arg(&mount).arg("true").uid(uid).gid(uid);
            flock.stderr(Stdio::null()).spawn().expect("flock(1)")
        };
        let mut many: Vec<Child> = (0..30).map(|_| as_user(1000)).collect();
        let ended = |many: &mut [Child]| {
            let ended = many.iter_mut().filter_map(|c| c.try_wait().expect("wait"));
            ended.map(|status| assert!(!status.success())).count()
        };
        let until = Instant::now() + SOON;
        while ended(&mut many) < 10 {
            assert!(Instant::now() < until, "the bound is never reached");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut roots = as_user(0);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ended(&mut many), 10);
        assert!(matches!(roots.try_wait(), Ok(None)));
        let said = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
            .arg("doctor")
            .arg(etcfs.mnt())
            .output()
            .expect("etcfsctl");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("20 requests of uid 1000 wait"), "{said}");
        drop(holder);
        assert!(roots.wait().expect("wait").success());
        let statuses = many.iter_mut().map(|c| c.wait().expect("wait"));
        assert_eq!(statuses.filter(|status| status.success()).count(), 20);
        assert!(etcfs.mount().is_some());
    });
}

/// TERM unmounts and ends the daemon whoever waits (contract D19); the waiters learn it.
#[test]
fn the_daemon_ends_while_clients_wait_d19() {
    private(DEADLINE, |env| {
        let (mut etcfs, mount, _) = one_file(env, &[]);
        let holder = File::open(&mount).expect("open");
        native_flock(&holder, libc::LOCK_EX).expect("the lock is free");
        let tasks =
            || fs::read_dir(format!("/proc/{}/task", etcfs.pid())).map_or(0, Iterator::count);
        let before = tasks();
        let mut waiters: Vec<Child> = (0..20)
            .map(|_| {
                let mut flock = Command::new("flock");
                flock.arg(&mount).arg("true").stderr(Stdio::null());
                flock.spawn().expect("flock(1)")
            })
            .collect();
        let until = Instant::now() + SOON;
        // Every waiter has a thread of its own; one that came after the end would lock the file beneath.
        while tasks() < before + 20 {
            assert!(Instant::now() < until, "the waiters never came");
            std::thread::sleep(Duration::from_millis(5));
        }
        etcfs.signal(Signal::TERM);
        let status = etcfs.wait(SOON).expect("the daemon ends");
        assert!(status.success(), "{status}");
        for waiter in &mut waiters {
            assert!(!waiter.wait().expect("wait").success());
        }
    });
}

#[test]
fn waiters_beyond_the_bound_get_enolck_and_others_do_not() {
    private(DEADLINE, |env| {
        let (alpha, _beta, _) = two_strata(env, &["max_lock_waiters=2"]);
        let file = alpha.mnt().join("shared");
        let mut agent = Agent::new();
        let held = agent.open(&file, RDWR);
        let exclusive = |fd: i32| format!("flock {fd} {}", libc::LOCK_EX);
        assert_eq!(agent.call(&exclusive(held)), done());
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let fd = agent.open(&file, RDWR);
            waiting.push((fd, agent.start(&exclusive(fd))));
        }
        for &(_, started) in &waiting {
            assert!(agent.waits(started));
        }
        let third = agent.open(&file, RDWR);
        assert_eq!(agent.call(&exclusive(third)), Err(Errno::NOLCK));
        assert_eq!(agent.call(&format!("close {held}")), done());
        // One after the other gets it.
        let mut left = waiting;
        while !left.is_empty() {
            let got = left
                .iter()
                .position(|&(_, s)| agent.answer_within(s, Duration::from_millis(20)).is_some());
            if let Some(at) = got {
                let (fd, _) = left.remove(at);
                assert_eq!(agent.call(&format!("close {fd}")), done());
            }
        }
    });
}
