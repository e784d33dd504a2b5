//! Nodes that the kernel has forgotten, and may still be asked for by number.
//!
//! A file handle of the mount (`name_to_handle_at(2)`, NFS) holds a node's number. When the kernel has dropped the inode it
//! asks for `.` of that number (`fuse_get_dentry`, fs/fuse/inode.c, with `FUSE_EXPORT_SUPPORT`), and the node must be the
//! same again: what was found meanwhile by a path, too. So the latest to be forgotten stay in the table, without a descriptor,
//! and the lower file system says whether the inode is still there.

use super::{Node, Nodes};
use crate::fs::ids::NodeId;
use crate::fs::stat::Stat;
use crate::ledger::node::{GONE, LEAVING};
use crate::mutex::lock;
use crate::sys::file_handle::FileHandle;
use rustix::fd::AsFd as _;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Nodes {
    /// Keeps every forgotten node, as long as the mount lives.
    pub(crate) fn keep_forgotten(&self) {
        self.most_forgotten.store(usize::MAX, Ordering::Relaxed);
    }

    /// Counts one more lookup, unless the node is on its way out.
    pub(crate) fn revive(&self, node: &Node) -> bool {
        loop {
            match node.record().lookups.load(Ordering::Acquire) {
                GONE => return false,
                // For as long as a few assignments take.
                LEAVING => std::thread::yield_now(),
                n => {
                    let more = node.record().lookups.compare_exchange(
                        n,
                        n + 1,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if more.is_ok() {
                        self.asleep
                            .fetch_sub(usize::from(n == 0), Ordering::Relaxed);
                        return true;
                    }
                }
            }
        }
    }

    /// Takes `count` lookups back. At zero the node's descriptors are closed at once.
    pub(crate) fn forget(&self, id: NodeId, count: u64) {
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
        let less = |n: u64| match n {
            0 | LEAVING | GONE => None,
            n if n <= count => Some(LEAVING),
            n => Some(n - count),
        };
        let before = node
            .record()
            .lookups
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        if !before.is_ok_and(|n| n <= count) {
            return;
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

    /// Takes a node out of the table, unless the kernel knows it again.
    pub(super) fn drop_asleep(&self, node: &Arc<Node>) {
        let gone =
            node.record()
                .lookups
                .compare_exchange(0, GONE, Ordering::AcqRel, Ordering::Relaxed);
        if gone.is_err() {
            return;
        }
        let hash = self.hasher.hash_one(node.key());
        node.record().end();
        self.by_key
            .remove_if_sync(&hash, |known| known.id == node.id);
        self.by_id.remove_sync(&node.id);
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
