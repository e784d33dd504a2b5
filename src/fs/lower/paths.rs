//! From a node to its path.

use super::Lower;
use crate::fs::ids::{CONFIG_NAME, NodeId};
use crate::fs::node::Node;
use crate::fs::node::climb::ClimbStep;
use crate::fs::stat::Stat;
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

impl Lower {
    /// The path of a node below the mount, without a leading slash; empty for the root.
    ///
    /// # Errors
    /// ESTALE when the way up is not known.
    pub(crate) fn path_of(&self, id: NodeId) -> Result<Vec<u8>, Errno> {
        if id == NodeId::CONFIG {
            return Ok(CONFIG_NAME.to_bytes().to_vec());
        }
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        Ok(joined(&self.way_to(&node)?))
    }

    /// As [`Lower::path_of`], for somebody whose rights `look` has: a path that can be walked with them, and that leads to
    /// the node at this moment.
    ///
    /// A node remembers the name under which anybody has found it last, which may lie in a directory that is closed to
    /// whoever asks; natively the kernel tells somebody who holds a file only the name by which that was opened.
    ///
    /// # Errors
    /// EACCES when a directory on the way may not be searched; ESTALE when the name leads elsewhere, or as
    /// [`Lower::path_of`].
    pub(crate) fn walked_path(
        &self,
        id: NodeId,
        look: impl Fn(BorrowedFd<'_>, &CStr) -> Result<Stat, Errno>,
    ) -> Result<Vec<u8>, Errno> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let steps = self.way_to(&node)?;
        let mut above = self.nodes.root();
        for ClimbStep { node, name } in &steps {
            let dir = self.dir_on(above, node.side())?;
            match look(dir.as_fd(), name) {
                Ok(stat) if stat.key(node.side()) == node.key() => {}
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Err(Errno::STALE),
                Err(errno) => return Err(errno),
            }
            above = node;
        }
        Ok(joined(&steps))
    }

    /// The way from the root to `node`, which is the last.
    fn way_to(&self, node: &Arc<Node>) -> Result<Vec<ClimbStep>, Errno> {
        let is_root = |at: &Arc<Node>| (at.id == NodeId::ROOT).then_some(());
        let ((), mut steps) = self.nodes.climb(node, is_root)?;
        steps.reverse();
        Ok(steps)
    }
}

fn joined(steps: &[ClimbStep]) -> Vec<u8> {
    let names: Vec<&[u8]> = steps.iter().map(|step| step.name.to_bytes()).collect();
    names.join(&b'/')
}
