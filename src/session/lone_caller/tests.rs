use super::*;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use std::thread;

/// Long enough for a thread to be woken on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Holds the calling thread on one CPU and returns it, with the thread's number.
fn stay() -> (usize, u32) {
    let allowed = sched_getaffinity(None).expect("the CPUs of this thread");
    let cpu = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu));
    let cpu = cpu.expect("a CPU");
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).expect("to stay on a CPU that is allowed");
    let tid = gettid().as_raw_pid() as u32;
    (cpu, tid)
}

/// Two workers, the second one on this thread's CPU, and a thread that follows; with the number of this thread.
fn two(tick: Duration) -> (Arc<Turns>, u32) {
    let (cpu, tid) = stay();
    let turns = Turns::with_tick([Some(cpu + 1), Some(cpu)], tick);
    let follower = turns.clone();
    thread::spawn(move || follower.follow());
    (turns, tid)
}

/// `count` requests of `caller`, `apart` nanoseconds from each other.
fn ask(turn: &mut Turn, caller: u32, count: u32, apart: u64) {
    for nth in 0..u64::from(count) {
        if nth > 0 {
            turn.wait();
        }
        turn.request(caller, nth * apart);
    }
    // Another one may read alone by now, and whoever waits here would wait for ever.
    turn.step();
}

/// True once `only` says so.
fn comes_to(turns: &Turns, only: usize) -> bool {
    let end = Instant::now() + SOON;
    while turns.only.load(Ordering::Relaxed) != only && Instant::now() < end {
        // The follower shares this thread's CPU.
        thread::sleep(Duration::from_millis(1));
    }
    turns.only.load(Ordering::Relaxed) == only
}

#[test]
fn a_lone_fast_caller_is_read_by_the_worker_on_its_cpu_alone() {
    let (turns, tid) = two(2 * SOON);
    ask(&mut turns.of(0), tid, STREAK + 1, 1_000);
    assert!(comes_to(&turns, 2), "the second worker reads alone");
    let mut other = turns.of(0);
    let (tell, told) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        other.wait();
        tell.send(()).expect("the test waits");
    });
    assert!(
        told.recv_timeout(Duration::from_millis(40)).is_err(),
        "the other worker does not read while one caller is alone"
    );
    // Requests of the kernel itself say nothing.
    turns.of(1).request(0, 0);
    assert_eq!(turns.only.load(Ordering::Relaxed), 2);
    turns.of(1).request(tid + 1, 0);
    told.recv_timeout(SOON)
        .expect("it reads with the others again");
    waiter.join().expect("the waiter");
    turns.end();
}

#[test]
fn a_reader_that_makes_no_step_is_not_alone_for_long() {
    // Working on one request, and with nothing to do.
    for steps in [1, 2] {
        let (turns, tid) = two(Duration::from_millis(1));
        let mut reader = turns.of(1);
        (0..steps).for_each(|_| reader.step());
        let unlike_any_other = 3 * STREAK;
        turns.streak.store(unlike_any_other, Ordering::Relaxed);
        turns.of(0).nominate(tid);
        let end = Instant::now() + SOON;
        while turns.streak.load(Ordering::Relaxed) == unlike_any_other {
            assert!(Instant::now() < end, "it has stopped following");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(comes_to(&turns, 0), "all of them read");
        turns.end();
    }
}

#[test]
fn neither_a_slow_caller_nor_one_of_several_is_followed() {
    let turns = Turns::new([Some(0), Some(1)]);
    ask(&mut turns.of(0), 7, 3 * STREAK, APART + 1);
    let mut turn = turns.of(0);
    for nth in 0..3 * STREAK {
        turn.request(7 + nth % 2, u64::from(nth));
    }
    assert_eq!(turns.lock().candidate, None);
    ask(&mut turns.of(0), 7, STREAK + 1, 1_000);
    assert_eq!(turns.lock().candidate, Some(7), "it would have been seen");
}

#[test]
fn callers_that_prove_not_to_be_alone_need_longer_streaks() {
    let short = Duration::from_millis(1);
    assert_eq!(next_streak(STREAK, short), 2 * STREAK);
    assert_eq!(next_streak(STREAK_MAX, short), STREAK_MAX);
    assert_eq!(next_streak(STREAK_MAX, ALONE), STREAK);
}

#[test]
fn the_end_wakes_everybody_and_nobody_is_followed_after_it() {
    let (turns, tid) = two(2 * SOON);
    turns.of(0).nominate(tid);
    assert!(comes_to(&turns, 2));
    let mut other = turns.of(0);
    let waiter = thread::spawn(move || other.wait());
    turns.end();
    waiter.join().expect("it reads, and learns of the end");
    turns.assign(tid, 1);
    assert_eq!(turns.only.load(Ordering::Relaxed), 0);
}

#[test]
fn a_single_worker_always_reads() {
    let turns = Turns::new([Some(0)]);
    turns.follow();
    ask(&mut turns.of(0), 7, 10 * STREAK, 1_000);
    assert_eq!(turns.lock().candidate, None);
    assert_eq!(turns.only.load(Ordering::Relaxed), 0);
}

#[test]
fn a_caller_on_a_cpu_without_a_worker_is_served_by_all() {
    // CPUs that came online after the start, or that the daemon's cpuset lacks.
    let (cpu, tid) = stay();
    let turns = Turns::with_tick(
        [Some(cpu + 1), Some(cpu + 2), None],
        Duration::from_millis(1),
    );
    let unlike_any_other = 3 * STREAK;
    turns.streak.store(unlike_any_other, Ordering::Relaxed);
    turns.of(0).nominate(tid);
    let follower = turns.clone();
    let thread = thread::spawn(move || follower.follow());
    let end = Instant::now() + SOON;
    while turns.streak.load(Ordering::Relaxed) == unlike_any_other {
        assert!(Instant::now() < end, "it is given up");
        assert!((0..3).all(|index| turns.reads(index)));
        thread::sleep(Duration::from_millis(1));
    }
    assert!((0..3).all(|index| turns.reads(index)));
    turns.end();
    thread.join().expect("the follower");
}

#[test]
fn of_sixty_four_workers_the_one_on_the_callers_cpu_reads_alone() {
    let (cpu, tid) = stay();
    // In an order that says nothing, as a cpuset may leave it.
    let turns = Turns::with_tick((0..64).map(|n| Some((cpu + 37 * n) % 64)), 2 * SOON);
    assert_eq!(turns.worker_on(cpu), Some(0));
    assert_eq!(turns.worker_on((cpu + 37) % 64), Some(1));
    assert_eq!(turns.worker_on(64), None);
    let follower = turns.clone();
    thread::spawn(move || follower.follow());
    ask(&mut turns.of(63), tid, STREAK + 1, 1_000);
    assert!(comes_to(&turns, 1));
    assert!((1..64).all(|index| !turns.reads(index)));
    turns.end();
    assert!((0..64).all(|index| turns.reads(index)));
}

#[test]
fn a_worker_is_relieved_once_and_knows_it() {
    let turns = Turns::new([Some(0), Some(1)]);
    let first = turns.of(0);
    let holder = turns.holder(0);
    let second = turns.relieve(0, holder).expect("it takes the place");
    assert!(first.is_relieved() && !second.is_relieved());
    assert_eq!((second.index(), second.cpu()), (0, Some(0)));
    assert!(
        turns.relieve(0, holder).is_none(),
        "that one has been relieved"
    );
    assert!(!first.leave(), "its place is another's");
    assert!(second.leave());
    assert!(
        turns.relieve(0, turns.holder(0)).is_none(),
        "nobody is there to be relieved"
    );
}

#[test]
fn a_worker_that_reads_follows_one_that_works() {
    let turns = Turns::new([Some(0), Some(1)]);
    let (mut one, mut other) = (turns.of(0), turns.of(1));
    one.wait();
    other.wait();
    one.request(7, 0);
    assert!(one.may_be_followed(), "the other reads");
    other.request(8, 0);
    assert!(!one.may_be_followed() && !other.may_be_followed());
    one.wait();
    assert!(other.may_be_followed());
    turns.only.store(2, Ordering::Relaxed);
    assert!(!other.may_be_followed(), "the other one is not to read");
}
