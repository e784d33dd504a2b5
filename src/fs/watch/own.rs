//! What the mount's own clients change. The kernel knows of it; what is written down has to follow.

use super::clock::now;
use super::dirs::WrittenDown;
use super::keep::{WatchLease, is_plain};
use super::mode::On;
use crate::fs::ids::NodeId;
use crate::fs::lower::resolve::Spot;
use crate::fs::node::Node;
use crate::mutex::lock;
use std::ffi::CStr;
use std::sync::Arc;

/// A name that is renamed, or renamed over.
pub(crate) struct RenameEnd<'a> {
    /// The directory.
    pub(crate) dir: &'a Arc<Node>,
    /// Where it lies below.
    pub(crate) spot: &'a Spot,
    /// The name.
    pub(crate) name: &'a CStr,
}

impl On {
    /// A request has changed what `name` in `dir` leads to: the kernel keeps nothing of what it had, nor the directory's
    /// attributes (`fuse_dir_changed`, fs/fuse/dir.c).
    pub(crate) fn changed(&self, dir: NodeId, name: &CStr) {
        let dir = lock(&self.dirs).of_node(dir);
        if let Some(dir) = dir {
            let mut state = dir.state();
            state.remove(name.to_bytes());
            state.attributes = None;
        }
    }

    /// To be called before a rename, also of an exchange, which has two sources. The kernel keeps the source under its new
    /// name for as long as it would have kept it under the old one. False: it must not be, because the name that it gets is
    /// one of those that are never kept, and the kernel is to look the source up anew first, which makes it keep it no
    /// longer. (It does so upon ESTALE.)
    pub(crate) fn may_rename(&self, source: &RenameEnd<'_>, target: &RenameEnd<'_>) -> bool {
        if self.follows(target) {
            return true;
        }
        let Some(dir) = lock(&self.dirs).of_node(source.dir.id) else {
            return true;
        };
        let name = source.name.to_bytes();
        let mut state = dir.state();
        let kept = state.remove(name);
        let is_kept = kept.is_some_and(|kept| !kept.is_over(now()));
        if is_kept {
            state.bar(name);
        }
        !is_kept
    }

    /// True if what gets the name `target` may be kept there.
    fn follows(&self, target: &RenameEnd<'_>) -> bool {
        is_plain(target.spot) && self.lease(target.dir).is_some()
    }

    /// After a rename: `node` has the name `target`.
    pub(crate) fn renamed(
        &self,
        source: &RenameEnd<'_>,
        target: &RenameEnd<'_>,
        node: Option<NodeId>,
    ) {
        self.changed(source.dir.id, source.name);
        self.arrived(target, node);
    }

    /// After an exchange, one half of it.
    pub(crate) fn arrived(&self, target: &RenameEnd<'_>, node: Option<NodeId>) {
        self.changed(target.dir.id, target.name);
        let lease = self.lease(target.dir).filter(|_| is_plain(target.spot));
        let written_down = lease.zip(node).is_some_and(|(lease, node)| {
            let WatchLease { dir, .. } = lease;
            let mut state = dir.state();
            let name = target.name.to_bytes();
            !state.ended && state.keep(self.table, dir.node, name, node) == WrittenDown::Yes
        });
        if !written_down {
            // An answer that was on its way may have made the kernel keep it all the same.
            self.ask_to_drop(target.dir.id, target.name.to_bytes());
        }
    }

    /// A directory of which rules say something, or something below, was moved by a request that is about to be answered.
    pub(crate) fn moved_among_rules(&self) {
        // Nothing else drops names without waiting for the locks that this request's client holds.
        self.kernel.expire_all();
        self.ask_to_drop_all();
    }

    /// The node was forgotten by the kernel, and with it all that it has kept of it.
    pub(crate) fn forgotten(&self, node: NodeId) {
        let dir = lock(&self.dirs).of_node(node);
        if let Some(dir) = dir.filter(|_| node != NodeId::ROOT) {
            self.end(&dir);
        }
    }
}
