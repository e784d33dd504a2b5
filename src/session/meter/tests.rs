use super::buckets::{BUCKETS, TOP_BIT, bucket, bucket_end};
use super::*;
use etcfs_proto::{Frame, Opcode};

#[test]
fn buckets_join_without_gap_and_are_at_most_a_sixteenth_wide() {
    let mut start = 0;
    for at in 0..BUCKETS - 1 {
        let end = bucket_end(at);
        assert_eq!(bucket(start), at, "start {start}");
        assert_eq!(bucket(end), at, "end {end}");
        assert!(end - start <= start / 16, "{start}..={end}");
        start = end + 1;
    }
    assert_eq!(start, 1 << TOP_BIT);
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

fn count(meter: &Meter, opcode: Opcode, ns: u64, errno: i32) {
    let done = Done {
        taken: now().saturating_sub(ns),
        errno,
        read: 3,
        written: 0,
    };
    meter.end(opcode, &done);
}

#[test]
fn figures_of_all_threads_add_up_and_stay_when_a_thread_ends() {
    let meters = Meters::over(Ledger::private().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let seat = meters.sit(Role::Aside);
                for _ in 0..100 {
                    count(&seat, Opcode::FSYNC, 1_000_000, 0);
                }
                count(&seat, Opcode::FSYNC, 1_000, 5);
            });
        }
    });
    let seat = meters.sit(Role::Worker);
    count(&seat, Opcode(4_000_000), 1, 38);
    let snapshot = meters.snapshot();
    let fsync = &snapshot.ops[&Opcode::FSYNC];
    assert_eq!(fsync.count, 303);
    assert_eq!(fsync.errors, BTreeMap::from([(5, 3)]));
    assert_eq!(fsync.read, 909);
    assert!((1_000_000..3_000_000).contains(&fsync.quantile(0.5)));
    assert_eq!(snapshot.ops[&Snapshot::OTHER].count, 1);
    let tids: Vec<u32> = snapshot.threads.iter().map(|t| t.tid).collect();
    assert_eq!(tids.iter().filter(|tid| **tid != 0).count(), 1, "{tids:?}");
}

#[test]
fn a_difference_holds_what_came_after() {
    let meters = Meters::over(Ledger::private().unwrap());
    let seat = meters.sit(Role::Worker);
    count(&seat, Opcode::READ, 5_000_000_000, 5);
    let earlier = meters.snapshot();
    assert!(meters.snapshot().since(&earlier).ops.is_empty());
    count(&seat, Opcode::READ, 1_000_000, 2);
    let later = meters.snapshot().since(&earlier);
    let read = &later.ops[&Opcode::READ];
    assert_eq!((read.count, read.read), (1, 3));
    assert_eq!(read.errors, BTreeMap::from([(2, 1)]));
    assert!(read.max_ns < 1_000_000_000, "{}", read.max_ns);
}

#[test]
fn quantiles_lie_within_a_sixteenth() {
    let meters = Meters::over(Ledger::private().unwrap());
    let seat = meters.sit(Role::Worker);
    for ms in 1..=1000 {
        count(&seat, Opcode::READ, ms * 1_000_000, 0);
    }
    let snapshot = meters.snapshot();
    let read = &snapshot.ops[&Opcode::READ];
    for (share, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
        let found = read.quantile(share) as f64 / 1e6;
        assert!((found / ms - 1.0).abs() < 0.07, "{share}: {found} ms");
    }
    assert_eq!(read.quantile(1.0), read.max_ns);
}

#[test]
fn a_request_is_seen_while_it_lasts() {
    use etcfs_proto::abi::InHeader;
    let meters = Meters::over(Ledger::private().unwrap());
    let seat = meters.sit(Role::Worker);
    assert_eq!(meters.in_flight(), []);
    let head = InHeader {
        opcode: Opcode::READ.0,
        unique: 8,
        nodeid: 3,
        uid: 1000,
        pid: 77,
        ..InHeader::new_zeroed()
    };
    let frame = Frame {
        head: &head,
        args: &[],
        tail: &[],
        ext: &[],
    };
    seat.begin(&frame, 5);
    let seen = meters.in_flight()[0];
    assert_eq!(
        (seen.opcode, seen.unique, seen.nodeid),
        (Opcode::READ, 8, 3)
    );
    assert_eq!((seen.uid, seen.pid, seen.taken), (1000, 77, 5));
    count(&seat, Opcode::READ, 1, 0);
    assert_eq!(meters.in_flight(), []);
}

#[test]
fn a_watcher_sleeps_until_a_request_begins() {
    let waker = Waker::default();
    waker.drowse();
    assert!(!waker.sleep(Some(std::time::Duration::from_millis(1))));
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| waker.sleep(None));
        waker.request();
        assert!(sleeper.join().expect("the sleeper returns"));
    });
}

use std::collections::BTreeMap;

#[test]
fn a_successor_goes_on_counting() {
    let ledger = Ledger::private().unwrap();
    let meters = Meters::over(ledger);
    let seats = [Role::Worker, Role::Aside].map(|role| meters.sit(role));
    count(&seats[0], Opcode::READ, 1_000_000, 0);
    count(&seats[1], Opcode::FSYNC, 2_000_000, 5);
    let had = meters.snapshot();
    let since = meters.since;
    std::mem::forget((seats, meters));
    let meters = Meters::over(ledger);
    assert_eq!(meters.since, since);
    assert_eq!(meters.snapshot().ops, had.ops);
    assert!(
        meters
            .snapshot()
            .threads
            .iter()
            .all(|thread| thread.tid == 0)
    );
    // The meters of threads that are gone are the next ones'.
    let seat = meters.sit(Role::Aside);
    count(&seat, Opcode::FSYNC, 1, 5);
    assert_eq!(meters.snapshot().ops[&Opcode::FSYNC].errors[&5], 2);
    assert_eq!(meters.snapshot().threads.len(), 2);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]

    #[test]
    fn any_bytes_are_counters_or_none(
        words in proptest::collection::vec((0..44_000_usize, proptest::num::u64::ANY), 0..200),
        role in 0..4_u64,
    ) {
        let ledger = Ledger::private().unwrap();
        let meters = Meters::over(ledger);
        drop(meters.sit(Role::Worker));
        let all = ledger.words(Region::Meters);
        for (at, word) in words {
            all[at].store(word, Ordering::Relaxed);
        }
        all[0].store(role, Ordering::Relaxed);
        let meters = Meters::over(ledger);
        let snapshot = meters.snapshot();
        for counts in snapshot.ops.values() {
            counts.quantile(0.5);
            counts.cumulative().count();
            let _ = snapshot.since(&snapshot);
        }
        drop(meters.sit(Role::Worker));
    }
}
