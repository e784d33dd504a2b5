//! What is counted of the mode.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct WatchCounts {
    /// Names that an event has made the kernel let go of.
    pub(super) by_event: AtomicU64,
    /// Times at which the queue of events has overflowed and everything was let go of.
    pub(super) overflows: AtomicU64,
    /// Directories given up for others.
    pub(super) evicted: AtomicU64,
    /// When the oldest event was seen that is not dealt with, ms of the monotonic clock; 0: there is none.
    pub(super) since: AtomicU64,
}

/// What the mode has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Names that the kernel may keep.
    pub(crate) kept: usize,
    /// Directories that are watched.
    pub(crate) watched: usize,
    /// How many may be.
    pub(crate) most: usize,
    /// Bytes that the daemon holds for both, about.
    pub(crate) bytes: usize,
    /// See [`WatchCounts`].
    pub(crate) by_event: u64,
    /// See there.
    pub(crate) overflows: u64,
    /// See there.
    pub(crate) evicted: u64,
    /// How long the oldest event waits that is not dealt with, in ms.
    pub(crate) oldest: u64,
    /// A watch was asked for and not had.
    pub(crate) failed: bool,
}

impl WatchCounts {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
