//! One owner's open file description of one file, and what is locked through it.

use super::keeper::Process;
use super::{Ask, Locks, Owner, WHOLE};
use crate::fs::budget::Account;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::sys::creds;
use crate::sys::lock as sys;
use crate::sys::lock::{Conflict, Kind, Range};
use crate::sys::proc::{LockCall, shares_descriptors};
use arc_swap::ArcSwap;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// An open file description of the lower file.
pub(crate) struct Description {
    /// Its descriptor.
    pub(crate) fd: OwnedFd,
    /// Open for reading and writing, as exclusive POSIX locks need it.
    pub(crate) writable: bool,
}

/// How many ranges an owner may take along to a description that is open for writing: that takes a call for each.
const MOVED: usize = 1024;

/// One owner's description of one node.
pub(crate) struct Holder {
    description: ArcSwap<Description>,
    /// Who is charged for it, and for all its ranges.
    pub(crate) account: Account,
    owner: Owner,
    /// Held while the lower lock is changed and the change noted, so that both happen in one order. What it guards is the
    /// number of changes so far. Nobody waits for a lock with it.
    changes: Mutex<u64>,
    /// With which process its locks end.
    watch: Mutex<Watch>,
    /// Held for table work only.
    held: Mutex<Held>,
}

/// With which process an owner's locks end, for those of which the kernel may not say it.
#[derive(Default)]
enum Watch {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// With none: an open file's, or those of several processes that share a table of descriptors.
    Nobodys,
    /// With this one.
    Of(Process<(NodeId, Owner)>),
}

#[derive(Default)]
struct Held {
    /// When the first of what is held was locked, in the order of all locks of the mount.
    since: u64,
    ranges: super::ranges::Ranges,
    flocked: bool,
    /// The handles through which ranges were locked and that are still open.
    handles: BTreeSet<u64>,
    pid: u32,
    /// Requests that use the description right now, waiting ones included.
    users: usize,
}

impl Holder {
    /// A description that holds nothing.
    pub(crate) fn new(ask: &Ask, description: Description) -> Holder {
        Holder {
            description: ArcSwap::from_pointee(description),
            account: Account::of(ask.uid),
            owner: ask.owner,
            changes: Mutex::new(0),
            watch: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// True if nothing is locked through it, and no request uses it.
    pub(crate) fn is_idle(&self) -> bool {
        let held = lock(&self.held);
        held.users == 0 && !held.flocked && held.ranges.is_empty()
    }

    /// True if the lower file is open for writing here.
    pub(crate) fn is_writable(&self) -> bool {
        self.description.load().writable
    }

    /// When the first of what it holds was locked: a number that grows.
    pub(crate) fn holds_since(&self) -> u64 {
        lock(&self.held).since
    }

    /// True if the end of its process is watched.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(*lock(&self.watch), Watch::Of(_))
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        1 + usize::from(self.is_watched())
    }

    /// True if a rival would have to wait for `kind` on `range`.
    pub(crate) fn is_in_the_way(&self, range: Range, kind: Kind) -> bool {
        let held = lock(&self.held);
        held.flocked || held.ranges.are_in_the_way(range, kind)
    }

    /// The process, if it holds just that.
    pub(crate) fn process_with(&self, conflict: &Conflict) -> Option<u32> {
        let held = lock(&self.held);
        held.ranges
            .has(conflict.range, conflict.kind)
            .then_some(held.pid)
    }

    /// The handles through which ranges were locked.
    pub(crate) fn handles(&self) -> Vec<u64> {
        lock(&self.held).handles.iter().copied().collect()
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
        lock(&holder.held).users += 1;
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
        let held: Vec<Range> = lock(&self.holder.held)
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
    fn process_of(&self, ask: &Ask) -> Option<Process<(NodeId, Owner)>> {
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
            let mut held = lock(&self.holder.held);
            held.handles.remove(&fh);
            held.handles.is_empty()
        };
        if let Some(table) = self.locks.table(self.node) {
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
            let mut held = lock(&self.holder.held);
            let ranges = held.ranges.len();
            held.ranges.clear();
            held.flocked = false;
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
            Owner::Posix(_) => lock(&self.holder.held).ranges.growth(ask.range, ask.kind),
            Owner::Flock(_) => 0,
        };
        self.locks.ranges.take(self.holder.account, ranges)?;
        Ok(Room { used: self, ranges })
    }

    fn note(&self, ask: &Ask, done: bool, mut room: Room<'_>) {
        let mut held = lock(&self.holder.held);
        let mut new_handle = false;
        if let Owner::Flock(_) = ask.owner {
            // The kernel gives the old lock up before it looks whether the new one can be had.
            held.flocked = done && ask.kind.is_some();
        } else if done {
            let before = held.ranges.len();
            if before == 0 {
                held.since = self.locks.next_lock();
            }
            held.ranges.set(ask.range, ask.kind);
            let after = held.ranges.len();
            // What is more keeps the room that was taken for it, what is less gives room back with the rest.
            room.ranges = (room.ranges + before).saturating_sub(after);
            if ask.kind.is_some() {
                held.pid = ask.pid;
                new_handle = held.handles.insert(ask.fh);
            }
        }
        drop(held);
        if new_handle && let Some(table) = self.locks.table(self.node) {
            lock(&table).through.insert((ask.fh, ask.owner));
        }
        if done {
            self.locks.changed(self.node, ask.owner);
        }
    }

    /// Gives up what the kernel may have given in `ask`'s range and this owner does not know of.
    fn give_up_unnoted(&self, ask: &Ask) {
        let Owner::Posix(_) = ask.owner else { return };
        let gaps = lock(&self.holder.held).ranges.gaps(ask.range);
        for gap in gaps {
            let _ = sys::ofd_set(&self.description().fd, gap, None);
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        lock(&self.holder.held).users -= 1;
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
