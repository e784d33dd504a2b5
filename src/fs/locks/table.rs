//! Who has locks, node by node.

use super::ask::Owner;
use super::holder::Holder;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::sys::lock::{LockKind, Range};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

/// The owners of locks on one node.
#[derive(Default)]
pub(super) struct OwnerTable {
    pub(super) owners: HashMap<Owner, Arc<Holder>>,
    /// Through which handles which owners have locked ranges.
    pub(super) through: BTreeSet<(u64, Owner)>,
}

impl OwnerTable {
    /// Those whose locks keep `asking` from getting one.
    pub(super) fn blockers(
        &self,
        asking: Owner,
        range: Range,
        kind: LockKind,
    ) -> impl Iterator<Item = (&Owner, &Arc<Holder>)> {
        self.owners.iter().filter(move |(owner, holder)| {
            owner.is_rival_of(asking) && holder.is_in_the_way(range, kind)
        })
    }

    pub(super) fn through(&self, fh: u64) -> Vec<Owner> {
        let all = (fh, Owner::Posix(0))..=(fh, Owner::Flock(u64::MAX));
        self.through.range(all).map(|&(_, owner)| owner).collect()
    }
}

/// The tables of all nodes that have owners.
#[derive(Default)]
pub(super) struct Tables(scc::HashMap<NodeId, Arc<Mutex<OwnerTable>>>);

impl Tables {
    /// The one of `node`, if anybody is in it.
    pub(super) fn get(&self, node: NodeId) -> Option<Arc<Mutex<OwnerTable>>> {
        self.0.read_sync(&node, |_, table| table.clone())
    }

    /// The one of `node`, made if need be.
    pub(super) fn get_or_make(&self, node: NodeId) -> Arc<Mutex<OwnerTable>> {
        // The entry is locked only until the table is had.
        self.0.entry_sync(node).or_default().get().clone()
    }

    /// Removes an owner that holds nothing, and the table that nobody is in; it is the answer then.
    pub(super) fn prune(&self, node: NodeId, owner: Owner) -> Option<Arc<Holder>> {
        let shared = self.get(node)?;
        let mut table = lock(&shared);
        if !table.owners.get(&owner).is_some_and(|h| h.is_idle()) {
            return None;
        }
        let ended = table.owners.remove(&owner);
        if let Some(holder) = &ended {
            for (fh, slot) in std::mem::take(&mut lock(&holder.locked).handles) {
                table.through.remove(&(fh, owner));
                holder.kept.end_handle(slot);
            }
            holder.kept.end();
        }
        let empty = table.owners.is_empty();
        drop(table);
        drop(shared);
        if empty {
            // Whoever has the table in hand this moment is going to use it, and comes here afterwards.
            self.0.remove_if_sync(&node, |table| {
                Arc::strong_count(table) == 1 && lock(table).owners.is_empty()
            });
        }
        ended
    }
}
