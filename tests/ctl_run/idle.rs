//! What a daemon costs that nobody asks for anything.

use super::harness::{Etcfs, Opts, private};
use super::{DEADLINE, arg, json};
use std::fs;
use std::time::{Duration, Instant};

/// Voluntary context switches of all threads of a process: how often they have gone to sleep.
fn sleeps(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the threads");
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .expect("the count");
        line.trim().parse::<u64>().expect("a number")
    };
    tasks.flatten().map(of).sum()
}

/// Contract U5, with everything that watches in place.
#[test]
fn an_idle_daemon_is_never_woken() {
    private(DEADLINE, |env| {
        let opts = Opts {
            options: vec!["watchdog=1".to_owned()],
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        fs::write(etcfs.mnt().join("file"), "x").expect("write");
        json(&["stats", arg(&etcfs.mnt())]);
        let until = Instant::now() + Duration::from_secs(30);
        let mut before = sleeps(etcfs.pid());
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let after = sleeps(etcfs.pid());
            if after == before {
                break;
            }
            assert!(Instant::now() < until, "{before} and then {after}");
            before = after;
        }
    });
}

/// A line of /proc/PID/status in KiB.
fn kib(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    number.expect("the field").parse().expect("a number")
}

/// Contract U5, with the control socket, the watchdog and a meter for every worker.
#[test]
fn an_idle_daemon_has_little_memory() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        fs::write(etcfs.mnt().join("file"), "x").expect("write");
        json(&["stats", arg(&etcfs.mnt())]);
        let (all, own) = (kib(etcfs.pid(), "VmRSS"), kib(etcfs.pid(), "RssAnon"));
        println!("VmRSS {all} KiB, of which RssAnon {own} KiB");
        assert!(own <= 2048, "RssAnon {own} KiB");
        // The rest is the program itself, which is several times as large without optimisation.
        let program = if cfg!(debug_assertions) { 12 } else { 2 };
        assert!(all <= 2048 + program * 1024, "VmRSS {all} KiB");
    });
}
