//! A request's use of an owner's description: everything that is locked and given up.

use super::all::Locks;
use super::ask::{Ask, Owner, WHOLE};
use super::holder::{Description, Holder, Watch};
use super::keeper::Watched;
use super::waits::WaitId;
use crate::fs::budget::Account;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::sys::creds;
use crate::sys::lock as sys;
use crate::sys::lock::{Kind, Range};
use crate::sys::proc::{LockCall, shares_descriptors};
use rustix::io::Errno;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

/// How many ranges an owner may take along to a description that is open for writing: that takes a call for each.
const MOVED: usize = 1024;

/// How long a thread has that was woken before it is woken again: a signal that comes between its last look and its system
/// call is lost.
const NUDGE: Duration = Duration::from_millis(1);

impl Locks {
    pub(super) fn find(self: &Arc<Locks>, node: NodeId, owner: Owner) -> Option<Use> {
        let table = self.tables.get(node)?;
        let table = lock(&table);
        let holder = table.owners.get(&owner)?;
        Some(Use::new(self, node, holder))
    }

    /// Takes the descriptor that `open` makes as the description of `ask.owner`, unless another thread of it was faster.
    pub(super) fn add(
        self: &Arc<Locks>,
        node: NodeId,
        ask: &Ask,
        open: impl FnOnce() -> Result<Description, Errno>,
    ) -> Result<Use, Errno> {
        let account = Account::of(ask.uid);
        self.owners.take(account, 1)?;
        let description = open().inspect_err(|_| self.owners.give(account, 1))?;
        let table = self.tables.get_or_make(node);
        let mut table = lock(&table);
        let holder = match table.owners.entry(ask.owner) {
            Entry::Occupied(entry) => {
                self.owners.give(account, 1);
                entry.get().clone()
            }
            Entry::Vacant(entry) => entry
                .insert(Arc::new(Holder::new(ask, description)))
                .clone(),
        };
        Ok(Use::new(self, node, &holder))
    }

    /// Gives up all that `owner` holds on `node`: the kernel says so with FLUSH when a descriptor is closed, whichever
    /// of the owner's it is, and with RELEASE for the lock of `flock(2)`.
    pub(crate) fn drop_owner(self: &Arc<Locks>, node: NodeId, owner: Owner) {
        if self.is_empty() {
            return;
        }
        if let Some(used) = self.find(node, owner) {
            used.give_up();
        }
    }

    /// Gives up what was locked through handle `fh` alone: its last descriptor is closed in every process.
    ///
    /// This ends `F_OFD_SETLK`'s locks, whose owner the kernel does not name at the end, and POSIX locks where the
    /// kernel was told not to send FLUSH.
    pub(crate) fn drop_handle(self: &Arc<Locks>, node: NodeId, fh: u64) {
        if self.is_empty() {
            return;
        }
        let Some(table) = self.tables.get(node) else {
            return;
        };
        let owners = lock(&table).through(fh);
        drop(table);
        for owner in owners {
            if let Some(used) = self.find(node, owner) {
                used.give_up_handle(fh);
            }
        }
    }

    /// Gives up what processes that have ended hold in the way of `ask`. The thread that looks after them may not have come
    /// to it, and whoever has waited for a process knows that its locks are gone. True if there were any.
    pub(super) fn release_ended(self: &Arc<Locks>, node: NodeId, ask: &Ask) -> bool {
        const MOST: usize = 64;
        let (Some(table), Some(kind)) = (self.tables.get(node), ask.kind) else {
            return false;
        };
        let table = lock(&table);
        let blockers = table.blockers(ask.owner, ask.range, kind);
        let uses: Vec<_> = blockers
            .filter(|(_, holder)| holder.is_watched())
            .take(MOST)
            .map(|(_, holder)| Use::new(self, node, holder))
            .collect();
        drop(table);
        uses.iter().filter(|used| used.release_if_ended()).count() > 0
    }

    /// Looks after the locks while nobody asks for any: the locks of processes that have ended go, and waits are looked at
    /// again. Returns at the end of the process only, and sleeps without a timer while nothing happens.
    pub(crate) fn keep(self: &Arc<Locks>) {
        let mut doomed: Vec<WaitId> = Vec::new();
        loop {
            let soon = (!doomed.is_empty()).then_some(NUDGE);
            let Some(happened) = self.keeper.sleep(soon) else {
                return;
            };
            for (watch, (node, owner)) in happened.ended {
                if let Some(used) = self.find(node, owner) {
                    used.give_up_of(watch);
                }
            }
            for (node, owner) in happened.changed {
                doomed.extend(self.waits.look_again(&self.tables, node, owner));
            }
            doomed.retain(|&id| self.waits.end_ring(id));
        }
    }
}

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
            sys::ofd_set(&fresh.fd, range, Some(Kind::Shared))?;
        }
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
    pub(crate) fn wait(&self, ask: &Ask, kind: Kind) -> Result<(), Errno> {
        loop {
            let before = *lock(&self.holder.changes);
            let room = self.room_for(ask)?;
            let description = self.description();
            let done = match ask.owner {
                Owner::Posix(_) => sys::ofd_wait(&description.fd, ask.range, kind),
                Owner::Flock(_) => sys::flock(&description.fd, Some(kind), true),
            };
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
        let account = self.holder.account;
        let mut watch = lock(&self.holder.watch);
        match &*watch {
            Watch::Nobodys => {}
            Watch::Of(process) if process.pid == ask.pid => {}
            // Another process with the same table of descriptors: the end of one of them is not the end of the owner.
            Watch::Of(_) => {
                *watch = Watch::Nobodys;
                self.locks.owners.give(account, 1);
            }
            Watch::Unknown => {
                if self.locks.owners.take(account, 1).is_err() {
                    return;
                }
                *watch = match self.process_of(ask) {
                    Some(process) => Watch::Of(process),
                    None => {
                        self.locks.owners.give(account, 1);
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
        self.locks.keeper.watch(thing, ask.pid)
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
        *watch = Watch::Unknown;
        drop(watch);
        self.locks.owners.give(self.holder.account, 1);
        *changes += 1;
        self.unlock_all();
        true
    }

    /// Notes that handle `fh` is closed, and unlocks everything if it was the last one.
    pub(crate) fn give_up_handle(&self, fh: u64) {
        let mut changes = lock(&self.holder.changes);
        *changes += 1;
        let last = {
            let mut locked = lock(&self.holder.locked);
            locked.handles.remove(&fh);
            locked.handles.is_empty()
        };
        if let Some(table) = self.locks.tables.get(self.node) {
            lock(&table).through.remove(&(fh, self.holder.owner));
        }
        if last {
            self.unlock_all();
        }
    }

    fn unlock_all(&self) {
        // Unlocking fails for want of memory only, and what is not unlocked goes with the descriptor.
        let _ = match self.holder.owner {
            Owner::Posix(_) => sys::ofd_set(&self.description().fd, WHOLE, None),
            Owner::Flock(_) => sys::flock(&self.description().fd, None, false),
        };
        let ranges = {
            let mut locked = lock(&self.holder.locked);
            let ranges = locked.ranges.len();
            locked.ranges.clear();
            locked.flocked = false;
            ranges
        };
        self.locks.ranges.give(self.holder.account, ranges);
        self.locks.changed(self.node, self.holder.owner);
    }

    /// Changes the lower lock and notes that.
    fn change(&self, ask: &Ask) -> Result<(), Errno> {
        let room = self.room_for(ask)?;
        let done = match ask.owner {
            Owner::Posix(_) => sys::ofd_set(&self.description().fd, ask.range, ask.kind),
            Owner::Flock(_) => sys::flock(&self.description().fd, ask.kind, false),
        };
        self.note(ask, done.is_ok(), room);
        done
    }

    /// Takes room for as many ranges as the change may add.
    fn room_for(&self, ask: &Ask) -> Result<Room<'_>, Errno> {
        let ranges = match ask.owner {
            Owner::Posix(_) => lock(&self.holder.locked).ranges.growth(ask.range, ask.kind),
            Owner::Flock(_) => 0,
        };
        self.locks.ranges.take(self.holder.account, ranges)?;
        Ok(Room { used: self, ranges })
    }

    fn note(&self, ask: &Ask, done: bool, mut room: Room<'_>) {
        let mut locked = lock(&self.holder.locked);
        let mut new_handle = false;
        if let Owner::Flock(_) = ask.owner {
            // The kernel gives the old lock up before it looks whether the new one can be had.
            locked.flocked = done && ask.kind.is_some();
        } else if done {
            let before = locked.ranges.len();
            if before == 0 {
                locked.since = self.locks.next_lock();
            }
            locked.ranges.set(ask.range, ask.kind);
            let after = locked.ranges.len();
            // What is more keeps the room that was taken for it, what is less gives room back with the rest.
            room.ranges = (room.ranges + before).saturating_sub(after);
            if ask.kind.is_some() {
                locked.pid = ask.pid;
                new_handle = locked.handles.insert(ask.fh);
            }
        }
        drop(locked);
        if new_handle && let Some(table) = self.locks.tables.get(self.node) {
            lock(&table).through.insert((ask.fh, ask.owner));
        }
        if done {
            self.locks.changed(self.node, ask.owner);
        }
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
struct Room<'a> {
    used: &'a Use,
    ranges: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let account = self.used.holder.account;
        self.used.locks.ranges.give(account, self.ranges);
    }
}
