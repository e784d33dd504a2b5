//! Nodes that the kernel has forgotten, and may still be asked for by number.
//!
//! A file handle of the mount (`name_to_handle_at(2)`, NFS) holds a node's number. When the kernel has dropped the inode it
//! asks for `.` of that number (`fuse_get_dentry`, fs/fuse/inode.c, with `FUSE_EXPORT_SUPPORT`), and the node must be the
//! same again: what was found meanwhile by a path, too. So the latest to be forgotten stay in the table, without a descriptor,
//! and the lower file system says whether the inode is still there.

use super::{Node, Nodes};
use crate::fs::ids::NodeId;
use crate::fs::stat::Stat;
use crate::ledger::flight::tally::Changer;
use crate::ledger::node::{GONE, LEAVING};
use crate::mutex::lock;
use crate::sys::file_handle::FileHandle;
use rustix::fd::AsFd as _;
use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A table with no more records than this is not large.
const SMALL: usize = 4096;

/// One is mostly empty if it has so many times the records that are in use.
const MOSTLY: usize = 2;

impl Nodes {
    /// Keeps every forgotten node, as long as the mount lives.
    pub(crate) fn keep_forgotten(&self) {
        self.most_forgotten.store(usize::MAX, Ordering::Relaxed);
    }

    /// Counts one more lookup, for `asker`, unless the node is on its way out.
    pub(crate) fn revive(&self, node: &Node, asker: Changer<'_>) -> bool {
        let lookups = &node.record().lookups;
        loop {
            // Held by whoever changes the count.
            let turn = node.link();
            match lookups.load(Ordering::Acquire) {
                GONE => return false,
                // For as long as a few assignments take.
                LEAVING => {
                    drop(turn);
                    std::thread::yield_now();
                }
                n => {
                    asker.count(node.number(), n, || lookups.store(n + 1, Ordering::Release));
                    self.asleep
                        .fetch_sub(usize::from(n == 0), Ordering::Relaxed);
                    return true;
                }
            }
        }
    }

    /// Takes `count` lookups back, for `asker`. At zero the node's descriptors are closed at once.
    pub(crate) fn forget(&self, id: NodeId, count: u64, asker: Changer<'_>) {
        if id == NodeId::ROOT {
            return;
        }
        let Some(node) = self.get(id) else { return };
        // Whether it can be asked for again is judged while the kernel still knows it.
        let stays = node.lookups() <= count && may_stay(&node);
        let back = stays.then(|| self.way_back(&node)).flatten();
        if let Some(back) = &back {
            node.link().keep_handle(back);
        }
        {
            let lookups = &node.record().lookups;
            let _turn = node.link();
            let before = lookups.load(Ordering::Acquire);
            let after = match before {
                0 | LEAVING | GONE => return,
                n if n <= count => LEAVING,
                n => n - count,
            };
            asker.count(node.number(), before, || {
                lookups.store(after, Ordering::Release);
            });
            if after != LEAVING {
                return;
            }
        }
        // Whoever finds it again finds it as new.
        node.record().set_posix_locks(false);
        node.told_ids().store(0, Ordering::Relaxed);
        node.set_no_acl(0);
        node.link().forget_all_but(back.as_ref());
        let dir = node.let_go();
        let handles = node.take_handles();
        self.asleep.fetch_add(1, Ordering::Relaxed);
        node.record().lookups.store(0, Ordering::Release);
        // Closing may take long.
        drop((dir, handles));
        match stays {
            true => self.keep_for_later(&node),
            false => self.drop_asleep(&node),
        }
    }

    /// The way back to a node whose name may be changed beneath before it is asked for again. One system call for what is
    /// no directory and lies in one that is in use; none where that is not so, and the name is all that is known then.
    fn way_back(&self, node: &Node) -> Option<FileHandle> {
        let (parent, name) = {
            let link = node.link();
            if let Some(known) = link.handle() {
                return Some(known);
            }
            (self.get(link.parent())?, link.name())
        };
        let dir = parent
            .dir()
            .clone()
            .filter(|_| parent.side() == node.side())?;
        // Should another object have the name, its handle leads to no inode of this identity.
        FileHandle::at(&*dir, name.as_c_str()).ok()
    }

    /// Remembers that a node was forgotten. The one that was so for longest goes.
    pub(super) fn keep_for_later(&self, node: &Node) {
        let most = self.most_forgotten.load(Ordering::Relaxed);
        if most == usize::MAX {
            return;
        }
        let oldest = {
            let mut order = lock(&self.forgotten);
            let turn = self.header.slept.fetch_add(1, Ordering::Relaxed);
            node.record().slept.store(turn, Ordering::Relaxed);
            order.push_back(node.id);
            (order.len() > most).then(|| order.pop_front()).flatten()
        };
        if let Some(node) = oldest.and_then(|id| self.get(id)) {
            self.drop_asleep(&node);
        }
    }

    /// Lets the forgotten nodes go whose records lie high in a table that is mostly empty. After a load they are scattered all
    /// over it, and each keeps memory that would go back in pieces of thousands of records ([`Table::give`]).
    ///
    /// [`Table::give`]: crate::ledger::table::Table::give
    pub(crate) fn settle(&self) {
        let (used, reached) = (self.by_id.len(), self.table.nodes.mark() as usize);
        let kept_for_ever = self.most_forgotten.load(Ordering::Relaxed) == usize::MAX;
        if kept_for_ever || reached <= SMALL || reached / MOSTLY < used {
            return;
        }
        let high = used.max(SMALL);
        let order = std::mem::take(&mut *lock(&self.forgotten));
        let mut low = VecDeque::new();
        for id in order {
            match self.get(id) {
                Some(node) if node.slot() as usize >= high => self.drop_asleep(&node),
                Some(_) => low.push_back(id),
                None => {}
            }
        }
        let mut order = lock(&self.forgotten);
        low.append(&mut order);
        *order = low;
    }

    /// Takes a node out of the table, unless the kernel knows it again.
    pub(super) fn drop_asleep(&self, node: &Arc<Node>) {
        let lookups = &node.record().lookups;
        let gone = {
            let _turn = node.link();
            lookups.compare_exchange(0, GONE, Ordering::AcqRel, Ordering::Relaxed)
        };
        if gone.is_err() {
            return;
        }
        let hash = self.hasher.hash_one(node.key());
        node.record().end();
        self.by_key.remove(hash, node.id);
        self.by_id.remove(node.id, node.id);
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a node that is about to be forgotten may be asked for again: not if its inode has no name left, and not if
/// nothing tells it from a later one of its number.
pub(super) fn may_stay(node: &Node) -> bool {
    if node.key().is_ambiguous() || node.link().is_nameless() {
        return false;
    }
    match &*node.dir() {
        None => true,
        // It is held because it has lost its name, or would have been missed otherwise.
        Some(held) => Stat::of(held.as_fd()).is_ok_and(|stat| stat.0.stx_nlink > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::Nodes;
    use crate::fs::ids::{Key, NodeId};
    use crate::ledger::Ledger;
    use crate::ledger::flight::tally::Changer;
    use crate::sys::inherit::Inherited;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    const NOBODY: Changer<'static> = Changer::NOBODY;

    #[test]
    fn what_has_left_is_let_go_of_though_nothing_comes_to_its_place() {
        let root = std::fs::File::open("/").expect("open the root");
        let ledger = Ledger::private().expect("memory");
        let (nodes, _) = Nodes::over(ledger, &Inherited::default(), Key::of_ino(0), root.into())
            .expect("an empty ledger");
        nodes.most_forgotten.store(0, Ordering::Relaxed);
        let look_up = |ino| {
            let node = nodes.look_up(
                Key::of_ino(ino),
                libc::S_IFREG,
                NodeId::ROOT,
                c"name",
                NOBODY,
            );
            node.expect("room")
        };
        let known: Vec<_> = (1..=1000)
            .map(|ino| {
                let node = look_up(ino);
                (node.id, Arc::downgrade(&node))
            })
            .collect();
        assert!(known.iter().all(|(_, node)| node.strong_count() > 0));
        for (id, _) in &known {
            nodes.forget(*id, 1, NOBODY);
        }
        let held = known.iter().filter(|(_, node)| node.strong_count() > 0);
        assert_eq!(held.count(), 0);
        assert_eq!(nodes.table.nodes.used().count(), 1, "the root's record");
        assert!(known.iter().all(|(id, _)| nodes.get(*id).is_none()));
        assert!(nodes.find(&Key::of_ino(7)).is_none());
        assert_ne!(look_up(7).id, known[6].0);
    }

    #[test]
    fn after_a_load_the_forgotten_do_not_keep_the_table_large() {
        let root = std::fs::File::open("/").expect("open the root");
        let ledger = Ledger::private().expect("memory");
        let (nodes, _) = Nodes::over(ledger, &Inherited::default(), Key::of_ino(0), root.into())
            .expect("an empty ledger");
        let look_up = |ino| {
            let node = nodes.look_up(
                Key::of_ino(ino),
                libc::S_IFREG,
                NodeId::ROOT,
                c"name",
                NOBODY,
            );
            node.expect("room").id
        };
        let known: Vec<_> = (1..=20_000).map(look_up).collect();
        // Every second stays known: then the table is not mostly empty.
        let (half, rest): (Vec<_>, Vec<_>) = known.iter().partition(|id| id.0 % 2 == 0);
        half.iter().for_each(|id| nodes.forget(*id, 1, NOBODY));
        nodes.settle();
        assert_eq!(nodes.by_id.len(), 10_000 + 4096);
        rest.iter()
            .rev()
            .for_each(|id| nodes.forget(*id, 1, NOBODY));
        assert_eq!(nodes.by_id.len(), 4096);
        nodes.settle();
        let kept = nodes.by_id.len();
        assert!((1..=4096).contains(&kept), "{kept}");
        // From 20,001; memory goes back in pieces of 4,096.
        let reached = nodes.table.nodes.mark();
        assert!(reached <= 2 * 4096, "{reached}");
        assert_eq!(nodes.count(), 1);
    }
}
