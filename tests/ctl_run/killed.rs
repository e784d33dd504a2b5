//! What `etcfsctl` tells of a mount whose server was killed: all since the mount was made, and that there is another one.

use super::harness::{Etcfs, Opts, counted, private};
use super::live::Follower;
use super::{DEADLINE, arg, json, text};
use std::fs;

#[test]
fn stats_and_journal_go_on_with_another_server() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                options: vec!["keeper=yes".into()],
                config: vec!["add_override symlink /link target".into()],
                ..Opts::default()
            },
        );
        let mnt = etcfs.mnt();
        fs::read_link(mnt.join("link")).expect("enforced");
        for n in 0..20 {
            fs::create_dir(mnt.join(format!("dir{n}"))).expect("mkdir");
        }
        let uptime = json(&["stats", arg(&mnt)])["uptime_s"].as_f64();
        let enforced = json(&["journal", arg(&mnt)])["entries"].clone();
        assert_eq!(enforced.as_array().map(Vec::len), Some(1));
        for kills in 1..=2 {
            etcfs.kill_server();
            fs::create_dir(mnt.join(format!("after{kills}"))).expect("mkdir");
            assert_eq!(counted(&etcfs, "MKDIR"), 20 + kills);
            // It is noted a moment after the first request is served.
            let journal = loop {
                let journal = json(&["journal", arg(&mnt)]);
                if journal["restarted"] == kills {
                    break journal;
                }
            };
            assert_eq!(journal["entries"], enforced);
            let restarts = journal["restarts"].as_array().expect("a list");
            assert_eq!(restarts.len() as u64, kills);
            assert!(restarts.iter().all(|one| one["stall"].as_f64() > Some(0.0)));
        }
        assert!(json(&["stats", arg(&mnt)])["uptime_s"].as_f64() > uptime);
        let told = text(&["journal", arg(&mnt)]);
        assert_eq!(told.matches("nobody served for").count(), 2, "{told}");
        assert!(told.contains("/link"), "{told}");
    });
}

#[test]
fn the_log_goes_on_with_another_server_and_ends_with_the_mount() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                options: vec!["keeper=yes".into()],
                ..Opts::default()
            },
        );
        let mnt = etcfs.mnt();
        let mut log = Follower::start(&mnt, &["log", "--op", "MKDIR"]);
        for kills in 0..3 {
            fs::create_dir(mnt.join(format!("dir{kills}"))).expect("mkdir");
            let line = log.line();
            assert!(line.contains(&format!("/dir{kills}")), "{line}");
            etcfs.kill_server();
            while json(&["stats", arg(&mnt)])["listeners"] == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        drop(etcfs);
        assert!(!log.ended().success(), "the daemon has ended");
    });
}
