//! Which objects without a name are held by a descriptor.

use crate::fs::ids::NodeId;
use crate::fs::node::Nodes;
use crate::mutex::lock;
use std::collections::VecDeque;
use std::sync::Mutex;

/// Which files without a name hold a descriptor: a bounded number, lest somebody takes all there are by removing names of
/// what is referred to. Beyond it the ones kept for longest are given up.
pub(crate) struct Orphans {
    limit: usize,
    kept: Mutex<VecDeque<NodeId>>,
}

impl Orphans {
    /// At most `limit` are kept, or a few where that is less.
    pub(crate) fn new(limit: usize) -> Orphans {
        Orphans {
            limit: limit.max(16),
            kept: Mutex::default(),
        }
    }

    /// Notes that `id` is held, and gives up what has been held for longest where there are too many.
    pub(crate) fn note(&self, nodes: &Nodes, id: NodeId) {
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
                drop(node.let_go());
            }
        }
    }
}
