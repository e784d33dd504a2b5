//! A recording goes on while servers die and another program takes their place.

use crate::harness::{Bases, Etcfs, Lower, Opts, private};
use crate::{DEADLINE, etcfsctl, output, path, record, replayed_well, str, text};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Directories that are made between two disturbances, at least.
const EACH: usize = 200;

/// Makes directories in `mnt` until it is told to end, and looks at each; how many there are is told in `made`.
fn work(mnt: &Path, ends: &AtomicBool, made: &AtomicUsize) {
    while !ends.load(Ordering::Acquire) {
        let number = made.load(Ordering::Relaxed);
        let dir = mnt.join(format!("dir-{number}"));
        fs::create_dir(&dir).expect("mkdir");
        fs::write(dir.join("f"), "text").expect("write");
        assert_eq!(fs::read(dir.join("f")).expect("read"), b"text");
        made.store(number + 1, Ordering::Release);
    }
}

#[test]
fn a_recording_spans_two_kills_and_an_upgrade_and_shows_every_request_answered() {
    private(DEADLINE, |env| {
        let opts = Opts {
            options: vec!["keeper=yes".into()],
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, Bases::new(env, Lower::Tmpfs), opts);
        let file = path(env, "a.etcfsrec");
        let (ends, made) = (AtomicBool::new(false), AtomicUsize::new(0));
        let mnt = etcfs.mnt();
        let said = record(&etcfs, &file, &[], || {
            std::thread::scope(|scope| {
                scope.spawn(|| work(&mnt, &ends, &made));
                let some_more = || {
                    let enough = made.load(Ordering::Acquire) + EACH;
                    while made.load(Ordering::Acquire) < enough {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                };
                some_more();
                etcfs.kill_server();
                some_more();
                let upgraded = etcfsctl(&["upgrade", env!("CARGO_BIN_EXE_etcfs"), str(&mnt)])
                    .output()
                    .expect("etcfsctl runs");
                assert!(upgraded.status.success(), "{}", text(&upgraded.stderr));
                some_more();
                etcfs.kill_server();
                some_more();
                ends.store(true, Ordering::Release);
            });
        });
        assert!(
            !said.contains("missing") && !said.contains("ended"),
            "{said}"
        );
        let decoded = output(&["decode", str(&file)]);
        let told = text(&decoded.stdout);
        let end = told.lines().rev().take(20).collect::<Vec<_>>().join("\n");
        assert!(decoded.status.success(), "{end}");
        assert!(
            end.starts_with(|c: char| c.is_ascii_digit()) && end.contains(" 0 faults"),
            "{end}"
        );
        assert!(!told.contains("are missing"), "{end}");
        assert_eq!(
            told.matches("= another server goes on here").count(),
            3,
            "{end}"
        );
        // All of it, from the first directory to the last, whoever has served it.
        let shown: HashSet<&str> = told
            .lines()
            .filter(|line| line.contains(" > MKDIR "))
            .filter_map(|line| line.split('"').nth(1))
            .collect();
        let made = made.load(Ordering::Acquire);
        for number in 0..made {
            assert!(
                shown.contains(format!("dir-{number}").as_str()),
                "{number} of {made}"
            );
        }
        replayed_well(&file);
    });
}
