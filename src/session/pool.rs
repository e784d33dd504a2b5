//! What waits for a thread to be carried out in.

pub(crate) mod lanes;

use super::buffer::Buffer;
use super::interrupts::Ticket;
use lanes::{Bounds, Lanes, Waiting};
use std::sync::{Condvar, Mutex};

/// How many threads may be at work at once, and how much may wait for them. A thread costs some 30 KiB; what waits is
/// mostly smaller than 1 KiB, but one WRITE has up to 1 MiB, and each is a client's thread that is blocked.
pub(crate) const BOUNDS: Bounds = Bounds {
    each: 4,
    all: 64,
    root: 32,
    bytes_each: 8 << 20,
    bytes_all: 64 << 20,
};

/// A request that waits for a thread.
pub(crate) struct Job {
    /// The message.
    pub(crate) request: Buffer,
    /// Where INTERRUPT of it is noted.
    pub(crate) ticket: Ticket,
    /// Its number.
    pub(crate) unique: u64,
    /// Who asks.
    pub(crate) pid: u32,
    /// Its observers have been told of it.
    pub(crate) shown: bool,
}

impl Waiting for Job {
    fn unique(&self) -> u64 {
        self.unique
    }

    fn bytes(&self) -> usize {
        self.request.bytes().len() + size_of::<Job>()
    }
}

/// The threads and what waits for them.
pub(crate) struct Pool {
    /// What waits and who works.
    pub(crate) state: Mutex<Backlog>,
    /// Wakes threads that sleep.
    pub(crate) work: Condvar,
}

/// What waits and who works.
pub(crate) struct Backlog {
    /// What waits.
    pub(crate) lanes: Lanes<Job>,
    /// How many threads there are.
    pub(crate) threads: usize,
    /// Threads that sleep and have not been called.
    pub(crate) idle: usize,
    /// Threads that have been called and sleep still.
    pub(crate) called: usize,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            state: Mutex::new(Backlog {
                lanes: Lanes::new(BOUNDS),
                threads: 0,
                idle: 0,
                called: 0,
            }),
            work: Condvar::new(),
        }
    }
}
