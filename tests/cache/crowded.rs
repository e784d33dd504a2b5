//! More than there is room for.

use std::fs;

use rustix::process::Signal;

use crate::harness::private;
use crate::{DEADLINE, cache, served, text, until, warm};

#[test]
fn with_too_few_watches_everything_is_right() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &["watches=4"]);
        let (above, below) = (etcfs.mnt(), etcfs.local());
        for dir in 0..20 {
            fs::create_dir(below.join(format!("{dir}"))).expect("mkdir");
            fs::write(below.join(format!("{dir}/f")), "0").expect("write");
        }
        for turn in 1..10 {
            for dir in 0..20 {
                warm(&above.join(format!("{dir}/f")));
                warm(&above.join(format!("{dir}/missing")));
            }
            for dir in 0..20 {
                fs::write(below.join(format!("{dir}/f.new")), format!("{turn}")).expect("write");
                let to = below.join(format!("{dir}/f"));
                fs::rename(below.join(format!("{dir}/f.new")), to).expect("rename");
            }
            for dir in 0..20 {
                let seen = || text(&above.join(format!("{dir}/f"))) == format!("{turn}");
                until("the new file", seen);
            }
        }
        assert!(cache(&etcfs, "watched") <= 4);
        assert!(cache(&etcfs, "evicted") > 0);
    });
}

#[test]
fn when_events_are_lost_nothing_old_is_shown() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let (above, below) = (etcfs.mnt().join("d"), etcfs.local().join("d"));
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("read");
        let most: usize = most.trim().parse().expect("a number");
        warm(&above.join("f"));
        warm(&above.join("late"));
        warm(&above);
        etcfs.signal(Signal::STOP);
        for n in 0..=most {
            fs::write(below.join("flood"), "").expect("write");
            fs::rename(below.join("flood"), below.join(format!("flood{}", n % 2))).expect("rename");
        }
        fs::write(below.join("late"), "late").expect("write");
        fs::write(below.join("f.new"), "second").expect("write");
        fs::rename(below.join("f.new"), below.join("f")).expect("rename");
        etcfs.signal(Signal::CONT);
        until("the late one", || text(&above.join("late")) == "late");
        until("the new one", || text(&above.join("f")) == "second");
        assert!(cache(&etcfs, "overflows") > 0);
    });
}

#[test]
fn names_that_are_not_there_are_kept_within_a_bound() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let above = etcfs.mnt().join("d");
        for n in 0..5000 {
            assert!(!above.join(format!("made-up-{n}")).exists());
        }
        assert!(cache(&etcfs, "kept") <= 1024 + 16);
        fs::write(etcfs.local().join("d/made-up-7"), "").expect("write");
        fs::write(etcfs.local().join("d/made-up-4999"), "").expect("write");
        until("made", || above.join("made-up-7").exists());
        until("made", || above.join("made-up-4999").exists());
    });
}
