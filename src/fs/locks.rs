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
//! What differs from native: locks are seen below as `OFDLCK` entries without a process (`lslocks`); of a cycle of
//! waiting owners EDEADLK is found within one mount only, and for `F_OFD_SETLKW`, which natively waits for ever, too;
//! and while somebody holds a POSIX lock on a program, running it natively is ETXTBSY, as its description here is open
//! for writing.

mod ranges;
mod wait;

pub use wait::{Asked, Wait};

use super::node::{NodeId, lock};
use crate::sys::lock as sys;
use crate::sys::lock::{Conflict, Kind, Range};
use ranges::Ranges;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Whose lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Of a table of descriptors, or of an open file that took it with `F_OFD_SETLK`.
    Posix(u64),
    /// Of an open file that took it with `flock(2)`, by its handle: the kernel's number for it, its address scrambled,
    /// may belong to the next open file before RELEASE of this one is served.
    Flock(u64),
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Whose lock it is to be.
    pub owner: Owner,
    /// The handle through which it is asked for.
    pub fh: u64,
    /// What to lock; the whole file for `flock(2)`.
    pub range: Range,
    /// How; `None`: unlock.
    pub kind: Option<Kind>,
    /// The process, for F_GETLK's answer; 0: not visible to this mount.
    pub pid: u32,
    /// The user, whose descriptors are counted.
    pub uid: u32,
}

/// One owner's description of one node, and what it holds.
struct Holder {
    fd: OwnedFd,
    uid: u32,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    ranges: Ranges,
    flocked: bool,
    /// The handles through which ranges were locked and that are still open.
    handles: Vec<u64>,
    pid: u32,
    /// Requests that use the description right now, waiting ones included.
    users: usize,
}

impl Held {
    fn is_idle(&self) -> bool {
        self.users == 0 && !self.flocked && self.ranges.is_empty()
    }
}

type Owners = HashMap<Owner, Arc<Holder>>;

#[derive(Default)]
struct State {
    nodes: HashMap<NodeId, Owners>,
    by_user: HashMap<u32, usize>,
    /// What owners wait for: the edges of the graph in which a cycle is EDEADLK.
    waits: Vec<Edge>,
}

/// An owner that waits.
struct Edge {
    id: u64,
    node: NodeId,
    owner: Owner,
    range: Range,
    kind: Kind,
}

/// How many owners a search for a cycle looks at, and how many that each of them waits for.
const SEARCH: usize = 64;

/// All locks of a mount.
pub struct Locks {
    /// Held for table work only, never while a lock is waited for.
    state: Mutex<State>,
    /// How many descriptions there are, so that a RELEASE without any takes no lock.
    count: AtomicUsize,
    next_edge: AtomicU64,
    /// How many there may be: a quarter for one user, three quarters for all but root, so that root always finds some.
    most: usize,
}

impl Locks {
    /// No locks; at most `most` descriptors will be used for them.
    pub fn new(most: usize) -> Locks {
        Locks {
            state: Mutex::default(),
            count: AtomicUsize::new(0),
            next_edge: AtomicU64::new(0),
            most,
        }
    }

    /// How many descriptions are open.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// True when nobody holds or waits for a lock.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True while a description of `node` is open here that may be one for writing, though its owner reads only.
    pub fn may_write(&self, node: NodeId) -> bool {
        let posix = |owner: &Owner| matches!(owner, Owner::Posix(_));
        !self.is_empty()
            && lock(&self.state)
                .nodes
                .get(&node)
                .is_some_and(|owners| owners.keys().any(posix))
    }

    fn find(self: &Arc<Locks>, node: NodeId, owner: Owner) -> Option<Use> {
        let state = lock(&self.state);
        let holder = state.nodes.get(&node)?.get(&owner)?.clone();
        lock(&holder.held).users += 1;
        Some(Use {
            locks: self.clone(),
            node,
            owner,
            holder,
        })
    }

    /// Takes `fd` as the description of `ask.owner`, unless another thread of it was faster.
    fn add(self: &Arc<Locks>, node: NodeId, ask: &Ask, fd: OwnedFd) -> Use {
        let fresh = || {
            Arc::new(Holder {
                fd,
                uid: ask.uid,
                held: Mutex::default(),
            })
        };
        let mut state = lock(&self.state);
        let state = &mut *state;
        let holder = match state.nodes.entry(node).or_default().entry(ask.owner) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                *state.by_user.entry(ask.uid).or_default() += 1;
                self.count.fetch_add(1, Ordering::Release);
                entry.insert(fresh()).clone()
            }
        };
        lock(&holder.held).users += 1;
        Use {
            locks: self.clone(),
            node,
            owner: ask.owner,
            holder,
        }
    }

    fn has_room(&self, uid: u32) -> bool {
        let state = lock(&self.state);
        let own = state.by_user.get(&uid).copied().unwrap_or(0);
        match uid {
            0 => self.len() < self.most,
            _ => own < self.most / 4 && self.len() < self.most / 4 * 3,
        }
    }

    /// Removes an owner that holds nothing.
    fn prune(&self, state: &mut State, node: NodeId, owner: Owner) {
        let Some(owners) = state.nodes.get_mut(&node) else {
            return;
        };
        if !owners
            .get(&owner)
            .is_some_and(|holder| lock(&holder.held).is_idle())
        {
            return;
        }
        if let Some(holder) = owners.remove(&owner) {
            self.count.fetch_sub(1, Ordering::Release);
            if let Some(count) = state.by_user.get_mut(&holder.uid) {
                *count -= 1;
                if *count == 0 {
                    state.by_user.remove(&holder.uid);
                }
            }
        }
        if owners.is_empty() {
            state.nodes.remove(&node);
        }
    }

    /// Gives up all that `owner` holds on `node`: the kernel says so with FLUSH when a descriptor is closed, whichever
    /// of the owner's it is, and with RELEASE for the lock of `flock(2)`.
    pub fn drop_owner(&self, node: NodeId, owner: Owner) {
        if self.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        let Some(holder) = state.nodes.get(&node).and_then(|owners| owners.get(&owner)) else {
            return;
        };
        holder.give_up(owner);
        self.prune(&mut state, node, owner);
    }

    /// Gives up what was locked through handle `fh` alone: its last descriptor is closed in every process.
    ///
    /// This ends `F_OFD_SETLK`'s locks, whose owner the kernel does not name at the end, and POSIX locks where the
    /// kernel was told not to send FLUSH.
    pub fn drop_handle(&self, node: NodeId, fh: u64) {
        if self.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        let Some(owners) = state.nodes.get(&node) else {
            return;
        };
        let mut ended = Vec::new();
        for (&owner, holder) in owners {
            let mut held = lock(&holder.held);
            let before = held.handles.len();
            held.handles.retain(|&handle| handle != fh);
            if held.handles.len() < before && held.handles.is_empty() {
                drop(held);
                holder.give_up(owner);
                ended.push(owner);
            }
        }
        for owner in ended {
            self.prune(&mut state, node, owner);
        }
    }

    /// The owner of this mount that holds `conflict`, by its process.
    fn process_of(&self, node: NodeId, asking: Owner, conflict: &Conflict) -> u32 {
        let state = lock(&self.state);
        let owners = state.nodes.get(&node).into_iter().flatten();
        owners
            .filter(|(owner, _)| **owner != asking)
            .map(|(_, holder)| lock(&holder.held))
            .find(|held| held.ranges.are_in_the_way(conflict.range, Kind::Exclusive))
            .map_or(0, |held| held.pid)
    }

    /// True if somebody of this mount holds what keeps `ask` waiting.
    fn is_held_here(&self, node: NodeId, ask: &Ask) -> bool {
        let state = lock(&self.state);
        blockers(&state, node, ask.owner, ask.range, ask.kind)
            .next()
            .is_some()
    }

    /// Notes that `ask.owner` is going to wait, unless that closes a cycle. As the kernel's own search
    /// (`posix_locks_deadlock`: 10 steps), this one gives up on large graphs, lest somebody builds one on purpose.
    fn begin_wait(&self, node: NodeId, ask: &Ask, kind: Kind) -> Result<u64, Errno> {
        let id = self.next_edge.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        let mut seen = Vec::new();
        let blocked_by = |node, owner, range, kind| {
            blockers(&state, node, owner, range, Some(kind)).take(SEARCH)
        };
        let mut next: Vec<Owner> = blocked_by(node, ask.owner, ask.range, kind).collect();
        while let Some(owner) = next.pop() {
            if owner == ask.owner {
                return Err(Errno::DEADLK);
            }
            if seen.contains(&owner) || seen.len() == SEARCH {
                continue;
            }
            seen.push(owner);
            for edge in state.waits.iter().filter(|edge| edge.owner == owner) {
                next.extend(blocked_by(edge.node, owner, edge.range, edge.kind));
            }
        }
        state.waits.push(Edge {
            id,
            node,
            owner: ask.owner,
            range: ask.range,
            kind,
        });
        Ok(id)
    }

    fn end_wait(&self, id: u64) {
        lock(&self.state).waits.retain(|edge| edge.id != id);
    }
}

/// The owners whose locks keep one of `asking` from being had.
fn blockers(
    state: &State,
    node: NodeId,
    asking: Owner,
    range: Range,
    kind: Option<Kind>,
) -> impl Iterator<Item = Owner> {
    let owners = state.nodes.get(&node).into_iter().flatten();
    owners.filter_map(move |(&owner, holder)| {
        let held = lock(&holder.held);
        let same_family = matches!(owner, Owner::Flock(_)) == matches!(asking, Owner::Flock(_));
        let blocks = held.flocked || held.ranges.are_in_the_way(range, kind?);
        (owner != asking && same_family && blocks).then_some(owner)
    })
}

impl Holder {
    /// Unlocks everything. Somebody who waits through this description goes on waiting.
    fn give_up(&self, owner: Owner) {
        let mut held = lock(&self.held);
        // Unlocking fails for want of memory only, and what is not unlocked goes with the descriptor.
        let _ = match owner {
            Owner::Posix(_) => sys::ofd_set(&self.fd, WHOLE, None),
            Owner::Flock(_) => sys::flock(&self.fd, None, false),
        };
        held.ranges.clear();
        held.flocked = false;
        held.handles.clear();
    }

    /// Locks or unlocks without waiting.
    fn set(&self, ask: &Ask) -> Result<(), Errno> {
        let mut held = lock(&self.held);
        let done = match ask.owner {
            Owner::Posix(_) => sys::ofd_set(&self.fd, ask.range, ask.kind),
            Owner::Flock(_) => sys::flock(&self.fd, ask.kind, false),
        };
        held.note(ask, done.is_ok());
        done
    }

    /// Locks, and waits for it.
    fn wait(&self, ask: &Ask, kind: Kind) -> Result<(), Errno> {
        let done = match ask.owner {
            Owner::Posix(_) => sys::ofd_wait(&self.fd, ask.range, kind),
            Owner::Flock(_) => sys::flock(&self.fd, Some(kind), true),
        };
        lock(&self.held).note(ask, done.is_ok());
        done
    }
}

impl Held {
    fn note(&mut self, ask: &Ask, done: bool) {
        match ask.owner {
            // The kernel gives the old lock up before it looks whether the new one can be had.
            Owner::Flock(_) => self.flocked = done && ask.kind.is_some(),
            Owner::Posix(_) if done => {
                self.ranges.set(ask.range, ask.kind);
                self.pid = ask.pid;
                if ask.kind.is_some() && !self.handles.contains(&ask.fh) {
                    self.handles.push(ask.fh);
                }
            }
            Owner::Posix(_) => {}
        }
    }
}

/// A request's use of a description; while it lives, the description stays.
struct Use {
    locks: Arc<Locks>,
    node: NodeId,
    owner: Owner,
    holder: Arc<Holder>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = lock(&self.locks.state);
        lock(&self.holder.held).users -= 1;
        self.locks.prune(&mut state, self.node, self.owner);
    }
}

/// All bytes there are and will be.
pub const WHOLE: Range = Range {
    first: 0,
    last: i64::MAX as u64,
};
