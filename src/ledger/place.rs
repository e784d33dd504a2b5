//! Places of the daemon's own in lower directories, for as long as they are there: see `fs::staging`.

use super::table::{FlatRecord, number};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// A place.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct PlaceRecord {
    /// 0: not in use.
    state: AtomicU32,
    /// One more than the number of the descriptor of the directory around it.
    within: AtomicI32,
    /// What its name ends with.
    place: AtomicU64,
    /// What the name of the object in it ends with.
    object: AtomicU64,
}

/// What a record says: the directory around the place, and the ends of names of the place and of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceFound {
    /// The directory around it.
    pub(crate) within: Option<RawFd>,
    /// Of the place.
    pub(crate) place: u64,
    /// Of the object.
    pub(crate) object: u64,
}

impl FlatRecord for PlaceRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    fn name_descriptors(&self, named: &mut Vec<RawFd>) {
        named.extend(number(self.within.load(Ordering::Relaxed)));
    }
}

impl PlaceRecord {
    /// Says what is about to be made within the directory `within`.
    pub(crate) fn begin(&self, within: RawFd, place: u64, object: u64) {
        self.within
            .store(within.saturating_add(1), Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
        self.object.store(object, Ordering::Relaxed);
        self.state.store(1, Ordering::Release);
    }

    /// What it says.
    pub(crate) fn found(&self) -> PlaceFound {
        PlaceFound {
            within: number(self.within.load(Ordering::Relaxed)),
            place: self.place.load(Ordering::Relaxed),
            object: self.object.load(Ordering::Relaxed),
        }
    }

    /// Says that there is nothing any more.
    pub(crate) fn end(&self) {
        self.state.store(0, Ordering::Release);
    }
}
