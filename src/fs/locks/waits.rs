//! Who waits for whom: the graph in which a cycle is EDEADLK.

use super::{Ask, Locks, Owner};
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::sys::lock::{Kind, Range};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many owners and waits a search for a cycle looks at before it gives up, as the kernel's own does after ten
/// (`posix_locks_deadlock` of `fs/locks.c`): nobody is to make the others wait with a graph built on purpose. A look takes
/// about 50 ns.
const STEPS: usize = 1024;

/// What owners wait for.
#[derive(Default)]
pub struct Waits {
    by_owner: Mutex<HashMap<Owner, Vec<Edge>>>,
    next: AtomicU64,
}

/// An owner that waits.
struct Edge {
    id: u64,
    node: NodeId,
    range: Range,
    kind: Kind,
}

/// A wait that [`Locks::begin_wait`] has noted.
#[derive(Debug, Clone, Copy)]
pub struct WaitId(Owner, u64);

impl Locks {
    /// Notes that `ask.owner` is going to wait, unless that closes a cycle.
    ///
    /// # Errors
    /// EDEADLK.
    pub(super) fn begin_wait(&self, node: NodeId, ask: &Ask, kind: Kind) -> Result<WaitId, Errno> {
        let edge = Edge {
            id: self.waits.next.fetch_add(1, Ordering::Relaxed),
            node,
            range: ask.range,
            kind,
        };
        let id = WaitId(ask.owner, edge.id);
        let mut waits = lock(&self.waits.by_owner);
        let mut search = Search {
            locks: self,
            steps: STEPS,
            seen: HashSet::new(),
            next: Vec::new(),
        };
        search.blockers(ask.owner, &edge);
        while let Some(owner) = search.next.pop() {
            if owner == ask.owner {
                return Err(Errno::DEADLK);
            }
            for edge in waits.get(&owner).into_iter().flatten() {
                search.blockers(owner, edge);
            }
        }
        waits.entry(ask.owner).or_default().push(edge);
        Ok(id)
    }

    /// Takes a wait back.
    pub(super) fn end_wait(&self, WaitId(owner, id): WaitId) {
        let mut waits = lock(&self.waits.by_owner);
        if let Some(edges) = waits.get_mut(&owner) {
            edges.retain(|edge| edge.id != id);
            if edges.is_empty() {
                waits.remove(&owner);
            }
        }
    }
}

/// A search for a cycle.
struct Search<'a> {
    locks: &'a Locks,
    /// How many looks are left.
    steps: usize,
    seen: HashSet<Owner>,
    next: Vec<Owner>,
}

impl Search<'_> {
    /// Adds those whom `waiting` waits for by `edge`.
    fn blockers(&mut self, waiting: Owner, edge: &Edge) {
        let Some(table) = self.locks.table(edge.node) else {
            return;
        };
        let table = lock(&table);
        self.steps = self.steps.saturating_sub(1);
        for (&owner, holder) in &table.owners {
            if self.steps == 0 {
                return;
            }
            self.steps -= 1;
            if owner.is_rival_of(waiting)
                && holder.is_in_the_way(edge.range, edge.kind)
                && self.seen.insert(owner)
            {
                self.next.push(owner);
            }
        }
    }
}
