//! Who comes to hold locks on a node, and what ends them.

use super::all::Locks;
use super::ask::{Ask, Owner};
use super::holder::{Description, Holder};
use super::in_use::Use;
use super::waits::WaitId;
use crate::fs::budget::Account;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use rustix::io::Errno;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

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
            Entry::Vacant(entry) => match Holder::new(&self.kept, node, ask, description) {
                Some(holder) => entry.insert(Arc::new(holder)).clone(),
                None => {
                    self.owners.give(account, 1);
                    return Err(Errno::NOLCK);
                }
            },
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
            let Some(happened) = self.lookout.sleep(soon) else {
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
