//! Nodes by something that leads to them. Finding one takes no lock and allocates nothing.

use super::one::Node;
use crate::fs::ids::NodeId;
use arc_swap::ArcSwapOption;
use foldhash::fast;
use scc::HashIndex;
use scc::hash_index::Entry;
use std::hash::Hash;
use std::sync::Arc;

/// What finds them. What is removed is let go of at once: the table itself drops a removed entry only when another one comes to its
/// place, and after a load would keep all the nodes of a large tree, and their records, for as long as none does.
pub(super) struct Finder<K>(HashIndex<K, NodePlace, fast::RandomState>);

/// Where the table keeps a node; empty: it has been removed.
struct NodePlace(ArcSwapOption<Node>);

impl NodePlace {
    fn of(node: &Arc<Node>) -> NodePlace {
        NodePlace(ArcSwapOption::new(Some(node.clone())))
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.0.load_full()
    }
}

impl<K: Copy + Eq + Hash> Finder<K> {
    /// An empty one, with room for so many.
    pub(super) fn with_room(count: usize) -> Finder<K> {
        Finder(HashIndex::with_capacity_and_hasher(
            count,
            Default::default(),
        ))
    }

    /// What `key` leads to.
    pub(super) fn get(&self, key: K) -> Option<Arc<Node>> {
        self.0.peek_with(&key, |_, place| place.node())?
    }

    /// Has `key` lead to `node`; false if it leads to another.
    pub(super) fn insert(&self, key: K, node: &Arc<Node>) -> bool {
        self.0.insert_sync(key, NodePlace::of(node)).is_ok()
    }

    /// Has `key` lead to the node that `choice` answers first, if any; it is told what `key` has led to so far. Nobody else
    /// changes that meanwhile.
    pub(super) fn choose<T, E>(
        &self,
        key: K,
        choice: impl FnOnce(Option<Arc<Node>>) -> Result<(Option<Arc<Node>>, T), E>,
    ) -> Result<T, E> {
        match self.0.entry_sync(key) {
            Entry::Occupied(mut entry) => {
                let (chosen, answer) = choice(entry.get().node())?;
                if let Some(node) = chosen {
                    entry.get().0.store(None);
                    entry.update(NodePlace::of(&node));
                }
                Ok(answer)
            }
            Entry::Vacant(entry) => {
                let (chosen, answer) = choice(None)?;
                if let Some(node) = chosen {
                    entry.insert_entry(NodePlace::of(&node));
                }
                Ok(answer)
            }
        }
    }

    /// Has `key` lead nowhere, if it leads to the node with this number.
    pub(super) fn remove(&self, key: K, id: NodeId) {
        self.0.remove_if_sync(&key, |place| {
            let is_it = place.node().is_some_and(|node| node.id == id);
            if is_it {
                place.0.store(None);
            }
            is_it
        });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The sum over all nodes, of which some may come and go meanwhile.
    pub(super) fn sum(&self, of: impl Fn(&Node) -> usize) -> usize {
        let guard = scc::Guard::new();
        let nodes = self.0.iter(&guard).filter_map(|(_, place)| place.node());
        nodes.map(|node| of(&node)).sum()
    }
}
