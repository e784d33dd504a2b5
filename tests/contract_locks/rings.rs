//! Rings of processes that wait for each other: EDEADLK for the one that natively gets it, and for no other.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::DEADLINE;
use crate::agent::{Agent, Answer, Started};
use crate::places::{RDWR, ok, on_both_and_beneath};

const DEADLOCK: Answer = Err(Errno::DEADLK);

/// Where the file is, and the lower file, natively the same.
#[derive(Clone, Copy)]
struct Place<'a>(&'a Path, &'a Path);

/// How many requests wait for locks of a lower file: whoever comes next is behind them.
fn waiting(lower: &Path) -> usize {
    let stat = fs::metadata(lower).expect("stat");
    let (major, minor) = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
    let inode = format!(" {major:02x}:{minor:02x}:{} ", stat.ino());
    let locks = fs::read_to_string("/proc/locks").expect("/proc/locks");
    let of_file = locks.lines().filter(|line| line.contains(&inode));
    of_file.filter(|line| line.contains("->")).count()
}

/// A process with the file open.
struct Party {
    agent: Agent,
    fd: i32,
    lower: PathBuf,
}

impl Party {
    fn new(place: Place<'_>) -> Self {
        let mut agent = Agent::new();
        let fd = agent.open(place.0, RDWR);
        let lower = place.1.to_owned();
        Self { agent, fd, lower }
    }

    fn locks(&mut self, kind: &str, start: i64, len: i64) {
        let call = format!("setlk {} {kind} {start} {len}", self.fd);
        assert_eq!(self.agent.call(&call), ok(), "{call}");
    }

    fn begins(&mut self, kind: &str, start: i64, len: i64) -> Started {
        let call = format!("setlkw {} {kind} {start} {len}", self.fd);
        self.agent.start(&call)
    }

    /// A wait that must last, and has begun.
    fn waits(&mut self, kind: &str, start: i64, len: i64) -> Started {
        let before = waiting(&self.lower);
        let started = self.begins(kind, start, len);
        let until = Instant::now() + DEADLINE;
        while waiting(&self.lower) == before {
            let answer = self.agent.answer_within(started, Duration::from_millis(2));
            assert_eq!(answer, None, "{kind} {start} {len}");
            assert!(Instant::now() < until, "it does not begin to wait");
        }
        started
    }
}

fn parties<const N: usize>(place: Place<'_>) -> [Party; N] {
    std::array::from_fn(|n| {
        let mut party = Party::new(place);
        party.locks("w", n as i64, 1);
        party
    })
}

#[test]
fn the_last_of_two_three_or_four_that_closes_a_ring_is_told_9_8() {
    fn ring<const N: usize>(place: Place<'_>) {
        let mut all = parties::<N>(place);
        let waits: Vec<_> = (0..N - 1)
            .map(|n| all[n].waits("w", n as i64 + 1, 1))
            .collect();
        let last = all[N - 1].begins("w", 0, 1);
        assert_eq!(all[N - 1].agent.answer(last), DEADLOCK, "{N}");
        // The others go on, and get what they wait for one after the other.
        for (n, wait) in waits.into_iter().enumerate().rev() {
            assert!(all[n].agent.waits(wait), "{n} of {N}");
            all[n + 1].locks("u", 0, 0);
            assert_eq!(all[n].agent.answer(wait), ok(), "{n} of {N}");
        }
    }
    on_both_and_beneath(|file, lower| {
        ring::<2>(Place(file, lower));
        ring::<3>(Place(file, lower));
        ring::<4>(Place(file, lower));
    });
}

/// What the last one waits for is held by two, of whom the first waits for nobody. Only when that one gives way does the
/// wait for the second close a ring (LTP's fcntl17 has this, too).
#[test]
fn a_ring_that_closes_when_somebody_gives_way_is_found_then_9_8() {
    on_both_and_beneath(|file, lower| {
        let [mut first, mut second, mut last] = parties::<3>(Place(file, lower));
        let waiting = second.waits("w", 2, 1);
        let ring = last.waits("w", 0, 2);
        assert!(second.agent.waits(waiting));
        first.locks("u", 0, 0);
        assert_eq!(last.agent.answer(ring), DEADLOCK);
        assert!(second.agent.waits(waiting), "it is not in it any more");
        last.locks("u", 0, 0);
        assert_eq!(second.agent.answer(waiting), ok());
    });
}

/// The same with an exit in the place of the unlock, and with readers in the way.
#[test]
fn a_ring_that_closes_when_a_reader_ends_is_found_then_9_8() {
    on_both_and_beneath(|file, lower| {
        let [mut first, mut second, mut last] = parties::<3>(Place(file, lower));
        first.locks("r", 10, 5);
        second.locks("r", 10, 5);
        let waiting = second.waits("w", 2, 1);
        let ring = last.waits("w", 12, 1);
        first.agent.kill();
        assert_eq!(last.agent.answer(ring), DEADLOCK);
        assert!(second.agent.waits(waiting));
    });
}

/// Two wait for the same; when one of them gets it, the other waits for that one, which waits for it in another thread.
#[test]
fn a_ring_that_closes_when_somebody_gets_a_lock_is_found_then_9_8() {
    on_both_and_beneath(|file, lower| {
        let [mut first, mut second, mut last] = parties::<3>(Place(file, lower));
        let other = second.waits("w", 2, 1);
        let gets = second.waits("w", 0, 1);
        let ring = last.waits("w", 0, 1);
        first.locks("u", 0, 0);
        assert_eq!(second.agent.answer(gets), ok());
        assert_eq!(last.agent.answer(ring), DEADLOCK);
        last.locks("u", 0, 0);
        assert_eq!(second.agent.answer(other), ok());
    });
}

/// What would be a ring if the second reader were asked too is none as long as the first one is in the way.
#[test]
fn who_may_still_be_freed_is_not_told_of_a_ring_9_8() {
    on_both_and_beneath(|file, lower| {
        let [mut first, mut second, mut last] = parties::<3>(Place(file, lower));
        first.locks("r", 10, 5);
        second.locks("r", 10, 5);
        let waiting = second.waits("w", 2, 1);
        let free = last.waits("w", 12, 1);
        last.locks("u", 2, 1);
        assert_eq!(second.agent.answer(waiting), ok());
        second.locks("u", 0, 0);
        assert!(last.agent.waits(free));
        first.locks("u", 0, 0);
        assert_eq!(last.agent.answer(free), ok());
    });
}

/// Whose locks are an open file's waits for ever: a ring of those is nobody's mistake, another thread may open it.
#[test]
fn open_files_in_a_ring_wait_9_8() {
    on_both_and_beneath(|file, _| {
        let mut agent = Agent::new();
        let (one, two) = (agent.open(file, RDWR), agent.open(file, RDWR));
        assert_eq!(agent.call(&format!("ofd_setlk {one} w 0 1")), ok());
        assert_eq!(agent.call(&format!("ofd_setlk {two} w 1 1")), ok());
        let first = agent.start(&format!("ofd_setlkw {one} w 1 1"));
        assert!(agent.waits(first));
        let second = agent.start(&format!("ofd_setlkw {two} w 0 1"));
        assert!(agent.waits(first) && agent.waits(second));
        assert_eq!(agent.call(&format!("ofd_setlk {two} u 1 1")), ok());
        assert_eq!(agent.answer(first), ok());
        assert!(agent.waits(second));
    });
}
