//! What a predecessor has left open.

use super::Opens;
use crate::fs::budget::slot_of;
use crate::fs::handle::ahead::Ahead;
use crate::fs::handle::{Dir, File, NO_DESCRIPTOR};
use crate::fs::ids::NodeId;
use crate::fs::node::Node;
use crate::ledger::flight::tally::{self, Number};
use crate::ledger::handle::{HandleKind, HandleRecord, OpenRecord};
use crate::ledger::table::Slot;
use crate::ledger::{Ledger, Unreadable};
use crate::sys::inherit::Inherited;
use rustix::fd::{OwnedFd, RawFd};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

/// More opens of one node than one user can have.
const MOST_LENT: u32 = 1 << 24;

impl Opens {
    /// Takes up what the ledger says is open. Passthrough's ids are restored already.
    ///
    /// # Errors
    /// What in the ledger contradicts itself.
    pub(crate) fn restore(
        &self,
        ledger: &'static Ledger,
        inherited: &Inherited,
    ) -> Result<(), Unreadable> {
        tally::settle(ledger, |number| self.loans_left(number));
        // Handles that are alike share a descriptor.
        let mut shared = HashMap::<RawFd, (NodeId, Arc<File>)>::new();
        let used: Vec<_> = self.records.used().collect();
        for (number, record) in used {
            let slot = Slot::adopt(self.records, number);
            let open = record
                .open()
                .ok_or(Unreadable::Broken("a handle is of no kind"))?;
            let Some(node) = self.lower.nodes.get(NodeId(open.node)) else {
                // It was closed with its node, which has been forgotten.
                continue;
            };
            self.restore_one(&node, &open, slot, inherited, &mut shared)
                .map_err(Unreadable::Broken)?;
        }
        Ok(())
    }

    /// How many opens of a user without a descriptor there were of a node when the predecessor was killed.
    fn loans_left(&self, number: Number) -> Option<u64> {
        let Number::Loans { node, fh } = number else {
            return None;
        };
        let open = self.records.used().filter_map(|(_, record)| record.open());
        let mut loans = open.filter(|open| open.kind == HandleKind::Lent && open.node == node);
        let found = loans.find(|open| slot_of(open.fh) == slot_of(fh));
        Some(found.map_or(0, |open| open.flags.into()))
    }

    fn restore_one(
        &self,
        node: &Arc<Node>,
        open: &OpenRecord,
        record: Slot<HandleRecord>,
        inherited: &Inherited,
        shared: &mut HashMap<RawFd, (NodeId, Arc<File>)>,
    ) -> Result<(), &'static str> {
        let fh = open.fh;
        if fh & NO_DESCRIPTOR != 0 {
            return Err("a handle has a number that was never given");
        }
        let take = |fd: Option<RawFd>| -> Result<OwnedFd, &'static str> {
            let fd = fd.and_then(|fd| inherited.take(fd));
            fd.ok_or("a handle's descriptor is not open")
        };
        let mut handles = node.handles();
        if handles.file(fh).is_some() || handles.dir(fh).is_some() {
            return Err("two handles have one number");
        }
        match open.kind {
            HandleKind::File { registered } => {
                let known = open.fd.and_then(|fd| shared.get(&fd));
                let file = match known {
                    Some((id, file)) if *id == node.id && file.flags == open.flags => file.clone(),
                    Some(_) => return Err("two files have one descriptor"),
                    None => Arc::new(File {
                        fd: take(open.fd)?,
                        flags: open.flags,
                        registered,
                        held: Some(self.descriptors.hold_again(fh)),
                    }),
                };
                shared.extend(open.fd.map(|fd| (fd, (node.id, file.clone()))));
                handles.backing.count(registered, 1);
                handles.add_file(fh, file, Some(record));
                self.descriptors.count_again(fh, 1);
            }
            HandleKind::Dir => {
                let dir = Dir {
                    fd: take(open.fd)?,
                    merge: OnceLock::new(),
                    ahead: Mutex::new(Ahead::inherited()),
                    held: Some(self.descriptors.hold_again(fh)),
                };
                handles.add_dir(fh, dir, Some(record));
                self.descriptors.count_again(fh, 1);
            }
            HandleKind::Lent => {
                let count = open.flags;
                if count == 0 || count > MOST_LENT || handles.lends(fh) {
                    return Err("opens without a descriptor are counted wrongly");
                }
                handles.backing.count(true, count);
                handles.lent_before(count, self.descriptors.hold_again(fh), Some(record));
                self.descriptors.count_again(fh, count);
            }
        }
        Ok(())
    }
}
