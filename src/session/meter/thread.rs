//! What one thread counts.

use super::buckets::{BUCKETS, bucket};
use super::clock::now;
use super::watch::{Current, InFlight};
use crate::ledger::table::FlatRecord;
use etcfs_proto::{Frame, Opcode};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// Rows of a meter: opcodes by number, and in the last row all others and what could not be read as a request.
pub(super) const ROWS: usize = 64;
/// Error numbers told apart; larger ones, which no handler gives, are counted under 0.
pub(super) const ERRNOS: usize = 160;
/// Adds to a counter that this thread alone writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// The figures of one opcode.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct OpcodeRow {
    /// Sum of latencies, ns.
    pub(super) total: AtomicU64,
    /// Largest latency, ns.
    pub(super) max: AtomicU64,
    /// Bytes that clients read: bodies of READ's answers.
    pub(super) read: AtomicU64,
    /// Bytes that clients wrote: data of WRITE requests that succeeded.
    pub(super) written: AtomicU64,
    pub(super) buckets: [AtomicU64; BUCKETS],
}

/// What one thread has counted. About 350 KiB of zeros, of which only the pages of opcodes in use take memory: for an alignment
/// above that of malloc(3) the allocator would have to write them all.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct Meter {
    /// Its [`Role`], by number from 1; 0: the meter is nobody's, and nothing has been counted.
    pub(super) role: AtomicU32,
    /// The thread's id; 0 while no thread has this meter.
    pub(super) tid: AtomicU32,
    /// Keeps `current` off the cache lines of what lies before.
    _apart: [u64; 16],
    pub(super) current: Current,
    pub(super) rows: [OpcodeRow; ROWS],
    pub(super) errors: [[AtomicU32; ERRNOS]; ROWS],
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

impl Role {
    /// As it stands in a meter.
    pub(super) fn code(self) -> u32 {
        self as u32 + 1
    }
}

impl FlatRecord for Meter {
    fn is_used(&self) -> bool {
        self.role.load(Ordering::Acquire) != 0
    }
}

impl Meter {
    /// What kind of thread it belongs to. `None`: of none that there is.
    pub(super) fn role(&self) -> Option<Role> {
        let code = self.role.load(Ordering::Acquire);
        [Role::Worker, Role::Aside]
            .into_iter()
            .find(|role| role.code() == code)
    }

    /// What its thread is at.
    pub(super) fn in_flight(&self) -> Option<InFlight> {
        self.current.read(self.tid.load(Ordering::Acquire))
    }

    /// Takes it for thread `tid` if no thread has it.
    pub(super) fn seat(&self, tid: u32) -> bool {
        let (free, none) = (Ordering::AcqRel, Ordering::Relaxed);
        self.tid.compare_exchange(0, tid, free, none).is_ok()
    }

    /// Says that its thread, which was at something or not, is gone.
    pub(super) fn leave(&self) {
        self.current.end();
        self.current.set_place(None);
        self.tid.store(0, Ordering::Release);
    }
}
