//! A request over which every server dies.

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, Processes, private};
use crate::processes::{all_there, send, until};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

fn opts(kills: &str, more: &str) -> Opts {
    Opts {
        options: ["keeper=yes", "seccomp=off", more]
            .map(str::to_owned)
            .into(),
        vars: vec![("ETCFS_TEST_KILLS".into(), kills.into())],
        ..Opts::default()
    }
}

/// The fifth death took the mount away before, whatever they died of.
#[test]
fn a_request_that_kills_every_server_is_refused_and_all_others_go_on() {
    private(DEADLINE, |env| {
        // MKDIR, as often as it is tried.
        let kills = ["Cut:9*!"; 40].join(",");
        let bases = Bases::new(env, Lower::Tmpfs);
        let etcfs = Etcfs::serve(env, bases, opts(&kills, "threads=2"));
        let mnt = etcfs.mnt();
        all_there(&mnt);
        let locked = File::create(mnt.join("f")).expect("create");
        flock(&locked, FlockOperation::LockExclusive).expect("lock");
        let waits = Command::new("flock").arg(mnt.join("f")).arg("true").spawn();
        let mut waits = waits.expect("start flock(1)");
        for round in 0..4 {
            let error = fs::create_dir(mnt.join("dir")).expect_err("it is refused");
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "round {round}");
            assert!(!etcfs.local().join("dir").exists());
            fs::write(mnt.join("g"), "text").expect("write");
            assert_eq!(fs::read(mnt.join("g")).expect("read"), b"text");
        }
        drop(locked);
        assert!(waits.wait().expect("wait").success());
        let said = etcfs.stderr();
        assert_eq!(said.matches("servers die over MKDIR").count(), 4, "{said}");
        let journal = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
            .arg("journal")
            .arg(&mnt)
            .output()
            .expect("journal");
        let journal = String::from_utf8_lossy(&journal.stdout).into_owned();
        assert!(journal.contains("over MKDIR of node 1"), "{journal}");
    });
}

/// Without a pause some hundred servers died each second.
#[test]
fn servers_that_die_at_once_are_made_more_slowly_where_there_is_no_end() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let etcfs = Etcfs::serve(env, bases, opts("", "max_deaths=0"));
        let mnt = etcfs.mnt();
        fs::write(mnt.join("f"), "text").expect("write");
        all_there(&mnt);
        let begun = Instant::now();
        let mut deaths = 0;
        let mut server = 0;
        while deaths < 14 {
            until("another server", || {
                let now = Processes::of(&mnt).server;
                let is_new = now.is_some_and(|now| now != server);
                server = now.filter(|_| is_new).unwrap_or(server);
                is_new
            });
            send(server, Signal::KILL);
            deaths += 1;
        }
        // 2, 4, 8, ... ms from the sixth on.
        let least = (1..=7).map(|more| 1 << more).sum();
        assert!(
            begun.elapsed() > Duration::from_millis(least),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(fs::read(mnt.join("f")).expect("read"), b"text");
        std::thread::sleep(Duration::from_millis(150));
        let asked = Instant::now();
        etcfs.kill_server();
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "one that has served is followed at once"
        );
    });
}
