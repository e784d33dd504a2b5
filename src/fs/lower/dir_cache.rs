//! Which directories hold a descriptor: a bounded number, given up by a clock with second chances.

use crate::fs::ids::NodeId;
use crate::fs::node::{Node, Nodes};
use crate::mutex::lock;
use crate::sys::file_handle::FileHandle;
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// How many descriptors are given up at once when there is none left for a file.
const RELIEF: usize = 64;

/// The clock over the directories that hold a descriptor. The root's is not in it and is never given up.
pub(crate) struct DirClock {
    limit: usize,
    ring: Mutex<VecDeque<NodeId>>,
}

impl DirClock {
    /// A clock that lets `limit` directories hold a descriptor.
    pub(crate) fn new(limit: usize) -> DirClock {
        DirClock {
            limit: limit.max(16),
            ring: Mutex::new(VecDeque::new()),
        }
    }

    /// Hands `fd` to `node` and returns the descriptor that the node now has (another thread may have been first).
    pub(crate) fn keep(&self, nodes: &Nodes, node: &Arc<Node>, fd: OwnedFd) -> Arc<OwnedFd> {
        let fd = Arc::new(fd);
        let mut ring = lock(&self.ring);
        if let Some(first) = &*node.dir() {
            return first.clone();
        }
        node.hold(fd.clone());
        node.dir_used.store(true, Ordering::Relaxed);
        self.admit(nodes, &mut ring, node.id);
        fd
    }

    /// The node `id` holds a descriptor already: a predecessor has given it one.
    pub(crate) fn keep_on(&self, nodes: &Nodes, id: NodeId) {
        self.admit(nodes, &mut lock(&self.ring), id);
    }

    fn admit(&self, nodes: &Nodes, ring: &mut VecDeque<NodeId>, id: NodeId) {
        ring.push_back(id);
        while ring.len() > self.limit {
            let Some(id) = ring.pop_front() else { break };
            let Some(old) = nodes.get(id) else { continue };
            if old.dir_used.swap(false, Ordering::Relaxed) {
                ring.push_back(id);
                continue;
            }
            give_up(&old);
        }
    }

    /// Descriptors have run out: gives up those of some directories, the ones unused for longest first. False if there was
    /// none to give up.
    pub(crate) fn relieve(&self, nodes: &Nodes) -> bool {
        let mut ring = lock(&self.ring);
        let mut given_up = 0;
        while given_up < RELIEF {
            let Some(id) = ring.pop_front() else { break };
            if let Some(node) = nodes.get(id) {
                give_up(&node);
                given_up += 1;
            }
        }
        given_up > 0
    }
}

/// Closes the directory's descriptor, keeping a file handle as the way back.
fn give_up(node: &Node) {
    if let Some(fd) = node.let_go() {
        let mut link = node.link();
        if link.has_handle() {
            return;
        }
        if let Ok(handle) = FileHandle::of(&*fd) {
            link.keep_handle(&handle);
        }
    }
}
