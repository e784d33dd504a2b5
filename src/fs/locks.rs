//! The locks of this mount's clients, held on the lower files, so that two mounts over one global file exclude each
//! other, and native processes too (contract B16).
//!
//! Every owner of locks on a node has an open file description of its own here, and with it what natively belongs to
//! the owner: open-file-description locks for POSIX locks, the `flock(2)` lock for that of an open file. Owners thus
//! exclude each other below as they would natively, conversions happen within one description, and a lock goes when
//! its description is closed. A description is opened when the first lock is asked for and closed with the last one.
//!
//! Who an owner is, the kernel says with a number: a table of descriptors (a process, threads included) for
//! `fcntl(F_SETLK)`, an open file for `F_OFD_SETLK`. For `flock(2)` it is the handle.
//!
//! Nodes have nothing to do with each other here: each has a table and a mutex of its own. What all share is counted
//! (`budget`) or looked at by whoever is about to wait (`waits`), in a bounded number of steps; a lock that is had or
//! refused at once never waits for that.
//!
//! What differs from native: locks are seen below as `OFDLCK` entries without a process (`lslocks`), and EDEADLK is found
//! within one mount only.

mod budget;
mod holder;
mod keeper;
mod ranges;
mod wait;
mod waits;

pub(crate) use wait::{Asked, Locker, Wait};

use super::budget::Account;
use super::ids::NodeId;
use crate::mutex::lock;
use crate::sys::creds;
use crate::sys::lock::{Conflict, Kind, Range};
use crate::sys::proc::{LockCall, is_own_namespace, lock_call};
use budget::Budget;
use holder::{Description, Holder, Use};
use keeper::Keeper;
use rustix::io::Errno;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use waits::Waits;

/// How many ranges all users may have locked: each takes some 200 bytes of the kernel's memory and 40 here, and every
/// further lock on the same file is compared with it by the kernel, about 3 ns each.
const MOST_RANGES: usize = 128 * 1024;

/// Whose lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Of a table of descriptors, or of an open file that took it with `F_OFD_SETLK`.
    Posix(u64),
    /// Of an open file that took it with `flock(2)`, by its handle: the kernel's number for it, its address scrambled,
    /// may belong to the next open file before RELEASE of this one is served.
    Flock(u64),
}

impl Owner {
    /// True if locks of the two are in each other's way at all.
    fn is_rival_of(self, other: Owner) -> bool {
        self != other && matches!(self, Owner::Flock(_)) == matches!(other, Owner::Flock(_))
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// Whose lock it is to be.
    pub(crate) owner: Owner,
    /// The handle through which it is asked for.
    pub(crate) fh: u64,
    /// What to lock; the whole file for `flock(2)`.
    pub(crate) range: Range,
    /// How; `None`: unlock.
    pub(crate) kind: Option<Kind>,
    /// The process, for F_GETLK's answer; 0: not visible to this mount, or not said (the kernel names none that unlocks).
    pub pid: u32,
    /// The thread that asks; 0: not visible to this mount.
    pub thread: u32,
    /// The user, whose descriptors and ranges are counted.
    pub(crate) uid: u32,
}

impl Ask {
    /// Whose lock `fcntl(2)` is asked for, as far as that can be known: not of another architecture's programs, in another
    /// pid namespace, or without the right to look (an ordinary user's daemon at others' processes).
    fn call(&self) -> Option<LockCall> {
        if !is_own_namespace() {
            return None;
        }
        creds::own(|| Ok(lock_call(self.thread))).ok().flatten()
    }
}

/// The owners of locks on one node.
#[derive(Default)]
struct Table {
    owners: HashMap<Owner, Arc<Holder>>,
    /// Through which handles which owners have locked ranges.
    through: BTreeSet<(u64, Owner)>,
}

impl Table {
    /// Those whose locks keep `asking` from getting one.
    fn blockers(
        &self,
        asking: Owner,
        range: Range,
        kind: Kind,
    ) -> impl Iterator<Item = (&Owner, &Arc<Holder>)> {
        self.owners.iter().filter(move |(owner, holder)| {
            owner.is_rival_of(asking) && holder.is_in_the_way(range, kind)
        })
    }

    fn through(&self, fh: u64) -> Vec<Owner> {
        let all = (fh, Owner::Posix(0))..=(fh, Owner::Flock(u64::MAX));
        self.through.range(all).map(|&(_, owner)| owner).collect()
    }
}

/// All locks of a mount.
pub(crate) struct Locks {
    /// A node is in it while it has owners.
    nodes: scc::HashMap<NodeId, Arc<Mutex<Table>>>,
    waits: Waits,
    /// What goes on while nobody asks.
    pub keeper: Arc<Keeper<(NodeId, Owner)>>,
    /// Descriptors: each owner has one, and another where the end of its process is watched.
    owners: Budget,
    ranges: Budget,
    /// How many locks there have been.
    had: AtomicU64,
}

impl Locks {
    /// No locks; at most `most` descriptors will be used for them.
    pub(crate) fn new(most: usize) -> Locks {
        Locks {
            nodes: scc::HashMap::default(),
            waits: Waits::default(),
            keeper: Arc::default(),
            owners: Budget::new(most),
            ranges: Budget::new(MOST_RANGES),
            had: AtomicU64::new(0),
        }
    }

    fn next_lock(&self) -> u64 {
        self.had.fetch_add(1, Ordering::Relaxed)
    }

    /// How many descriptions are open.
    pub(crate) fn len(&self) -> usize {
        self.owners.total()
    }

    /// True when nobody holds or waits for a lock.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True while a description of `node` is open here for writing.
    pub(crate) fn may_write(&self, node: NodeId) -> bool {
        !self.is_empty()
            && self
                .table(node)
                .is_some_and(|table| lock(&table).owners.values().any(|h| h.is_writable()))
    }

    fn table(&self, node: NodeId) -> Option<Arc<Mutex<Table>>> {
        self.nodes.read_sync(&node, |_, table| table.clone())
    }

    fn find(self: &Arc<Locks>, node: NodeId, owner: Owner) -> Option<Use> {
        let table = self.table(node)?;
        let table = lock(&table);
        let holder = table.owners.get(&owner)?;
        Some(Use::new(self, node, holder))
    }

    /// Takes the descriptor that `open` makes as the description of `ask.owner`, unless another thread of it was faster.
    fn add(
        self: &Arc<Locks>,
        node: NodeId,
        ask: &Ask,
        open: impl FnOnce() -> Result<Description, Errno>,
    ) -> Result<Use, Errno> {
        let account = Account::of(ask.uid);
        self.owners.take(account, 1)?;
        let description = open().inspect_err(|_| self.owners.give(account, 1))?;
        // The entry is locked only until the table is had.
        let table = self.nodes.entry_sync(node).or_default().get().clone();
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

    /// Removes an owner that holds nothing, and the table that nobody is in.
    fn prune(&self, node: NodeId, owner: Owner) {
        let Some(shared) = self.table(node) else {
            return;
        };
        let mut table = lock(&shared);
        if !table.owners.get(&owner).is_some_and(|h| h.is_idle()) {
            return;
        }
        let ended = table.owners.remove(&owner);
        for fh in ended.iter().flat_map(|holder| holder.handles()) {
            table.through.remove(&(fh, owner));
        }
        let empty = table.owners.is_empty();
        drop(table);
        drop(shared);
        if empty {
            // Whoever has the table in hand this moment is going to use it, and comes here afterwards.
            self.nodes.remove_if_sync(&node, |table| {
                Arc::strong_count(table) == 1 && lock(table).owners.is_empty()
            });
        }
        if let Some(holder) = ended {
            self.owners.give(holder.account, holder.descriptors());
        }
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
        let Some(table) = self.table(node) else {
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

    /// The process of the owner of this mount that holds `conflict`; 0: none does, or its process is not known.
    fn process_of(&self, node: NodeId, asking: Owner, conflict: &Conflict) -> u32 {
        let Some(table) = self.table(node) else {
            return 0;
        };
        let table = lock(&table);
        let mut rivals = table.owners.iter().filter(|(o, _)| o.is_rival_of(asking));
        rivals
            .find_map(|(_, holder)| holder.process_with(conflict))
            .unwrap_or(0)
    }

    /// Gives up what processes that have ended hold in the way of `ask`. The thread that looks after them may not have come
    /// to it, and whoever has waited for a process knows that its locks are gone. True if there were any.
    fn release_ended(self: &Arc<Locks>, node: NodeId, ask: &Ask) -> bool {
        const MOST: usize = 64;
        let (Some(table), Some(kind)) = (self.table(node), ask.kind) else {
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

    /// True if somebody of this mount holds what keeps `ask` waiting.
    fn is_held_here(&self, node: NodeId, ask: &Ask) -> bool {
        let (Some(table), Some(kind)) = (self.table(node), ask.kind) else {
            return false;
        };
        let table = lock(&table);
        table.blockers(ask.owner, ask.range, kind).next().is_some()
    }
}

/// True if the kernel may not be asked to say which process has closed a descriptor opened with `flags` (FLUSH), and so lost
/// its POSIX locks: see `ops::lock`.
pub(crate) fn may_lack_flush(flags: u32) -> bool {
    let flags = flags as i32;
    // The last one has no name by which another process could reach it.
    flags & libc::O_ACCMODE == libc::O_RDONLY
        || flags & (libc::O_TRUNC | libc::O_EXCL) != 0
        || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

/// All bytes there are and will be.
pub(crate) const WHOLE: Range = Range {
    first: 0,
    last: i64::MAX as u64,
};
