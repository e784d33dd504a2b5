//! What every thread that answers requests counts: how many, how long, with what errors, and what it is at.
//!
//! A thread writes its own [`Meter`] only, with plain loads and stores of its own memory: no lock, no shared cache line,
//! no allocation. Readers add the meters up and may see a request in one figure and not yet in another. The histograms are
//! arrays of atomics for that reason: those of crates are written through `&mut` and grow.

mod counts;
mod watch;

pub(crate) use counts::{Counts, Snapshot};
pub(crate) use watch::{InFlight, Waker};

use crate::mutex::lock;
use etcfs_proto::{Frame, Opcode};
use rustix::time::{ClockId, clock_gettime};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use zerocopy::FromZeros;

/// Rows of a meter: opcodes by number, and in the last row all others and what could not be read as a request.
const ROWS: usize = 64;
/// Error numbers told apart; larger ones, which no handler gives, are counted under 0.
const ERRNOS: usize = 160;
/// Buckets per doubling of the latency: 16, so that a bucket is at most 6.25 % wide.
const SUB_BITS: u32 = 4;
/// Latencies from 2^40 ns (18 minutes) on share one bucket.
const TOP_BIT: u32 = 40;
/// Buckets of a histogram.
pub(crate) const BUCKETS: usize = ((TOP_BIT - SUB_BITS + 1) << SUB_BITS) as usize + 1;

/// Nanoseconds of CLOCK_MONOTONIC. Read through the vDSO, without a system call.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither part of this clock is ever negative.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The bucket of a latency in nanoseconds: exact below 16, then 16 per doubling.
fn bucket(ns: u64) -> usize {
    let ns = ns.min(1 << TOP_BIT);
    if ns < 1 << SUB_BITS {
        return ns as usize;
    }
    let exponent = 63 - ns.leading_zeros() - SUB_BITS;
    ((exponent as usize) << SUB_BITS) + (ns >> exponent) as usize
}

/// The largest latency that a bucket counts, in nanoseconds.
fn bucket_end(bucket: usize) -> u64 {
    let fine = 1 << SUB_BITS;
    if bucket < fine {
        return bucket as u64;
    }
    let exponent = bucket / fine - 1;
    ((bucket % fine + fine + 1) as u64).wrapping_shl(exponent as u32) - 1
}

/// Adds to a counter that this thread alone writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// The figures of one opcode.
#[derive(FromZeros)]
#[repr(C)]
struct Row {
    /// Sum of latencies, ns.
    total: AtomicU64,
    /// Largest latency, ns.
    max: AtomicU64,
    /// Bytes that clients read: bodies of READ's answers.
    read: AtomicU64,
    /// Bytes that clients wrote: data of WRITE requests that succeeded.
    written: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// What one thread has counted. About 350 KiB of zeros, of which only the pages of opcodes in use take memory.
#[derive(FromZeros)]
#[repr(C, align(128))]
pub(crate) struct Meter {
    current: watch::Current,
    rows: [Row; ROWS],
    errors: [[AtomicU32; ERRNOS]; ROWS],
}

/// How a request went.
pub(crate) struct Done {
    /// When the request was read, see [`now`].
    pub(crate) taken: u64,
    /// 0, or the error number of the answer.
    pub(crate) errno: i32,
    /// Bytes that the client has read.
    pub(crate) read: usize,
    /// Bytes that the client has written.
    pub(crate) written: usize,
}

impl Done {
    /// A request answered with `errno`, or 0, that moved no bytes.
    pub(crate) fn failed(taken: u64, errno: i32) -> Done {
        Done {
            taken,
            errno,
            read: 0,
            written: 0,
        }
    }
}

impl Meter {
    /// Says what the thread is at.
    pub(crate) fn begin(&self, frame: &Frame<'_>, taken: u64) {
        self.current.begin(frame.head, taken);
    }

    /// Says that the thread is at no request any more, because another one finishes and counts it.
    pub(crate) fn hand_on(&self) {
        self.current.end();
    }

    /// Counts a request and says that the thread is at none; returns the time.
    pub(crate) fn end(&self, opcode: Opcode, done: &Done) -> u64 {
        let at = usize::try_from(opcode.0).map_or(ROWS - 1, |number| number.min(ROWS - 1));
        let row = &self.rows[at];
        let end = now();
        let ns = end.saturating_sub(done.taken);
        add(&row.buckets[bucket(ns)], 1);
        add(&row.total, ns);
        if ns > row.max.load(Ordering::Relaxed) {
            row.max.store(ns, Ordering::Relaxed);
        }
        if done.read > 0 {
            add(&row.read, done.read as u64);
        }
        if done.written > 0 {
            add(&row.written, done.written as u64);
        }
        if done.errno != 0 {
            let errno = usize::try_from(done.errno)
                .ok()
                .filter(|&n| n < ERRNOS)
                .unwrap_or(0);
            let counter = &self.errors[at][errno];
            counter.store(
                counter.load(Ordering::Relaxed).wrapping_add(1),
                Ordering::Relaxed,
            );
        }
        self.current.end();
        end
    }
}

/// What kind of thread a meter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Reads requests and answers them.
    Worker,
    /// Answers requests that may take long.
    Aside,
}

/// A meter with its place in the list.
struct MeterOfThread {
    meter: Box<Meter>,
    role: Role,
    /// The thread's id; 0 while no thread has this meter.
    tid: AtomicU32,
}

/// A thread's own meter, for as long as the thread works; the figures stay, and the next thread of that role adds to them.
pub(crate) struct Seat(Arc<MeterOfThread>);

impl Deref for Seat {
    type Target = Meter;

    fn deref(&self) -> &Meter {
        &self.0.meter
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.tid.store(0, Ordering::Release);
    }
}

/// The meters of a session.
pub(crate) struct Meters {
    all: Mutex<Vec<Arc<MeterOfThread>>>,
    /// When counting began, see [`now`].
    pub(crate) since: u64,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            all: Mutex::default(),
            since: now(),
        }
    }
}

impl Meters {
    /// A meter for the calling thread, a worker with place `index`.
    pub(crate) fn sit_at(&self, index: usize) -> Seat {
        let seat = self.sit(Role::Worker);
        seat.current.set_place(Some(index));
        seat
    }

    /// A meter for the calling thread.
    pub(crate) fn sit(&self, role: Role) -> Seat {
        let tid = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        let mut all = lock(&self.all);
        let free = |entry: &&Arc<MeterOfThread>| {
            entry.role == role
                && entry
                    .tid
                    .compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        };
        if let Some(entry) = all.iter().find(free) {
            entry.meter.current.set_place(None);
            return Seat(entry.clone());
        }
        let meter = Meter::new_box_zeroed().expect("memory for a thread's counters");
        let entry = Arc::new(MeterOfThread {
            meter,
            role,
            tid: AtomicU32::new(tid),
        });
        all.push(entry.clone());
        Seat(entry)
    }

    /// The sums of all meters, and what every thread is at.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let all = lock(&self.all).clone();
        Snapshot::of(&all)
    }

    /// What is being worked on, by thread, into `found`. Allocates only to grow it.
    pub(crate) fn read_in_flight(&self, found: &mut Vec<InFlight>) {
        found.clear();
        found.extend(lock(&self.all).iter().filter_map(|entry| entry.in_flight()));
    }

    /// What is being worked on, by thread.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let all = lock(&self.all).clone();
        all.iter().filter_map(|entry| entry.in_flight()).collect()
    }
}

impl MeterOfThread {
    fn in_flight(&self) -> Option<InFlight> {
        let tid = self.tid.load(Ordering::Acquire);
        self.meter.current.read(tid)
    }
}

#[cfg(test)]
mod tests;
