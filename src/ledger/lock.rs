//! The records of locks. How they change, and what may be found half changed, says `fs::locks::kept`.

use super::table::FlatRecord;
use crate::sys::lock::{LockKind, Range};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// No record.
pub(crate) const NONE: u32 = u32::MAX;

/// Set in [`OwnerRecord::description`] where it is open for writing.
pub(crate) const WRITABLE: u32 = 1 << 31;

/// [`OwnerRecord::watch`]: nobody has looked, it is nobody's, and from here on the descriptor's number, with the process
/// above it.
const UNKNOWN: u64 = 0;
const NOBODYS: u64 = 1;
const PROCESS: u64 = 2;

/// Whose description it is, and what it is.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct OwnerRecord {
    /// 1: of a table of descriptors or an open file, for ranges, 2: of an open file, for `flock(2)`.
    pub(crate) state: AtomicU32,
    /// Its descriptor, with [`WRITABLE`] or without.
    pub(crate) description: AtomicU32,
    pub(crate) number: AtomicU64,
    pub(crate) node: AtomicU64,
    /// The user who is charged.
    pub(crate) uid: AtomicU32,
    /// The process that locked the last range.
    pub(crate) pid: AtomicU32,
    /// When the first of what is held was locked.
    pub(crate) since: AtomicU64,
    pub(crate) watch: AtomicU64,
    /// What is held with `flock(2)`: 0: nothing, otherwise a kind's code.
    pub(crate) flocked: AtomicU32,
    unused: AtomicU32,
    #[cfg(feature = "other-state")]
    later: [AtomicU64; 3],
}

/// A locked range.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct RangeRecord {
    /// A kind's code.
    pub(crate) state: AtomicU32,
    pub(crate) owner: AtomicU32,
    pub(crate) first: AtomicU64,
    pub(crate) last: AtomicU64,
}

/// A handle through which an owner has locked ranges.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct LockHandleRecord {
    pub(crate) state: AtomicU32,
    pub(crate) owner: AtomicU32,
    pub(crate) fh: AtomicU64,
}

/// A lower lock that is being changed.
#[derive(FromBytes)]
#[repr(C)]
pub(crate) struct ChangeRecord {
    /// A kind's code, or [`UNLOCK`].
    pub(crate) state: AtomicU32,
    pub(crate) owner: AtomicU32,
    pub(crate) first: AtomicU64,
    pub(crate) last: AtomicU64,
}

/// [`ChangeRecord::state`]: the lock is given up.
pub(crate) const UNLOCK: u32 = 3;

/// A kind's code.
pub(crate) fn code(kind: LockKind) -> u32 {
    match kind {
        LockKind::Shared => 1,
        LockKind::Exclusive => 2,
    }
}

/// The kind with that code.
fn kind_of(code: u32) -> Option<LockKind> {
    match code {
        1 => Some(LockKind::Shared),
        2 => Some(LockKind::Exclusive),
        _ => None,
    }
}

macro_rules! records {
    ($($record:ty),*) => {
        $(impl FlatRecord for $record {
            fn is_used(&self) -> bool {
                self.state.load(Ordering::Acquire) != 0
            }
        })*
    };
}
records!(RangeRecord, LockHandleRecord, ChangeRecord);

impl FlatRecord for OwnerRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    fn name_descriptors(&self, named: &mut Vec<RawFd>) {
        named.push(self.description().0);
        if let KeptWatch::Process(_, fd) = self.watch() {
            named.push(fd);
        }
    }
}

/// With which process an owner's locks end, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptWatch {
    /// Nobody has looked.
    Unknown,
    /// With none.
    Nobodys,
    /// With this one, which the descriptor stands for.
    Process(u32, RawFd),
}

impl KeptWatch {
    /// As it stands in a record.
    pub(crate) fn word(self) -> u64 {
        match self {
            KeptWatch::Unknown => UNKNOWN,
            KeptWatch::Nobodys => NOBODYS,
            KeptWatch::Process(pid, fd) => u64::from(pid) << 32 | (PROCESS + fd as u64),
        }
    }

    fn of(word: u64) -> KeptWatch {
        match word {
            UNKNOWN => KeptWatch::Unknown,
            NOBODYS => KeptWatch::Nobodys,
            word => {
                let fd = (word & u64::from(u32::MAX)).wrapping_sub(PROCESS);
                KeptWatch::Process((word >> 32) as u32, RawFd::try_from(fd).unwrap_or(-1))
            }
        }
    }
}

impl OwnerRecord {
    /// Its descriptor, and whether that is open for writing.
    pub(crate) fn description(&self) -> (RawFd, bool) {
        let word = self.description.load(Ordering::Relaxed);
        ((word & !WRITABLE) as RawFd, word & WRITABLE != 0)
    }

    /// With which process its locks end.
    pub(crate) fn watch(&self) -> KeptWatch {
        KeptWatch::of(self.watch.load(Ordering::Relaxed))
    }

    /// What is held with `flock(2)`; `Err`: no code that can be.
    pub(crate) fn flocked(&self) -> Result<Option<LockKind>, ()> {
        match self.flocked.load(Ordering::Relaxed) {
            0 => Ok(None),
            code => kind_of(code).map(Some).ok_or(()),
        }
    }
}

impl RangeRecord {
    /// What is locked, and how. `None`: nothing that can be.
    pub(crate) fn range(&self) -> Option<(Range, LockKind)> {
        let kind = kind_of(self.state.load(Ordering::Acquire))?;
        Some((range_of(&self.first, &self.last)?, kind))
    }
}

impl ChangeRecord {
    /// What is changed, and to what. `None`: nothing that can be.
    pub(crate) fn change(&self) -> Option<(Range, Option<LockKind>)> {
        let to = match self.state.load(Ordering::Acquire) {
            UNLOCK => None,
            code => Some(kind_of(code)?),
        };
        Some((range_of(&self.first, &self.last)?, to))
    }
}

fn range_of(first: &AtomicU64, last: &AtomicU64) -> Option<Range> {
    let (first, last) = (first.load(Ordering::Relaxed), last.load(Ordering::Relaxed));
    (first <= last && last <= i64::MAX as u64).then_some(Range { first, last })
}
