//! From a node's number, as a file handle of the mount holds it, to the node.

use super::Lower;
use crate::fs::ids::NodeId;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::ledger::flight::tally::Changer;
use rustix::fd::AsFd as _;
use rustix::io::Errno;
use std::sync::Arc;

impl Lower {
    /// The node with the number `id` of a file handle, and what it is, with one more lookup counted for `asker`.
    ///
    /// # Errors
    /// ESTALE when it is no more, or was forgotten too long ago.
    pub(crate) fn by_number(
        &self,
        id: NodeId,
        asker: Changer<'_>,
    ) -> Result<(Arc<Node>, Stat), Errno> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let stat = self.stat(&node)?;
        self.count(node, stat, asker)
    }

    /// The directory that the directory `id` lies in, with one more lookup counted; of the root, the root itself. Never what
    /// the lower file system calls `..`, which may lie outside: only where the directory is found as what it is.
    ///
    /// # Errors
    /// ENOTDIR; ESTALE when it is not where it was last found.
    pub(crate) fn above_number(
        &self,
        id: NodeId,
        asker: Changer<'_>,
    ) -> Result<(Arc<Node>, Stat), Errno> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        if !node.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let above = match id {
            NodeId::ROOT => node,
            _ => {
                let (dir, name) = self.spot_of(&node)?;
                let found = Stat::at(dir.as_fd(), name.as_c_str()).map_err(|_| Errno::STALE)?;
                let parent = node.link().parent();
                if found.key(node.side()) != node.key() {
                    return Err(Errno::STALE);
                }
                self.nodes.get(parent).ok_or(Errno::STALE)?
            }
        };
        let stat = self.stat(&above)?;
        self.count(above, stat, asker)
    }

    fn count(
        &self,
        node: Arc<Node>,
        stat: Stat,
        asker: Changer<'_>,
    ) -> Result<(Arc<Node>, Stat), Errno> {
        let exists = stat.0.stx_nlink > 0 || node.lookups() > 0;
        // The root is never forgotten, and nobody counts.
        if !exists || !(node.id == NodeId::ROOT || self.nodes.revive(&node, asker)) {
            return Err(Errno::STALE);
        }
        Ok((node, stat))
    }
}
