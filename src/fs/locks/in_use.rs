//! A request's use of an owner's description: everything that is locked and given up.

use super::all::Locks;
use super::ask::{Ask, Owner, WHOLE};
use super::holder::{Description, Holder, Locked, Watch};
use super::kept::{HandleRoom, LowerChange};
use super::lookout::Watched;
use crate::fs::ids::NodeId;
use crate::ledger::crash::point;
use crate::ledger::lock::{KeptWatch, NONE};
use crate::mutex::lock;
use crate::sys::creds;
use crate::sys::lock as sys;
use crate::sys::lock::{LockKind, Range};
use crate::sys::proc::{LockCall, shares_descriptors};
use rustix::io::Errno;
use std::sync::Arc;

/// How many ranges an owner may take along to a description that is open for writing: that takes a call for each.
const MOVED: usize = 1024;

/// A request's use of a description; while it lives, the description stays.
pub(crate) struct Use {
    locks: Arc<Locks>,
    node: NodeId,
    holder: Arc<Holder>,
}

impl Use {
    /// Uses `holder`. To be called under the lock of the node's table, so that it is not removed meanwhile.
    pub(crate) fn new(locks: &Arc<Locks>, node: NodeId, holder: &Arc<Holder>) -> Use {
        lock(&holder.locked).users += 1;
        Use {
            locks: locks.clone(),
            node,
            holder: holder.clone(),
        }
    }

    /// The description.
    pub(crate) fn description(&self) -> Arc<Description> {
        self.holder.description.load_full()
    }

    /// Goes on with `fresh`, a description that is open for writing, in place of one that is not. Through that one there
    /// are only shared locks, which are in nobody's way who has them already: they are had twice before the old ones go,
    /// so that nobody gets between.
    ///
    /// # Errors
    /// ENOLCK: more than [`MOVED`] ranges.
    pub(crate) fn move_to(&self, fresh: Description) -> Result<(), Errno> {
        let mut changes = lock(&self.holder.changes);
        *changes += 1;
        if self.holder.is_writable() {
            return Ok(());
        }
        let held: Vec<Range> = lock(&self.holder.locked)
            .ranges
            .shared()
            .take(MOVED + 1)
            .collect();
        if held.len() > MOVED {
            return Err(Errno::NOLCK);
        }
        for range in held {
            sys::ofd_set(&fresh.fd, range, Some(LockKind::Shared))?;
            point();
        }
        // Before the other one may close.
        let (fd, writable) = fresh.number();
        self.holder.kept.set_description(fd, writable);
        // One that somebody waits with closes when the wait is over, and what was had with it is then had here.
        self.holder.description.store(Arc::new(fresh));
        Ok(())
    }

    /// All locks of the mount.
    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Locks or unlocks without waiting.
    ///
    /// # Errors
    /// EAGAIN; ENOLCK, also when the user has too many ranges; EBADF.
    pub(crate) fn set(&self, ask: &Ask) -> Result<(), Errno> {
        let mut changes = lock(&self.holder.changes);
        *changes += 1;
        self.change(ask)
    }

    /// Locks, and waits for it.
    ///
    /// # Errors
    /// EINTR when the thread was woken; otherwise as [`Use::set`].
    pub(crate) fn wait(&self, ask: &Ask, kind: LockKind) -> Result<(), Errno> {
        loop {
            let before = *lock(&self.holder.changes);
            let room = self.room_for(ask)?;
            let _change = self.begin(ask.range, ask.kind)?;
            let description = self.description();
            let done = match ask.owner {
                Owner::Posix(_) => sys::ofd_wait(&description.fd, ask.range, kind),
                Owner::Flock(_) => sys::flock(&description.fd, Some(kind), true),
            };
            point();
            let mut changes = lock(&self.holder.changes);
            if done.is_err() || *changes == before {
                *changes += 1;
                self.note(ask, done.is_ok(), room);
                return done;
            }
            // Another request of this owner came in between, and may have given up what was had: it was first then, and
            // this one is served now.
            drop(room);
            *changes += 1;
            match self.change(ask) {
                Err(Errno::AGAIN) => self.give_up_unnoted(ask),
                done => return done,
            }
        }
    }

    /// Unlocks everything. Somebody who waits through this description goes on waiting.
    pub(crate) fn give_up(&self) {
        let mut changes = lock(&self.holder.changes);
        *changes += 1;
        self.unlock_all();
    }

    /// Has the locks go with the process that asks, if they are its own.
    pub(crate) fn watch(&self, ask: &Ask) {
        let (account, kept) = (self.holder.account, &self.holder.kept);
        let mut watch = lock(&self.holder.watch);
        match &*watch {
            Watch::Nobodys => {}
            Watch::Of(process) if process.pid == ask.pid => {}
            // Another process with the same table of descriptors: the end of one of them is not the end of the owner.
            Watch::Of(_) => {
                kept.set_watch(KeptWatch::Nobodys);
                *watch = Watch::Nobodys;
                self.locks.owners.give(account, 1);
            }
            Watch::Unknown => {
                if self.locks.owners.take(account, 1).is_err() {
                    return;
                }
                *watch = match self.process_of(ask) {
                    Some(process) => {
                        kept.set_watch(process.kept());
                        Watch::Of(process)
                    }
                    None => {
                        self.locks.owners.give(account, 1);
                        kept.set_watch(KeptWatch::Nobodys);
                        Watch::Nobodys
                    }
                };
            }
        }
    }

    /// The process that asks, if its locks end with it alone.
    fn process_of(&self, ask: &Ask) -> Option<Watched<(NodeId, Owner)>> {
        let of_process = ask.call() == Some(LockCall::OfProcess);
        if !of_process || creds::own(|| Ok(shares_descriptors(ask.pid))) != Ok(false) {
            return None;
        }
        let thing = (self.node, self.holder.owner);
        self.locks.lookout.watch(thing, ask.pid)
    }

    /// Unlocks everything if its process has ended, whose number for owners may be another one's by now. True if so.
    pub(crate) fn release_if_ended(&self) -> bool {
        let ended = match &*lock(&self.holder.watch) {
            Watch::Of(process) if process.has_ended() => Some(process.id),
            _ => None,
        };
        ended.is_some_and(|id| self.give_up_of(id))
    }

    /// Unlocks everything, unless it is of another process than that of watch `id`. True if it was of that.
    pub(crate) fn give_up_of(&self, id: u64) -> bool {
        let mut changes = lock(&self.holder.changes);
        let mut watch = lock(&self.holder.watch);
        if !matches!(&*watch, Watch::Of(process) if process.id == id) {
            return false;
        }
        let Watch::Of(process) = std::mem::take(&mut *watch) else {
            return false;
        };
        drop(watch);
        self.locks.owners.give(self.holder.account, 1);
        *changes += 1;
        self.unlock_all();
        // Last: a successor must not find the locks without what ends them.
        self.holder.kept.end_watch(process.kept());
        true
    }

    /// Notes that handle `fh` is closed, and unlocks everything if it was the last one.
    pub(crate) fn give_up_handle(&self, fh: u64) {
        let mut changes = lock(&self.holder.changes);
        *changes += 1;
        let (slot, last) = {
            let mut locked = lock(&self.holder.locked);
            let slot = locked.handles.remove(&fh);
            (slot, locked.handles.is_empty())
        };
        if let Some(table) = self.locks.tables.get(self.node) {
            lock(&table).through.remove(&(fh, self.holder.owner));
        }
        if last {
            self.unlock_all();
        }
        // Last: a successor must not find the locks without what ends them.
        slot.inspect(|&slot| self.holder.kept.end_handle(slot));
    }

    fn unlock_all(&self) {
        let _change = self.begin(WHOLE, None);
        // Unlocking fails for want of memory only, and what is not unlocked goes with the descriptor.
        let _ = match self.holder.owner {
            Owner::Posix(_) => sys::ofd_set(&self.description().fd, WHOLE, None),
            Owner::Flock(_) => sys::flock(&self.description().fd, None, false),
        };
        point();
        let ranges = {
            let mut locked = lock(&self.holder.locked);
            let ranges = locked.ranges.len();
            locked.ranges.clear();
            if std::mem::take(&mut locked.flocked) {
                self.holder.kept.set_flocked(None);
            }
            ranges
        };
        self.locks.ranges.give(self.holder.account, ranges);
        self.locks.changed(self.node, self.holder.owner);
    }

    /// Changes the lower lock and notes that.
    fn change(&self, ask: &Ask) -> Result<(), Errno> {
        let room = self.room_for(ask)?;
        let _change = self.begin(ask.range, ask.kind)?;
        let done = match ask.owner {
            Owner::Posix(_) => sys::ofd_set(&self.description().fd, ask.range, ask.kind),
            Owner::Flock(_) => sys::flock(&self.description().fd, ask.kind, false),
        };
        point();
        self.note(ask, done.is_ok(), room);
        done
    }

    /// Writes down that the lower lock is about to be changed, until what it answers goes.
    fn begin(&self, range: Range, kind: Option<LockKind>) -> Result<LowerChange, Errno> {
        let range = match self.holder.owner {
            Owner::Posix(_) => range,
            Owner::Flock(_) => WHOLE,
        };
        let change = self.holder.kept.begin_change(range, kind);
        change.ok_or(Errno::NOLCK)
    }

    /// Takes room for as many ranges as the change may add, and for a handle that is not known.
    fn room_for(&self, ask: &Ask) -> Result<RoomTaken<'_>, Errno> {
        let mut room = RoomTaken {
            used: self,
            ranges: 0,
            handle: None,
        };
        let Owner::Posix(_) = ask.owner else {
            return Ok(room);
        };
        let (ranges, known) = {
            let locked = lock(&self.holder.locked);
            let known = ask.kind.is_none() || locked.handles.contains_key(&ask.fh);
            (locked.ranges.growth(ask.range, ask.kind), known)
        };
        if !known {
            room.handle = Some(self.holder.kept.room_for_handle().ok_or(Errno::NOLCK)?);
        }
        self.locks.ranges.take(self.holder.account, ranges)?;
        room.ranges = ranges;
        Ok(room)
    }

    fn note(&self, ask: &Ask, done: bool, mut room: RoomTaken<'_>) {
        let mut locked = lock(&self.holder.locked);
        let mut new_handle = false;
        let kept = &self.holder.kept;
        if let Owner::Flock(_) = ask.owner {
            // The kernel gives the old lock up before it looks whether the new one can be had.
            let kind = ask.kind.filter(|_| done);
            locked.flocked = kind.is_some();
            kept.set_flocked(kind);
        } else if done {
            if ask.kind.is_some() {
                locked.pid = ask.pid;
                new_handle = self.note_handle(&mut locked, ask.fh, &mut room);
            }
            let before = locked.ranges.len();
            if before == 0 {
                locked.since = self.locks.next_lock();
            }
            kept.note_holder(locked.since, locked.pid);
            locked.ranges.set(ask.range, ask.kind);
            let after = locked.ranges.len();
            // What is more keeps the room that was taken for it, what is less gives room back with the rest.
            room.ranges = (room.ranges + before).saturating_sub(after);
        }
        drop(locked);
        if new_handle {
            if let Some(table) = self.locks.tables.get(self.node) {
                lock(&table).through.insert((ask.fh, ask.owner));
            }
        }
        if done {
            self.locks.changed(self.node, ask.owner);
        }
    }

    /// Notes that ranges are locked through `fh`. True if that is new.
    fn note_handle(&self, locked: &mut Locked, fh: u64, room: &mut RoomTaken<'_>) -> bool {
        if locked.handles.contains_key(&fh) {
            return false;
        }
        let kept = &self.holder.kept;
        // It may have been known when room was taken, and closed since.
        let room = room.handle.take().or_else(|| kept.room_for_handle());
        let slot = room.map_or(NONE, |room| kept.put_handle(room, fh));
        locked.handles.insert(fh, slot);
        true
    }

    /// Gives up what the kernel may have given in `ask`'s range and this owner does not know of.
    fn give_up_unnoted(&self, ask: &Ask) {
        let Owner::Posix(_) = ask.owner else { return };
        let gaps = lock(&self.holder.locked).ranges.gaps(ask.range);
        for gap in gaps {
            let _ = sys::ofd_set(&self.description().fd, gap, None);
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        lock(&self.holder.locked).users -= 1;
        self.locks.prune(self.node, self.holder.owner);
    }
}

/// Room for ranges that was taken and is not in use yet.
struct RoomTaken<'a> {
    used: &'a Use,
    ranges: usize,
    handle: Option<HandleRoom>,
}

impl Drop for RoomTaken<'_> {
    fn drop(&mut self) {
        let account = self.used.holder.account;
        self.used.locks.ranges.give(account, self.ranges);
    }
}
