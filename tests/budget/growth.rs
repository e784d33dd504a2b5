//! What a file costs does not grow with the others.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use etcfs_proto::Opcode;

use crate::harness::{self, Env, Trace, private};
use crate::served;

/// Requests by opcode, and the lower quartile of the calls that one of them takes: half of the RELEASEs close a descriptor
/// and half do not, so the median would be either.
type Costs = BTreeMap<Opcode, (usize, usize)>;

/// What creating, reading, renaming and removing 50 files costs among `others` files of one directory, every one of
/// which the daemon knows and has had open.
fn costs_among(env: &Env, others: usize) -> Costs {
    const FILES: usize = 50;
    let etcfs = served(env);
    let beneath = etcfs.local().join("d");
    let dir = etcfs.mnt().join("d");
    for n in 0..others {
        fs::write(beneath.join(format!("other{n}")), "text").expect("write beneath");
        assert_eq!(
            fs::read(dir.join(format!("other{n}"))).expect("read"),
            b"text"
        );
    }
    // The ids of what was read are given back in the meantime.
    std::thread::sleep(Duration::from_millis(2500));
    let trace = Trace::of(env, &etcfs);
    for n in 0..FILES {
        let path = dir.join(format!("file{n}"));
        fs::write(&path, [9; 4096]).expect("create");
        assert_eq!(fs::read(&path).expect("read"), [9; 4096]);
        let other = dir.join(format!("renamed{n}"));
        fs::rename(&path, &other).expect("rename");
        fs::remove_file(&other).expect("unlink");
    }
    let mut calls: BTreeMap<Opcode, Vec<usize>> = BTreeMap::new();
    for request in trace.end() {
        // The kernel says in one message or in many what it has forgotten, and asks for attributes again in the next tick
        // of its clock.
        let by_chance = matches!(
            request.opcode,
            Opcode::FORGET | Opcode::BATCH_FORGET | Opcode::GETATTR
        );
        if !by_chance {
            calls
                .entry(request.opcode)
                .or_default()
                .push(request.calls.len());
        }
    }
    let quartile = |mut calls: Vec<usize>| {
        calls.sort_unstable();
        (calls.len(), calls[calls.len() / 4])
    };
    calls
        .into_iter()
        .map(|(opcode, calls)| (opcode, quartile(calls)))
        .collect()
}

#[test]
fn a_file_costs_the_same_among_few_and_among_many() {
    private(Duration::from_secs(180), |env| {
        let few = costs_among(env, 100);
        rustix::mount::unmount(env.dir("fs"), rustix::mount::UnmountFlags::DETACH)
            .expect("unmount the first lower file system");
        let many = costs_among(env, 10_000);
        assert_eq!(few, many, "requests and calls by opcode: few, many files");
        assert!(few[&Opcode::CREATE].0 == 50 && few[&Opcode::UNLINK].0 == 50);
    });
}

/// Ten times the files are ten times the requests, and not one more.
#[test]
fn requests_grow_as_the_files_do() {
    private(Duration::from_secs(180), |env| {
        let etcfs = served(env);
        let dir = etcfs.mnt().join("d");
        let counts = |files: usize| {
            let before = harness::stats(&etcfs);
            for n in 0..files {
                fs::write(dir.join(format!("n{n}")), [1; 100]).expect("create");
            }
            for n in 0..files {
                assert_eq!(
                    fs::read(dir.join(format!("n{n}"))).expect("read").len(),
                    100
                );
            }
            for n in 0..files {
                fs::remove_file(dir.join(format!("n{n}"))).expect("unlink");
            }
            // RELEASE comes after close(2) has returned.
            std::thread::sleep(Duration::from_millis(200));
            let after = harness::stats(&etcfs);
            let of = |stats: &serde_json::Value, name: &str| {
                let ops = stats["ops"].as_array().expect("figures by opcode");
                let op = ops.iter().find(|op| op["op"] == name);
                op.map_or(0, |op| op["count"].as_u64().expect("a number"))
            };
            ["LOOKUP", "CREATE", "GETXATTR", "OPEN", "RELEASE", "UNLINK"]
                .map(|name| of(&after, name) - of(&before, name))
        };
        let few = counts(300);
        assert!(few.iter().all(|count| *count >= 300), "{few:?}");
        // etcfsctl looks its socket up through the mount's root, or not at all.
        assert_eq!(counts(3000), few.map(|count| count * 10));
    });
}
