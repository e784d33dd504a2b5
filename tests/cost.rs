//! What enforcement and rules cost in the daemon's own processor time, which other programs on the machine change little
//! (contract U2, U6). The figures are printed; `ETCFS_BIN` measures another build.

mod harness;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use harness::{Etcfs, Opts, private};
use rustix::fs::{Mode, OFlags};

const DEADLINE: Duration = Duration::from_secs(120);

/// Processor time of each thread of the daemon so far, in nanoseconds: the first field of `/proc/PID/task/TID/schedstat`
/// (Documentation/scheduler/sched-stats.rst). One that ends meanwhile is left out.
fn spent(etcfs: &Etcfs) -> BTreeMap<OsString, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", etcfs.pid())).expect("tasks");
    tasks
        .flatten()
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let first = text.split(' ').next().expect("a field");
            Some((task.file_name(), first.parse().expect("a number")))
        })
        .collect()
}

/// Processor time of one of `count` rounds of `work`, in nanoseconds: the least of several tries.
fn each(etcfs: &Etcfs, count: u64, work: &dyn Fn()) -> u64 {
    let tries = (0..5).map(|_| {
        let before = spent(etcfs);
        (0..count).for_each(|_| work());
        let since = |(task, after): (OsString, u64)| after - before.get(&task).unwrap_or(&0);
        spent(etcfs).into_iter().map(since).sum::<u64>() / count
    });
    tries.min().expect("tries")
}

/// U2: an override that is in place takes no more time than a symlink without one. What 300 looks a second take, as a
/// desktop makes at /etc/localtime, is printed.
#[test]
fn u2_an_override_in_place_takes_the_time_of_a_plain_symlink() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(
            env,
            Opts {
                config: vec!["add_override symlink /localtime /usr/share/zoneinfo/UTC".into()],
                ..Opts::default()
            },
        );
        let plain = etcfs.mnt().join("plain");
        std::os::unix::fs::symlink("/usr/share/zoneinfo/UTC", &plain).expect("symlink");
        let enforced = etcfs.mnt().join("localtime");
        fs::read_link(&enforced).expect("enforced");
        // What was just made is looked at again until its change time lies back.
        std::thread::sleep(Duration::from_millis(100));
        let look = |path: &std::path::Path| {
            fs::symlink_metadata(path).expect("stat");
            fs::read_link(path).expect("readlink");
        };
        let enforced = each(&etcfs, 3000, &|| look(&enforced));
        let plain = each(&etcfs, 3000, &|| look(&plain));
        println!(
            "a stat and a readlink: {enforced} ns with an override, {plain} ns without; 300 a second: {:.3} % of a processor",
            (enforced * 300) as f64 / 1e7
        );
        assert!(
            enforced < plain * 2,
            "{enforced} ns with an override, {plain} ns without"
        );
    });
}

/// U6: the rules that are not meant cost nothing, be they 40 or 10,000. A search through them all would take a hundred
/// times as long with 10,000.
#[test]
fn u6_ten_thousand_rules_take_the_time_of_forty() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        fs::create_dir(mnt.join("plain")).expect("mkdir");
        fs::write(mnt.join("plain/file"), "x").expect("write");
        let write = |verb: &str, range: std::ops::Range<u32>| {
            // In the directory that is used, too, so that its own table is as long.
            let lines: String = range
                .map(|n| match n % 2 {
                    0 => format!("{verb} /plain/rule{n}\n"),
                    _ => format!("{verb} /dir{}/rule{n}\n", n % 50),
                })
                .collect();
            let config = mnt.join(harness::CONFIG);
            let fd = rustix::fs::open(config, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .expect("open");
            for chunk in lines.as_bytes().chunks(60_000) {
                assert_eq!(rustix::io::write(&fd, chunk), Ok(chunk.len()));
            }
        };
        let look = || {
            fs::symlink_metadata(mnt.join("plain/file")).expect("stat");
            fs::symlink_metadata(mnt.join("plain/missing")).expect_err("missing");
            fs::symlink_metadata(mnt.join("absent")).expect_err("absent");
        };
        write("add_global", 0..40);
        let (mut few, mut many) = (u64::MAX, u64::MAX);
        for _ in 0..3 {
            few = few.min(each(&etcfs, 500, &look));
            write("add_global", 40..10_000);
            many = many.min(each(&etcfs, 500, &look));
            write("rm_global", 40..10_000);
        }
        let more = (many as f64 / few as f64 - 1.0) * 100.0;
        println!("three stats: {few} ns with 40 rules, {many} ns with 10,000 ({more:+.1} %)");
        assert!(
            many < few * 2,
            "{few} ns with 40 rules, {many} ns with 10,000"
        );
    });
}
