//! Who waits for whom: a ring of waiting owners is EDEADLK for the one that closes it.
//!
//! The rule is the kernel's (`posix_locks_deadlock`, fs/locks.c). An owner that waits does so for one other, the first whose
//! lock is in its way; whoever begins to wait, or must go on waiting after that one has given way, follows from owner to
//! owner, at most [`RING`] of them, and has closed a ring if it comes to itself. The lower kernel does not do this for
//! locks of open file descriptions, as all of ours are there.

use super::ask::{Ask, Owner};
use super::table::Tables;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::sys::lock::{LockKind, Range, ThreadId, wake};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many owners a search follows before it gives up (`MAX_DEADLK_ITERATIONS`).
const RING: usize = 10;

/// How many owners a search looks at, to find the first that is in the way, before it takes the first of those: nobody is
/// to make the others wait with a crowd gathered on purpose. A look takes about 50 ns.
const STEPS: usize = 1024;

/// How many waits of one owner a search looks at.
const THREADS: usize = 16;

/// How many waits are looked at again before others get the lock of the graph.
const AT_ONCE: usize = 4;

/// What owners wait for.
#[derive(Default)]
pub(super) struct Waits {
    graph: Mutex<Graph>,
    /// How many wait on each node, to be asked without the lock of the graph, and in all.
    by_node: scc::HashMap<NodeId, usize>,
    all: AtomicUsize,
    next: AtomicU64,
}

#[derive(Default)]
struct Graph {
    by_owner: HashMap<Owner, Vec<Edge>>,
    by_blocker: BTreeMap<(NodeId, Option<Owner>), BTreeSet<WaitId>>,
}

/// A wait that [`Waits::begin`] has noted: a number that grows, and who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaitId(u64, Owner);

/// An owner that waits.
#[derive(Clone, Copy)]
struct Edge {
    id: WaitId,
    node: NodeId,
    range: Range,
    kind: LockKind,
    /// For whom. `None`: for nobody of this mount, as far as is known; it may have what it waits for already.
    blocker: Option<Owner>,
    /// Where it waits.
    thread: Option<ThreadId>,
    /// It has closed a ring, and is to be told so.
    doomed: bool,
}

impl Graph {
    fn edge(&self, id: WaitId) -> Option<Edge> {
        let mut edges = self.by_owner.get(&id.1)?.iter();
        edges.find(|edge| edge.id == id).copied()
    }

    fn insert(&mut self, edge: Edge) {
        let waits_for = (edge.node, edge.blocker);
        self.by_blocker
            .entry(waits_for)
            .or_default()
            .insert(edge.id);
        self.by_owner.entry(edge.id.1).or_default().push(edge);
    }

    fn remove(&mut self, id: WaitId) -> Option<Edge> {
        let edges = self.by_owner.get_mut(&id.1)?;
        let at = edges.iter().position(|edge| edge.id == id)?;
        let edge = edges.remove(at);
        if edges.is_empty() {
            self.by_owner.remove(&id.1);
        }
        let waits_for = (edge.node, edge.blocker);
        if let Some(ids) = self.by_blocker.get_mut(&waits_for) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_blocker.remove(&waits_for);
            }
        }
        Some(edge)
    }

    fn change(&mut self, id: WaitId, change: impl FnOnce(&mut Edge)) {
        if let Some(mut edge) = self.remove(id) {
            change(&mut edge);
            self.insert(edge);
        }
    }

    /// For whom an owner waits. Its threads may wait for several; then it is the newest wait that counts, of those whose lock
    /// has not been had this moment.
    fn owner_waits_for(&mut self, owner: Owner, look: &mut Search<'_>) -> Option<Owner> {
        let mut edges = self.by_owner.get(&owner)?.clone();
        edges.sort_unstable_by_key(|edge| edge.id);
        let newest = edges.into_iter().rev().filter(|edge| !edge.doomed);
        newest
            .take(THREADS)
            .find_map(|edge| self.waits_for(edge, look))
    }

    /// For whom a wait is, looked at anew where that owner is not in its way any more.
    fn waits_for(&mut self, edge: Edge, look: &mut Search<'_>) -> Option<Owner> {
        if edge
            .blocker
            .is_some_and(|owner| look.is_in_the_way(&edge, owner))
        {
            return edge.blocker;
        }
        let blocker = look.first_in_the_way(&edge);
        self.change(edge.id, |edge| edge.blocker = blocker);
        blocker
    }

    /// True if `owner` waits for itself when it waits for `blocker`.
    fn closes_a_ring(
        &mut self,
        owner: Owner,
        mut blocker: Option<Owner>,
        look: &mut Search<'_>,
    ) -> bool {
        for _ in 0..=RING {
            let Some(next) = blocker.and_then(|owner| self.owner_waits_for(owner, look)) else {
                return false;
            };
            if next == owner {
                return true;
            }
            blocker = Some(next);
        }
        false
    }
}

impl Waits {
    /// Notes that `ask.owner` is going to wait, unless that closes a ring.
    ///
    /// # Errors
    /// EDEADLK.
    pub(super) fn begin(
        &self,
        tables: &Tables,
        node: NodeId,
        ask: &Ask,
        kind: LockKind,
    ) -> Result<WaitId, Errno> {
        let id = WaitId(self.next.fetch_add(1, Ordering::Relaxed), ask.owner);
        let mut edge = Edge {
            id,
            node,
            range: ask.range,
            kind,
            blocker: None,
            thread: None,
            doomed: false,
        };
        let mut graph = lock(&self.graph);
        // Before anybody's locks are looked at: who gives one up afterwards has this wait looked at again.
        self.all.fetch_add(1, Ordering::AcqRel);
        *self.by_node.entry_sync(node).or_default() += 1;
        let mut look = Search::new(tables);
        edge.blocker = look.first_in_the_way(&edge);
        if graph.closes_a_ring(ask.owner, edge.blocker, &mut look) {
            self.less(node);
            return Err(Errno::DEADLK);
        }
        graph.insert(edge);
        Ok(id)
    }

    /// Notes which thread waits.
    ///
    /// # Errors
    /// EDEADLK where the wait has closed a ring.
    pub(super) fn waits_in(&self, id: WaitId, thread: ThreadId) -> Result<(), Errno> {
        let mut graph = lock(&self.graph);
        graph.change(id, |edge| edge.thread = Some(thread));
        match graph.edge(id) {
            Some(edge) if edge.doomed => Err(Errno::DEADLK),
            _ => Ok(()),
        }
    }

    /// Takes a wait back.
    pub(super) fn end(&self, id: WaitId) {
        if let Some(edge) = lock(&self.graph).remove(id) {
            self.less(edge.node);
        }
    }

    /// True if anybody waits on `node`. Asked without the lock of the graph.
    pub(super) fn are_on(&self, node: NodeId) -> bool {
        self.all.load(Ordering::Acquire) > 0 && self.by_node.contains_sync(&node)
    }

    /// Looks again at those who wait for `owner` on `node`, or for nobody that was known. Answers who has closed a ring.
    pub(super) fn look_again(&self, tables: &Tables, node: NodeId, owner: Owner) -> Vec<WaitId> {
        let concerned = |graph: &Graph| {
            let groups = [Some(owner), None].map(|blocker| graph.by_blocker.get(&(node, blocker)));
            let ids = groups.into_iter().flatten().flatten().copied();
            ids.collect::<BTreeSet<_>>()
        };
        let ids: Vec<WaitId> = concerned(&lock(&self.graph)).into_iter().collect();
        let mut doomed = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let mut graph = lock(&self.graph);
            for &id in some {
                let Some(edge) = graph.edge(id).filter(|edge| !edge.doomed) else {
                    continue;
                };
                let mut look = Search::new(tables);
                let blocker = graph.waits_for(edge, &mut look);
                // Also where it is who it was: another search may have found that out, for a ring of its own.
                if graph.closes_a_ring(id.1, blocker, &mut look) {
                    graph.change(id, |edge| edge.doomed = true);
                    doomed.push(id);
                }
            }
            drop(graph);
            std::thread::yield_now();
        }
        doomed
    }

    /// Wakes a thread whose wait has closed a ring. False if it has left, or not come yet: it looks for itself then.
    pub(super) fn end_ring(&self, id: WaitId) -> bool {
        let graph = lock(&self.graph);
        // Under the lock: a wait is taken back before its thread ends, so the signal reaches no later one.
        let thread = graph.edge(id).and_then(|edge| edge.thread);
        thread.map(wake).is_some()
    }

    fn less(&self, node: NodeId) {
        self.all.fetch_sub(1, Ordering::AcqRel);
        self.by_node.remove_if_sync(&node, |count| {
            *count -= 1;
            *count == 0
        });
    }
}

/// A look at the owners of locks, of which there are so many.
struct Search<'a> {
    tables: &'a Tables,
    left: usize,
}

impl Search<'_> {
    fn new(tables: &Tables) -> Search<'_> {
        Search {
            tables,
            left: STEPS,
        }
    }

    /// True if a lock of `owner` keeps `edge` waiting.
    fn is_in_the_way(&mut self, edge: &Edge, owner: Owner) -> bool {
        self.left = self.left.saturating_sub(1);
        self.tables.get(edge.node).is_some_and(|table| {
            let holder = lock(&table).owners.get(&owner).cloned();
            holder.is_some_and(|holder| holder.is_in_the_way(edge.range, edge.kind))
        })
    }

    /// The owner that keeps `edge` waiting and has had locks on the file for longest.
    fn first_in_the_way(&mut self, edge: &Edge) -> Option<Owner> {
        let table = self.tables.get(edge.node)?;
        let table = lock(&table);
        let looked_at = table.owners.iter().take(self.left);
        self.left -= looked_at.len();
        looked_at
            .filter(|(owner, _)| owner.is_rival_of(edge.id.1))
            .filter(|(_, holder)| holder.is_in_the_way(edge.range, edge.kind))
            .min_by_key(|(_, holder)| holder.holds_since())
            .map(|(&owner, _)| owner)
    }
}
