//! Objects that lose the name by which they were found, while clients may still refer to them without it: by an
//! `O_PATH` descriptor, a working directory, another link.
//!
//! The last link's removal would take the inode with it, so it is held by a descriptor, which is closed when the kernel
//! forgets the node: at once, unless a client does refer to it. An inode with more links stays by itself and is found
//! again by its file handle, which costs no descriptor.

use super::Lower;
use super::resolve::Spot;
use crate::fs::ids::Key;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::sys::file_handle::FileHandle;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use std::ffi::CStr;
use std::sync::Arc;

/// A known object whose name is about to go. It is held from here on, so that a daemon that is killed when the name has
/// just gone leaves its successor what holds it.
#[must_use = "nothing is kept unless `keep` is called"]
pub(crate) struct Orphan {
    node: Arc<Node>,
    /// Of the last link; others have a file handle.
    fd: Option<Arc<OwnedFd>>,
}

impl Lower {
    /// What stands at `spot`, of which is taken hold if it is known. None of both also where descriptors have run out: the
    /// removal goes on, and only a client that refers to the object without a name notices.
    pub(crate) fn hold(&self, spot: &Spot, name: &CStr) -> (Option<Key>, Option<Orphan>) {
        let Ok((fd, stat)) = Stat::pinned(spot.dir(), name) else {
            return (None, None);
        };
        let key = stat.key(spot.side);
        (Some(key), self.orphan(&key, fd, &stat))
    }

    fn orphan(&self, key: &Key, fd: OwnedFd, stat: &Stat) -> Option<Orphan> {
        let node = self.nodes.find(key)?;
        if node.is_dir() {
            // A directory in use has a descriptor anyway.
            let _ = self.dir_fd(&node);
            return None;
        }
        if stat.0.stx_nlink > 1 {
            node.link().keep_handle(&FileHandle::of(&fd).ok()?);
            return Some(Orphan { node, fd: None });
        }
        let fd = Arc::new(fd);
        if node.dir().is_none() {
            node.hold(fd.clone());
        }
        Some(Orphan { node, fd: Some(fd) })
    }

    /// Another way to `node` when its name leads elsewhere: what was kept of it, as an `O_PATH` descriptor.
    pub(crate) fn without_name(&self, node: &Node) -> Option<Arc<OwnedFd>> {
        if let Some(fd) = node.dir().clone() {
            return Some(fd);
        }
        self.by_file_handle(node, OFlags::PATH).map(Arc::new)
    }
}

impl Orphan {
    /// The name is gone: the object is kept for whoever refers to it.
    pub(crate) fn keep(mut self, lower: &Lower) {
        if let Some(fd) = self.fd.take() {
            // Found under its name meanwhile, it was let go.
            self.node.hold(fd);
            lower.orphans.note(&lower.nodes, self.node.id);
        }
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(fd) = &self.fd {
            drop(self.node.let_go_of(fd));
        }
    }
}
