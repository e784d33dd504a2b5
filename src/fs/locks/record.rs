//! The records of locks, as they lie in the ledger.

use super::ask::Owner;
use crate::ledger::table::Record;
use crate::sys::lock::{Kind, Range};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// Set in [`OwnerRecord::description`] where it is open for writing.
pub(super) const WRITABLE: u32 = 1 << 31;

/// [`OwnerRecord::watch`]: nobody has looked, it is nobody's, and from here on the descriptor's number, with the process
/// above it.
const UNKNOWN: u64 = 0;
const NOBODYS: u64 = 1;
const PROCESS: u64 = 2;

/// Whose description it is, and what it is.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct OwnerRecord {
    /// 1: of [`Owner::Posix`], 2: of [`Owner::Flock`].
    pub(super) state: AtomicU32,
    /// Its descriptor, with [`WRITABLE`] or without.
    pub(super) description: AtomicU32,
    pub(super) number: AtomicU64,
    pub(super) node: AtomicU64,
    /// The user who is charged.
    pub(super) uid: AtomicU32,
    /// The process that locked the last range.
    pub(super) pid: AtomicU32,
    /// When the first of what is held was locked.
    pub(super) since: AtomicU64,
    pub(super) watch: AtomicU64,
    /// What is held with `flock(2)`: 0: nothing, otherwise a kind's code.
    pub(super) flocked: AtomicU32,
    unused: AtomicU32,
}

/// A locked range.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct RangeRecord {
    /// A kind's code.
    pub(super) state: AtomicU32,
    pub(super) owner: AtomicU32,
    pub(super) first: AtomicU64,
    pub(super) last: AtomicU64,
}

/// A handle through which an owner has locked ranges.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct HandleRecord {
    pub(super) state: AtomicU32,
    pub(super) owner: AtomicU32,
    pub(super) fh: AtomicU64,
}

/// A lower lock that is being changed.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct ChangeRecord {
    /// A kind's code, or [`UNLOCK`].
    pub(super) state: AtomicU32,
    pub(super) owner: AtomicU32,
    pub(super) first: AtomicU64,
    pub(super) last: AtomicU64,
}

/// [`ChangeRecord::state`]: the lock is given up.
pub(super) const UNLOCK: u32 = 3;

/// A kind's code.
pub(super) fn code(kind: Kind) -> u32 {
    match kind {
        Kind::Shared => 1,
        Kind::Exclusive => 2,
    }
}

/// The kind with that code.
fn kind_of(code: u32) -> Option<Kind> {
    match code {
        1 => Some(Kind::Shared),
        2 => Some(Kind::Exclusive),
        _ => None,
    }
}

macro_rules! records {
    ($($record:ty),*) => {
        $(impl Record for $record {
            fn is_used(&self) -> bool {
                self.state.load(Ordering::Acquire) != 0
            }
        })*
    };
}
records!(OwnerRecord, RangeRecord, HandleRecord, ChangeRecord);

/// With which process an owner's locks end, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeptWatch {
    /// Nobody has looked.
    Unknown,
    /// With none.
    Nobodys,
    /// With this one, which the descriptor stands for.
    Process(u32, RawFd),
}

impl KeptWatch {
    /// As it stands in a record.
    pub(super) fn word(self) -> u64 {
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
    /// Whose it is. `None`: nobody's that can be.
    pub(super) fn owner(&self) -> Option<Owner> {
        let number = self.number.load(Ordering::Relaxed);
        match self.state.load(Ordering::Acquire) {
            1 => Some(Owner::Posix(number)),
            2 => Some(Owner::Flock(number)),
            _ => None,
        }
    }

    /// Its descriptor, and whether that is open for writing.
    pub(super) fn description(&self) -> (RawFd, bool) {
        let word = self.description.load(Ordering::Relaxed);
        ((word & !WRITABLE) as RawFd, word & WRITABLE != 0)
    }

    /// With which process its locks end.
    pub(super) fn watch(&self) -> KeptWatch {
        KeptWatch::of(self.watch.load(Ordering::Relaxed))
    }

    /// What is held with `flock(2)`; `Err`: no code that can be.
    pub(super) fn flocked(&self) -> Result<Option<Kind>, ()> {
        match self.flocked.load(Ordering::Relaxed) {
            0 => Ok(None),
            code => kind_of(code).map(Some).ok_or(()),
        }
    }

    /// The descriptors that it names.
    #[allow(dead_code)] // Whoever makes a successor asks.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let watched = match self.watch() {
            KeptWatch::Process(_, fd) => Some(fd),
            KeptWatch::Unknown | KeptWatch::Nobodys => None,
        };
        std::iter::once(self.description().0).chain(watched)
    }
}

impl RangeRecord {
    /// What is locked, and how. `None`: nothing that can be.
    pub(super) fn range(&self) -> Option<(Range, Kind)> {
        let kind = kind_of(self.state.load(Ordering::Acquire))?;
        Some((range_of(&self.first, &self.last)?, kind))
    }
}

impl ChangeRecord {
    /// What is changed, and to what. `None`: nothing that can be.
    pub(super) fn change(&self) -> Option<(Range, Option<Kind>)> {
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
