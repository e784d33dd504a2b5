//! A daemon that has no descriptors left, or no memory.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, errno, private};

/// Sets a limit of the daemon's; none: as high as may be.
fn limit(etcfs: &Etcfs, resource: Resource, to: Option<u64>) {
    let pid = Pid::from_raw(etcfs.pid()).expect("a pid");
    // The daemon has this process's.
    let maximum = getrlimit(resource).maximum;
    let current = to.or(maximum);
    prlimit(Some(pid), resource, Rlimit { current, maximum }).expect("prlimit");
}

fn status(etcfs: &Etcfs, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", etcfs.pid())).expect("the status");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.unwrap_or_else(|| panic!("no {field}"))
}

#[test]
fn out_of_descriptors_who_needs_one_gets_enfile_and_all_others_go_on() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        for n in 0..50 {
            fs::write(etcfs.local().join(format!("f{n}")), "text").expect("write");
        }
        let mnt = etcfs.mnt();
        let open = File::options().read(true).write(true).open(mnt.join("f0"));
        let mut open = open.expect("open");
        let used = fs::read_dir(format!("/proc/{}/fd", etcfs.pid()))
            .expect("list")
            .count();
        // One number is free below the highest, or none.
        limit(&etcfs, Resource::Nofile, Some(used as u64));
        let mut held = Vec::new();
        let refused = loop {
            match File::open(mnt.join(format!("f{}", held.len() + 1))) {
                Ok(file) => held.push(file),
                Err(error) => break errno(error),
            }
            assert!(held.len() < 40, "they run out");
        };
        assert_eq!(refused, Errno::NFILE);
        for (what, answer) in [
            ("create", File::create(mnt.join("new")).map(drop)),
            ("list", fs::read_dir(&mnt).map(drop)),
        ] {
            assert_eq!(answer.map_err(errno), Err(Errno::NFILE), "{what}");
        }
        assert!(!etcfs.local().join("new").exists());
        fs::metadata(mnt.join("f49")).expect("stat needs none");
        assert_eq!(
            fs::metadata(mnt.join("none")).map(drop).map_err(errno),
            Err(Errno::NOENT)
        );
        fs::rename(mnt.join("f49"), mnt.join("moved")).expect("nor does a change of names");
        open.write_all(b"TEXT")
            .expect("who has a file open goes on");
        let mut text = String::new();
        fs::File::open(etcfs.local().join("f0"))
            .expect("beneath")
            .read_to_string(&mut text)
            .expect("read");
        assert_eq!(text, "TEXT");
        drop(held);
        drop(open);
        limit(&etcfs, Resource::Nofile, None);
        assert_eq!(fs::read(mnt.join("f1")).expect("read"), b"text");
        fs::write(mnt.join("new"), "x").expect("create");
    });
}

#[test]
fn out_of_memory_who_needs_some_waits_until_there_is_some_and_nobody_fails() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        fs::write(mnt.join("known"), "text").expect("write");
        let mut open = File::open(mnt.join("known")).expect("open");
        let names: Vec<String> = (0..20_000)
            .map(|n| format!("{n}-{}", "n".repeat(200)))
            .collect();
        fs::create_dir(etcfs.local().join("many")).expect("mkdir");
        for name in &names {
            fs::write(etcfs.local().join("many").join(name), "").expect("write");
        }
        let size = status(&etcfs, "VmData:") * 1024;
        limit(&etcfs, Resource::Data, Some(size));
        let done = AtomicU32::new(0);
        std::thread::scope(|scope| {
            // Every name takes memory.
            for half in names.chunks(names.len() / 2) {
                let (mnt, done) = (&mnt, &done);
                scope.spawn(move || {
                    for name in half {
                        let met = fs::symlink_metadata(mnt.join("many").join(name));
                        met.unwrap_or_else(|e| panic!("{name}: {e}"));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // They come to stand somewhere.
            let mut last = u32::MAX;
            let until = Instant::now() + Duration::from_secs(60);
            while last != done.load(Ordering::Relaxed) {
                last = done.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(500));
                assert!(Instant::now() < until, "it never runs out");
            }
            let stand = last;
            println!("{stand} of {} names before memory ran out", names.len());
            limit(&etcfs, Resource::Data, None);
        });
        assert_eq!(done.load(Ordering::Relaxed) as usize, names.len());
        let mut text = String::new();
        open.read_to_string(&mut text).expect("read");
        assert_eq!(text, "text");
        fs::write(mnt.join("new"), "x").expect("create");
    });
}
