//! Objects that lose the name by which they were found, while clients may still refer to them without it: by an
//! `O_PATH` descriptor, a working directory, another link.
//!
//! The last link's removal would take the inode with it, so it is held by a descriptor, which is closed when the kernel
//! forgets the node: at once, unless a client does refer to it. An inode with more links stays by itself and is found
//! again by its file handle, which costs no descriptor.

use super::Fs;
use super::ids::NodeId;
use super::node::{Node, Nodes};
use super::stat::Stat;
use super::tree::Spot;
use crate::mutex::lock;
use crate::sys::creds::looking;
use crate::sys::file_handle::FileHandle;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};

/// Which files without a name hold a descriptor: a bounded number, lest somebody takes all there are by removing names of
/// what is referred to. Beyond it the ones kept for longest are given up.
pub struct Unnamed {
    limit: usize,
    kept: Mutex<VecDeque<NodeId>>,
}

impl Unnamed {
    /// At most `limit` are kept, or a few where that is less.
    pub fn new(limit: usize) -> Unnamed {
        Unnamed {
            limit: limit.max(16),
            kept: Mutex::default(),
        }
    }

    fn note(&self, nodes: &Nodes, id: NodeId) {
        let mut kept = lock(&self.kept);
        kept.push_back(id);
        if kept.len() <= 2 * self.limit {
            return;
        }
        // Most were forgotten, and their descriptors closed, at once.
        kept.retain(|&id| nodes.get(id).is_some());
        while kept.len() > self.limit {
            let oldest = kept.pop_front().and_then(|id| nodes.get(id));
            if let Some(node) = oldest.filter(|node| !node.is_dir()) {
                node.dir.store(None);
            }
        }
    }
}

/// A known object whose name is about to go.
#[must_use = "nothing is kept unless `keep` is called"]
pub struct Held {
    node: Arc<Node>,
    way: Way,
}

enum Way {
    Descriptor(OwnedFd),
    Handle(FileHandle),
}

impl Fs {
    /// Takes hold of what stands at `spot`, if it is known. `None` also where descriptors have run out: the removal goes
    /// on, and only a client that refers to the object without a name notices.
    pub fn hold(&self, spot: &Spot, name: &CStr) -> Option<Held> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = looking(|| rustix::fs::openat(spot.dir(), name, flags, Mode::empty())).ok()?;
        let stat = Stat::of(fd.as_fd()).ok()?;
        let node = self.nodes.find(&stat.key(spot.side))?;
        if node.is_dir() {
            // A directory in use has a descriptor anyway.
            let _ = self.dir_fd(&node);
            return None;
        }
        let way = if stat.0.stx_nlink > 1 {
            Way::Handle(FileHandle::of(&fd).ok()?)
        } else {
            Way::Descriptor(fd)
        };
        Some(Held { node, way })
    }

    /// Another way to `node` when its name leads elsewhere: what was kept of it, as an `O_PATH` descriptor.
    pub fn without_name(&self, node: &Node) -> Option<Arc<OwnedFd>> {
        if let Some(fd) = node.dir.load_full() {
            return Some(fd);
        }
        self.by_file_handle(node, OFlags::PATH).map(Arc::new)
    }
}

impl Held {
    /// The name is gone: the object is kept for whoever refers to it.
    pub fn keep(self, fs: &Fs) {
        match self.way {
            Way::Descriptor(fd) => {
                self.node.dir.store(Some(Arc::new(fd)));
                fs.unnamed.note(&fs.nodes, self.node.id);
            }
            Way::Handle(handle) => self.node.link().keep_handle(handle),
        }
    }
}
