//! A request that waits for a lock while its server is killed.

use super::harness::{Env, Etcfs, Opts, private};
use super::{DEADLINE, NO_RESEND};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn served(env: &Env, kills: &str, resends: bool) -> Etcfs {
    let mut vars = vec![("ETCFS_TEST_KILLS".to_owned(), kills.to_owned())];
    if !resends {
        vars.push((NO_RESEND.to_owned(), String::new()));
    }
    let bases = super::harness::Bases::new(env, super::harness::Lower::Tmpfs);
    std::fs::write(bases.local().join("f"), "text").expect("write");
    let opts = Opts {
        options: vec!["keeper=yes".into()],
        vars,
        ..Opts::default()
    };
    Etcfs::serve(env, bases, opts)
}

/// Somebody who waits for the lock of `f` on the mount and ends with 0 when it is had.
fn waiter(etcfs: &Etcfs) -> Child {
    let mut command = Command::new("flock");
    command.arg(etcfs.mnt().join("f")).arg("true");
    command.spawn().expect("start flock(1)")
}

/// The lock of `f` is held beneath, by the first, and the other one waits for it.
fn held_and_waited_for(etcfs: &Etcfs) -> (File, Child) {
    let holder = File::open(etcfs.local().join("f")).expect("open");
    flock(&holder, FlockOperation::LockExclusive).expect("lock");
    (holder, waiter(etcfs))
}

/// Waits until the server has a thread that waits for a lock.
fn until_it_waits(etcfs: &Etcfs) {
    let until = Instant::now() + PATIENCE;
    let waits = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", etcfs.server()?)).ok()?;
        let mut names = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.find(|name| name.trim() == "etcfs-lock")
    };
    while waits().is_none() {
        assert!(Instant::now() < until, "nobody waits\n{}", etcfs.stderr());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends as it should, in time.
fn ended(etcfs: &Etcfs, mut waiter: Child) -> std::process::ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = waiter.try_wait().expect("wait") {
            return status;
        }
        assert!(Instant::now() < until, "it waits still\n{}", etcfs.stderr());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kill_server(etcfs: &Etcfs) {
    let before = etcfs.server().expect("a server");
    let pid = Pid::from_raw(before).expect("a pid");
    kill_process(pid, Signal::KILL).expect("kill");
}

#[test]
fn who_waits_for_a_lock_goes_on_waiting_and_gets_it() {
    private(DEADLINE, |env| {
        for resends in [true, false] {
            let etcfs = served(env, "", resends);
            let (holder, mut waiter) = held_and_waited_for(&etcfs);
            for _ in 0..3 {
                until_it_waits(&etcfs);
                kill_server(&etcfs);
                // By the successor.
                std::fs::metadata(etcfs.mnt().join("f")).expect("stat");
            }
            until_it_waits(&etcfs);
            assert_eq!(waiter.try_wait().expect("wait"), None, "it is held");
            flock(&holder, FlockOperation::Unlock).expect("unlock");
            assert!(ended(&etcfs, waiter).success());
            // And has given it up, or will in a moment: close(2) does not wait for that.
            flock(&holder, FlockOperation::LockExclusive).expect("lock");
        }
    });
}

#[test]
fn who_is_killed_while_the_server_dies_over_the_interrupt_ends() {
    private(DEADLINE, |env| {
        for resends in [true, false] {
            let etcfs = served(env, "Read:36", resends);
            let (_holder, mut waiter) = held_and_waited_for(&etcfs);
            until_it_waits(&etcfs);
            let before = etcfs.server();
            waiter.kill().expect("kill");
            let status = ended(&etcfs, waiter);
            assert_eq!(status.code(), None, "by the signal");
            assert_ne!(etcfs.server(), before, "the server has died of it");
        }
    });
}

#[test]
fn who_is_killed_while_there_is_no_server_ends() {
    private(DEADLINE, |env| {
        for resends in [true, false] {
            let etcfs = served(env, "", resends);
            let (_holder, mut waiter) = held_and_waited_for(&etcfs);
            until_it_waits(&etcfs);
            // The interrupt is lost with whoever has read it, or is read by the next one.
            waiter.kill().expect("kill");
            kill_server(&etcfs);
            assert_eq!(ended(&etcfs, waiter).code(), None, "by the signal");
        }
    });
}
