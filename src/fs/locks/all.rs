//! All locks of a mount.

use super::ask::{Ask, Owner};
use super::budget::Budget;
use super::kept::Kept;
use super::lookout::Lookout;
use super::table::Tables;
use super::waits::Waits;
use crate::fs::ids::NodeId;
use crate::ledger::Ledger;
use crate::mutex::lock;
use crate::sys::lock::Conflict;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many ranges all users may have locked: each takes some 200 bytes of the kernel's memory and 40 here, and every
/// further lock on the same file is compared with it by the kernel, about 3 ns each.
const MOST_RANGES: usize = 128 * 1024;

/// All locks of a mount.
pub(crate) struct Locks {
    pub(super) tables: Tables,
    pub(super) waits: Waits,
    /// What goes on while nobody asks.
    pub(crate) lookout: Arc<Lookout<(NodeId, Owner)>>,
    /// Descriptors: each owner has one, and another where the end of its process is watched.
    pub(super) owners: Budget,
    pub(super) ranges: Budget,
    /// How many locks there have been.
    pub(super) had: AtomicU64,
    /// What a successor is told.
    pub(super) kept: Arc<Kept>,
}

impl Locks {
    /// No locks; at most `most` descriptors will be used for them.
    pub(super) fn none(ledger: &'static Ledger, most: usize) -> Locks {
        Locks {
            kept: Arc::new(Kept::over(ledger)),
            tables: Tables::default(),
            waits: Waits::default(),
            lookout: Arc::default(),
            owners: Budget::new(most),
            ranges: Budget::new(MOST_RANGES),
            had: AtomicU64::new(0),
        }
    }

    pub(super) fn next_lock(&self) -> u64 {
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
                .tables
                .get(node)
                .is_some_and(|table| lock(&table).owners.values().any(|h| h.is_writable()))
    }

    /// The process of the owner of this mount that holds `conflict`; 0: none does, or its process is not known.
    pub(super) fn process_of(&self, node: NodeId, asking: Owner, conflict: &Conflict) -> u32 {
        let Some(table) = self.tables.get(node) else {
            return 0;
        };
        let table = lock(&table);
        let mut rivals = table.owners.iter().filter(|(o, _)| o.is_rival_of(asking));
        rivals
            .find_map(|(_, holder)| holder.process_with(conflict))
            .unwrap_or(0)
    }

    /// True if somebody of this mount holds what keeps `ask` waiting.
    pub(super) fn is_held_here(&self, node: NodeId, ask: &Ask) -> bool {
        let (Some(table), Some(kind)) = (self.tables.get(node), ask.kind) else {
            return false;
        };
        let table = lock(&table);
        table.blockers(ask.owner, ask.range, kind).next().is_some()
    }

    /// Removes an owner that holds nothing, and gives its descriptors back.
    pub(super) fn prune(&self, node: NodeId, owner: Owner) {
        if let Some(holder) = self.tables.prune(node, owner) {
            self.owners.give(holder.account, holder.descriptors());
        }
    }

    /// Says that `owner`'s locks on `node` have changed: who waits there may wait for somebody else now.
    pub(super) fn changed(&self, node: NodeId, owner: Owner) {
        if self.waits.are_on(node) {
            self.lookout.look_again((node, owner));
        }
    }
}
