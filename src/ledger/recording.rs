//! Recordings that are being made, for as long as they are: see [`super::stream`].

use super::table::{FlatRecord, number};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// A recording.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct RecordingRecord {
    /// 0: not in use.
    pub(super) state: AtomicU32,
    /// One more than the number of the client's descriptor; 0: it ends with its server.
    pub(super) client: AtomicI32,
    /// 1: with the contents of files.
    pub(super) data: AtomicU32,
    /// How many records did not fit since the last one that did.
    pub(super) lost: AtomicU32,
    /// When it began, ns of the monotonic clock.
    pub(super) began: AtomicU64,
    /// Up to where it was written.
    pub(super) written: AtomicU64,
    /// Up to where it was sent.
    pub(super) sent: AtomicU64,
}

impl FlatRecord for RecordingRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    fn name_descriptors(&self, named: &mut Vec<RawFd>) {
        named.extend(number(self.client.load(Ordering::Relaxed)));
    }
}
