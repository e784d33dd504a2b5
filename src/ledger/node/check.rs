//! What a predecessor has left of nodes, looked through before it is believed.

use super::{HANDLE, LONGEST_HANDLE, NOWHERE, NodeTable, RELAXED, WORDS, handle_len};
use crate::ledger::table::FlatRecord as _;
use crate::ledger::words;

impl NodeTable {
    /// Looks through the node's record, which a predecessor has left, before anything else is asked of it. What
    /// contradicts itself: said in words.
    pub(crate) fn check(&self, slot: u32) -> Result<(), &'static str> {
        let record = self.nodes.at(slot);
        let word = record.handle.load(RELAXED);
        let handle_at = record.handle_at.load(RELAXED);
        let own = words::taken_by(handle_len(word));
        if word & HANDLE == 0 && word != 0 || handle_len(word) > LONGEST_HANDLE {
            return Err("a file handle is too long");
        }
        if handle_at == 0 && own > WORDS {
            return Err("a file handle lies beyond its record");
        }
        let room = if handle_at == 0 { WORDS - own } else { WORDS };
        let name_at = record.name_at.load(RELAXED);
        if name_at == 0 && words::taken_by(record.name_len.load(RELAXED).into()) > room {
            return Err("a name lies beyond its record");
        }
        for at in [name_at, handle_at] {
            if at == 0 || at == NOWHERE {
                continue;
            }
            let aside = self.aside.get(at - 1).ok_or("a name lies nowhere")?;
            if aside.owner.load(RELAXED) != slot + 1 {
                return Err("a name is of two nodes");
            }
        }
        if name_at == handle_at && name_at != 0 || handle_at == NOWHERE {
            return Err("a name is a file handle");
        }
        let dir = record.dir.load(RELAXED);
        if dir < 0 {
            return Err("a descriptor has no number");
        }
        Ok(())
    }

    /// Takes back what a predecessor has written aside and not come to use.
    pub(crate) fn reclaim(&self) {
        let unused: Vec<u32> = self
            .aside
            .used()
            .filter(|(at, aside)| {
                let owner = aside.owner.load(RELAXED) - 1;
                !self.nodes.get(owner).is_some_and(|record| {
                    record.is_used()
                        && [&record.name_at, &record.handle_at]
                            .iter()
                            .any(|word| word.load(RELAXED) == at + 1)
                })
            })
            .map(|(at, _)| at)
            .collect();
        unused.into_iter().for_each(|at| self.give_aside(at + 1));
    }
}
