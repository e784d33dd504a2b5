//! What a successor is told of the locks: a record of each description, of each range that is locked through it, of each
//! handle through which ranges were locked, and of each change of a lower lock that is under way.
//!
//! The lower locks themselves live on with their descriptors. What is locked is written down beside them all the same: not
//! every lower file system says what it holds for a descriptor, and `/proc` may not be there to ask.
//!
//! A change is written down before the lower lock is touched, and goes once all is noted. So where there is none, lower
//! locks and records agree, and where there is one, they differ within its range alone. A lock is noted with one store,
//! that of its whole range; only then the pieces that it replaces go, so that it can be told from the records whether it
//! was noted. What they cover together is never less than what is held outside of the range.

use super::ask::Owner;
use crate::fs::ids::NodeId;
use crate::ledger::crash::point;
use crate::ledger::lock::{
    ChangeRecord, KeptWatch, LockHandleRecord, NONE, OwnerRecord, RangeRecord, UNLOCK, WRITABLE,
    code,
};
use crate::ledger::table::Table;
use crate::ledger::{Ledger, Region};
use crate::sys::lock::{LockKind, Range};
use rustix::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The records of all locks.
pub(super) struct Kept {
    pub(super) owners: Table<OwnerRecord>,
    pub(super) ranges: Table<RangeRecord>,
    pub(super) handles: Table<LockHandleRecord>,
    pub(super) changes: Table<ChangeRecord>,
}

impl Kept {
    /// The records in `ledger`.
    pub(super) fn over(ledger: &'static Ledger) -> Kept {
        Kept {
            owners: ledger.table(Region::LockOwners),
            ranges: ledger.table(Region::LockRanges),
            handles: ledger.table(Region::LockHandles),
            changes: ledger.table(Region::LockChanges),
        }
    }

    /// A record of `owner`, who holds nothing on `node`, with the descriptor `fd`. `None`: there is no room for one.
    pub(super) fn begin_owner(
        self: &Arc<Kept>,
        (node, owner): (NodeId, Owner),
        uid: u32,
        (fd, writable): (RawFd, bool),
    ) -> Option<KeptOwner> {
        let slot = self.owners.take()?;
        let record = self.owners.at(slot);
        let (state, number) = match owner {
            Owner::Posix(number) => (1, number),
            Owner::Flock(number) => (2, number),
        };
        record.number.store(number, Ordering::Relaxed);
        record.node.store(node.0, Ordering::Relaxed);
        record.uid.store(uid, Ordering::Relaxed);
        record.pid.store(0, Ordering::Relaxed);
        record.since.store(0, Ordering::Relaxed);
        record
            .watch
            .store(KeptWatch::Unknown.word(), Ordering::Relaxed);
        record.flocked.store(0, Ordering::Relaxed);
        let kept = self.owner(slot);
        kept.set_description(fd, writable);
        point();
        record.state.store(state, Ordering::Release);
        point();
        Some(kept)
    }

    /// The record with that number, which is in use.
    pub(super) fn owner(self: &Arc<Kept>, slot: u32) -> KeptOwner {
        KeptOwner {
            all: self.clone(),
            slot,
        }
    }

    fn end_range(&self, slot: u32) {
        self.ranges.at(slot).state.store(0, Ordering::Release);
        point();
        self.ranges.give(slot);
    }
}

/// The record of one owner.
#[derive(Clone)]
pub(super) struct KeptOwner {
    all: Arc<Kept>,
    slot: u32,
}

impl KeptOwner {
    pub(super) fn record(&self) -> &'static OwnerRecord {
        self.all.owners.at(self.slot)
    }

    /// Ends the record. Nothing is held, and the descriptors are open still.
    pub(super) fn end(&self) {
        self.record().state.store(0, Ordering::Release);
        point();
        self.all.owners.give(self.slot);
    }

    /// Names another descriptor, which is open; the one before is too.
    pub(super) fn set_description(&self, fd: RawFd, writable: bool) {
        let word = fd as u32 | if writable { WRITABLE } else { 0 };
        self.record().description.store(word, Ordering::Release);
        point();
    }

    /// Says with which process the locks end; its descriptor is open.
    pub(super) fn set_watch(&self, watch: KeptWatch) {
        self.record().watch.store(watch.word(), Ordering::Release);
        point();
    }

    /// Says that nobody knows with which process the locks end, if it is `was`.
    pub(super) fn end_watch(&self, was: KeptWatch) {
        let (word, none) = (&self.record().watch, KeptWatch::Unknown.word());
        let _ = word.compare_exchange(was.word(), none, Ordering::AcqRel, Ordering::Relaxed);
        point();
    }

    /// Says when the first of what is held was locked, and which process locked the last of it.
    pub(super) fn note_holder(&self, since: u64, pid: u32) {
        self.record().since.store(since, Ordering::Relaxed);
        self.record().pid.store(pid, Ordering::Relaxed);
        point();
    }

    /// Says what is held with `flock(2)`.
    pub(super) fn set_flocked(&self, kind: Option<LockKind>) {
        let code = kind.map_or(0, code);
        self.record().flocked.store(code, Ordering::Release);
        point();
    }

    /// A lower lock is about to be changed: in `range`, to `kind`. `None`: there is no room to say so.
    pub(super) fn begin_change(&self, range: Range, kind: Option<LockKind>) -> Option<LowerChange> {
        let slot = self.all.changes.take()?;
        let record = self.all.changes.at(slot);
        record.owner.store(self.slot, Ordering::Relaxed);
        record.first.store(range.first, Ordering::Relaxed);
        record.last.store(range.last, Ordering::Relaxed);
        let state = kind.map_or(UNLOCK, code);
        record.state.store(state, Ordering::Release);
        point();
        Some(LowerChange {
            all: self.all.clone(),
            slot,
        })
    }

    /// Room to write down one more handle.
    pub(super) fn room_for_handle(&self) -> Option<HandleRoom> {
        let slot = self.all.handles.take()?;
        Some(HandleRoom {
            all: self.all.clone(),
            slot,
            used: false,
        })
    }

    /// Writes down that ranges are locked through `fh`. Answers the record's number.
    pub(super) fn put_handle(&self, mut room: HandleRoom, fh: u64) -> u32 {
        let record = self.all.handles.at(room.slot);
        record.owner.store(self.slot, Ordering::Relaxed);
        record.fh.store(fh, Ordering::Relaxed);
        record.state.store(1, Ordering::Release);
        room.used = true;
        point();
        room.slot
    }

    /// Ends the record of a handle.
    pub(super) fn end_handle(&self, slot: u32) {
        if slot == NONE {
            return;
        }
        self.all.handles.at(slot).state.store(0, Ordering::Release);
        point();
        self.all.handles.give(slot);
    }

    /// Writes down that `range` is locked. Answers the record's number, [`NONE`] if there is no room, which the bounds on
    /// ranges prevent.
    pub(super) fn put_range(&self, range: Range, kind: LockKind) -> u32 {
        let Some(slot) = self.all.ranges.take() else {
            return NONE;
        };
        let record = self.all.ranges.at(slot);
        record.owner.store(self.slot, Ordering::Relaxed);
        record.first.store(range.first, Ordering::Relaxed);
        record.last.store(range.last, Ordering::Relaxed);
        record.state.store(code(kind), Ordering::Release);
        point();
        slot
    }

    /// Gives a range another first byte.
    pub(super) fn set_first(&self, slot: u32, first: u64) {
        if slot != NONE {
            self.all
                .ranges
                .at(slot)
                .first
                .store(first, Ordering::Release);
            point();
        }
    }

    /// Gives a range another last byte.
    pub(super) fn set_last(&self, slot: u32, last: u64) {
        if slot != NONE {
            self.all.ranges.at(slot).last.store(last, Ordering::Release);
            point();
        }
    }

    /// Ends the record of a range.
    pub(super) fn end_range(&self, slot: u32) {
        if slot != NONE {
            self.all.end_range(slot);
        }
    }
}

/// A change of a lower lock that is under way; it goes when it is noted.
pub(super) struct LowerChange {
    all: Arc<Kept>,
    slot: u32,
}

impl Drop for LowerChange {
    fn drop(&mut self) {
        self.all
            .changes
            .at(self.slot)
            .state
            .store(0, Ordering::Release);
        point();
        self.all.changes.give(self.slot);
    }
}

/// Room to write down a handle.
pub(super) struct HandleRoom {
    all: Arc<Kept>,
    slot: u32,
    used: bool,
}

impl Drop for HandleRoom {
    fn drop(&mut self) {
        if !self.used {
            self.all.handles.give(self.slot);
        }
    }
}
