//! The table of known nodes: what the kernel may name by number.
//!
//! A node stands for one lower inode for as long as the kernel counts lookups of it. It holds no descriptor unless it
//! is a directory in use or has open handles, so that the number of known nodes is not bound by the descriptor limit.
//! Node numbers are never used twice, so a late FORGET or a stale handle can only miss, never hit a stranger.
//!
//! Finding a node, by number or by identity, takes no lock and allocates nothing.

pub(crate) mod climb;
mod finder;
pub(crate) mod forgotten;

pub(crate) mod link;
pub(crate) mod one;
pub(crate) mod restore;

use super::ids::{Key, NodeId};
use crate::ledger::flight::tally::{Changer, Number};
use crate::ledger::header::FirstPage;
use crate::ledger::node::NodeTable;
use finder::Finder;
use foldhash::quality;
pub(crate) use one::Node;
use one::identity;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How many forgotten nodes stay in the table: a megabyte of them.
const MOST_FORGOTTEN: usize = 4096;

/// All known nodes.
pub struct Nodes {
    by_id: Finder<NodeId>,
    /// By the hash of the identity, which takes less room than the identity; the node has that itself. Should two
    /// identities ever share one, the later node is found and the earlier one known by its number only.
    by_key: Finder<u64>,
    /// Seeded at start, so that nobody can choose file names or times for which identities collide.
    hasher: quality::RandomState,
    /// What a successor will find of them.
    table: &'static NodeTable,
    header: &'static FirstPage,
    root: Arc<Node>,
    /// Directories found elsewhere than before: the places remembered below them are good no more.
    moves: AtomicU64,
    /// Held by whoever changes where a directory lies.
    moving: Mutex<()>,
    /// How many of the nodes the kernel has forgotten; see [`forgotten`].
    asleep: AtomicUsize,
    /// In which order. One may be in it twice, when it was found and forgotten again.
    forgotten: Mutex<VecDeque<NodeId>>,
    /// How many of those stay.
    most_forgotten: AtomicUsize,
    /// See [`Nodes::links_are_kept`].
    links_are_kept: AtomicBool,
}

/// Births within so many nanoseconds are told apart by no kernel's clock for certain (10 ms at most), and whoever was told of
/// one is told otherwise soon after.
const YOUNG: u64 = 200_000_000;

/// True if what has this identity was born a moment ago, so that another one may get it with the number: see
/// [`super::stat::Stat::key`].
pub(crate) fn is_young(key: &Key) -> bool {
    let now = clock_gettime(ClockId::Realtime);
    let now = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    now.abs_diff(key.generation) < YOUNG
}

impl Nodes {
    /// The node of the mount's root, which is never forgotten.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// The node with that number.
    pub(crate) fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        if id == NodeId::ROOT {
            return Some(self.root.clone());
        }
        self.by_id.get(id)
    }

    /// The node of that inode if the kernel knows it; no lookup is counted.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Node>> {
        self.find_any(key).filter(|node| node.lookups() > 0)
    }

    /// The node of that inode, be it forgotten.
    fn find_any(&self, key: &Key) -> Option<Arc<Node>> {
        let found = self.by_key.get(self.hasher.hash_one(key));
        found.filter(|node| node.key() == *key)
    }

    /// The node of the inode `key`, found as `name` in `parent`, with one more lookup counted for `asker`.
    ///
    /// # Errors
    /// ENOMEM when too many are known.
    pub(crate) fn look_up(
        &self,
        key: Key,
        kind: u32,
        parent: NodeId,
        name: &CStr,
        asker: Changer<'_>,
    ) -> Result<Arc<Node>, Errno> {
        let known = self.find_any(&key).filter(|_| !self.renews(&key, kind));
        if let Some(node) = known {
            if node.kind() == kind && self.revive(&node, asker) {
                self.found_again(&node, parent, name);
                return Ok(node);
            }
        }
        self.add(key, kind, parent, name, asker)
    }

    /// As [`Nodes::look_up`], of an inode that most likely is not known: it has just been made.
    ///
    /// # Errors
    /// As [`Nodes::look_up`].
    pub(crate) fn add(
        &self,
        key: Key,
        kind: u32,
        parent: NodeId,
        name: &CStr,
        asker: Changer<'_>,
    ) -> Result<Arc<Node>, Errno> {
        let fresh = || {
            let id = NodeId(self.header.next_node.fetch_add(1, Ordering::Relaxed));
            let name = link::cut(name);
            let what = identity(id, key, kind);
            let lookups = Number::Lookups { node: id.0 };
            let slot = asker
                .count(lookups, 0, || self.table.begin(&what, parent.0, name))
                .ok_or(Errno::NOMEM)?;
            let node = Arc::new(Node::over(self.table, slot));
            self.by_id.insert(id, &node);
            Ok(node)
        };
        let hash = self.hasher.hash_one(key);
        let (node, is_known) = self.by_key.choose(hash, |found| {
            let renews = self.renews(&key, kind);
            let same = |node: &Arc<Node>| !renews && node.key() == key && node.kind() == kind;
            match found.filter(|node| same(node) && self.revive(node, asker)) {
                Some(node) => Ok((None, (node, true))),
                None => fresh().map(|node| (Some(node.clone()), (node, false))),
            }
        })?;
        if is_known {
            self.found_again(&node, parent, name);
        }
        Ok(node)
    }

    /// From here on the kernel keeps where symlinks lead, by their node's number.
    pub(crate) fn links_are_kept(&self) {
        self.links_are_kept.store(true, Ordering::Relaxed);
    }

    /// True if a symlink gets a number of its own each time that it is looked up: while another one may have its identity.
    fn renews(&self, key: &Key, kind: u32) -> bool {
        kind == libc::S_IFLNK && self.links_are_kept.load(Ordering::Relaxed) && is_young(key)
    }

    fn found_again(&self, node: &Node, parent: NodeId, name: &CStr) {
        // Where it has just been found, a file needs no other way, which would be kept as long as the node.
        if node.lookups() == 1 && !node.is_dir() {
            node.link().forget_all_but(None);
        }
        self.note(node, parent, name);
    }

    /// How often a directory was found elsewhere than before; part of a [`one::PlaceEpoch`].
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// How many nodes the kernel knows, the root included.
    pub fn count(&self) -> usize {
        self.by_id.len() + 1 - self.asleep.load(Ordering::Relaxed).min(self.by_id.len())
    }

    /// How many files and directories are open. Looks at every node: for reports, not for requests.
    pub(crate) fn handles(&self) -> usize {
        self.by_id.sum(|node| node.handles().len()) + self.root.handles().len()
    }
}
