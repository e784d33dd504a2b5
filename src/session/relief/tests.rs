//! Requests that are stuck, of one user and of many.

use crate::session::fake::FakeKernel;
use etcfs_proto::Opcode;
use etcfs_proto::abi::GetattrIn;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes as _;

/// See `ops::trial`.
const TRIAL: Opcode = Opcode(7);
/// Longer than a test takes, in milliseconds.
const FOR_EVER: u64 = 600_000;

/// How long `uid` waits for the attributes of the root, while others' requests are not answered.
fn ask(kernel: &FakeKernel, uid: u32, unique: u64) -> Duration {
    let began = Instant::now();
    let body = GetattrIn::default();
    kernel.send_of(uid, unique, Opcode::GETATTR, 1, body.as_bytes());
    let (answered, result) = kernel.answer_within(20_000).expect("an answer");
    assert!(answered == unique && result.is_ok(), "{result:?}");
    began.elapsed()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("tasks").count()
}

#[test]
fn one_user_with_hundreds_of_stuck_requests_keeps_nobody_else_waiting() {
    let kernel = FakeKernel::new("stuck");
    let before = threads();
    for n in 0..500 {
        kernel.send_of(1000, 1000 + 2 * n, TRIAL, 1, &FOR_EVER.to_ne_bytes());
    }
    let slowest = (0..200).map(|n| ask(&kernel, if n % 2 == 0 { 0 } else { 1001 }, 10_000 + 2 * n));
    let slowest = slowest.max().expect("some");
    println!("slowest of 200 requests of others: {slowest:?}");
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    assert!(
        threads() - before < 40,
        "{} threads more",
        threads() - before
    );
    // The user's own wait for each other.
    kernel.send_of(
        1000,
        5000,
        Opcode::GETATTR,
        1,
        GetattrIn::default().as_bytes(),
    );
    assert_eq!(kernel.answer_within(50), None);
}

#[test]
fn many_users_with_stuck_requests_leave_root_its_answers_and_take_bounded_threads() {
    let kernel = FakeKernel::new("many");
    let before = threads();
    for n in 0..300_u32 {
        let unique = 1000 + 2 * u64::from(n);
        kernel.send_of(2000 + n, unique, TRIAL, 1, &FOR_EVER.to_ne_bytes());
        if n % 10 == 0 {
            ask(&kernel, 0, 50_000 + 2 * u64::from(n));
            // So that each gets its chance to have a worker stuck.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let slowest = (0..100).map(|n| ask(&kernel, 0, 10_000 + 2 * n)).max();
    println!("slowest of 100 requests of root: {slowest:?}");
    assert!(slowest < Some(Duration::from_secs(20)), "{slowest:?}");
    assert!(
        threads() - before < 200,
        "{} threads more",
        threads() - before
    );
}

#[test]
fn roots_own_stuck_requests_leave_it_a_way_for_the_others() {
    let kernel = FakeKernel::new("root");
    for n in 0..20 {
        kernel.send_of(0, 1000 + 2 * n, TRIAL, 1, &FOR_EVER.to_ne_bytes());
    }
    let slowest = (0..50).map(|n| ask(&kernel, 0, 10_000 + 2 * n)).max();
    assert!(slowest < Some(Duration::from_secs(20)), "{slowest:?}");
    ask(&kernel, 1000, 20_000);
}

#[test]
fn what_was_stuck_is_answered_once_and_its_threads_leave() {
    let kernel = FakeKernel::new("ends");
    let before = threads();
    for n in 0..60 {
        kernel.send_of(
            1000 + n % 3,
            1000 + 2 * u64::from(n),
            TRIAL,
            1,
            &60_u64.to_ne_bytes(),
        );
    }
    let mut answered = HashSet::new();
    for _ in 0..60 {
        let (unique, result) = kernel.answer_within(20_000).expect("an answer");
        assert_eq!(result, Ok(vec![]));
        assert!(answered.insert(unique), "{unique} twice");
    }
    assert_eq!(kernel.answer_within(20), None);
    let end = Instant::now() + Duration::from_secs(20);
    // Two threads of the pool are kept.
    while threads() > before + 2 || kernel.session.crew.relieved() > 0 {
        assert!(
            Instant::now() < end,
            "{} threads, {before} before",
            threads()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    for n in 0..100 {
        ask(&kernel, 1000 + n as u32 % 3, 10_000 + 2 * n);
    }
}
