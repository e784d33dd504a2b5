//! The table of known nodes: what the kernel may name by number.
//!
//! A node stands for one lower inode for as long as the kernel counts lookups of it. It holds no descriptor unless it
//! is a directory in use or has open handles, so that the number of known nodes is not bound by the descriptor limit.
//! Node numbers are never used twice, so a late FORGET or a stale handle can only miss, never hit a stranger.
//!
//! Finding a node, by number or by identity, takes no lock and allocates nothing.

pub(crate) mod climb;
pub(crate) mod forgotten;

use super::handle::{Handles, HandlesGuard};
use super::ids::Side;
use super::ids::{Key, NodeId};
use super::rules::Place;
use crate::mutex::lock;
use crate::sys::file_handle::FileHandle;
use arc_swap::ArcSwapOption;
use foldhash::{fast, quality};
use rustix::fd::OwnedFd;
use scc::HashIndex;
use scc::hash_index::Entry;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a remembered place is good for: one version of the rules, and one state of the directory tree as far as
/// directories have been moved. 12 bits and 32, above the 20 bits of the place: only root makes versions, but anybody
/// moves, and must not bring an old epoch back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceEpoch(u64);

const PLACE_MASK: u64 = (1 << 20) - 1;

impl PlaceEpoch {
    /// The epoch of rules `version` after `moves` moves.
    pub(crate) fn new(version: u64, moves: u64) -> PlaceEpoch {
        PlaceEpoch((version << 52) | ((moves & 0xffff_ffff) << 20))
    }
}

/// Where a node was last found.
pub(crate) struct Link {
    /// The directory; for the root, itself.
    pub(crate) parent: NodeId,
    /// Its name there.
    pub(crate) name: Box<CStr>,
    /// Boxed: of most nodes nothing is known.
    known: Option<Box<Known>>,
}

/// What is remembered of an inode, wherever it is.
#[derive(Default)]
struct Known {
    handle: Option<FileHandle>,
    target: Option<Box<[u8]>>,
}

impl Link {
    /// True if that is where it says.
    pub(crate) fn is(&self, parent: NodeId, name: &CStr) -> bool {
        self.parent == parent && *self.name == *name
    }

    /// Says another place.
    pub(crate) fn set(&mut self, parent: NodeId, name: &CStr) {
        self.parent = parent;
        self.name = name.into();
    }

    /// The way back to the inode when its name leads elsewhere. Directories have one from the first lookup on.
    pub(crate) fn handle(&self) -> Option<&FileHandle> {
        self.known.as_ref()?.handle.as_ref()
    }

    /// Remembers the way back.
    pub(crate) fn keep_handle(&mut self, handle: FileHandle) {
        self.known.get_or_insert_default().handle = Some(handle);
    }

    /// Where the symlink leads, if it has been read.
    pub(crate) fn target(&self) -> Option<&[u8]> {
        self.known.as_ref()?.target.as_deref()
    }

    /// Forgets everything of the inode but the way back to it.
    pub(crate) fn forget_all_but(&mut self, back: Option<FileHandle>) {
        self.known = back.map(|handle| {
            Box::new(Known {
                handle: Some(handle),
                target: None,
            })
        });
    }

    /// Remembers where the symlink leads.
    pub(crate) fn keep_target(&mut self, target: &[u8]) {
        self.known.get_or_insert_default().target = Some(target.into());
    }
}

/// One known lower inode.
pub struct Node {
    /// Its number.
    pub(crate) id: NodeId,
    /// Its identity.
    pub(crate) key: Key,
    /// See [`Node::kind`]. In 16 bits it takes no more room than the flags leave.
    kind: u16,
    /// Lookups that the kernel has not yet forgotten. [`GONE`] is final: the node is on its way out.
    lookups: AtomicU64,
    link: Mutex<Link>,
    /// The place in the rule tree, with the epoch that it is good for; 0: not known. See [`Node::place`].
    place: AtomicU64,
    /// A directory's descriptor, while the directory is in use; or an `O_PATH` one of a file without a name.
    pub(crate) dir: ArcSwapOption<OwnedFd>,
    /// Set by each use of `dir`, cleared by the clock that decides which descriptors to give up.
    pub(crate) dir_used: AtomicBool,
    /// Boxed, and only while there are some: most known nodes are not open.
    handles: Mutex<Option<Box<Handles>>>,
    /// A POSIX lock was asked for at some time.
    posix_locks: AtomicBool,
    /// Which ids the kernel was last told that the file gives to who runs it: see [`super::grants`].
    pub(crate) told_ids: AtomicU16,
    /// The kernel has asked for pages since they were dropped.
    pages: AtomicBool,
    /// The change time, ns since 1970, of the state in which it had no access ACL; 0: none is known.
    pub(crate) no_acl: AtomicU64,
}

impl Node {
    fn new(id: NodeId, key: Key, kind: u32, parent: NodeId, name: &CStr) -> Node {
        Node {
            id,
            key,
            kind: (kind & libc::S_IFMT) as u16,
            lookups: AtomicU64::new(1),
            link: Mutex::new(Link {
                parent,
                name: name.into(),
                known: None,
            }),
            place: AtomicU64::new(0),
            dir: ArcSwapOption::empty(),
            dir_used: AtomicBool::new(false),
            handles: Mutex::new(None),
            posix_locks: AtomicBool::new(false),
            told_ids: AtomicU16::new(0),
            pages: AtomicBool::new(false),
            no_acl: AtomicU64::new(0),
        }
    }

    /// Its file type, `S_IFDIR` and so on; fixed for the life of an inode.
    pub(crate) fn kind(&self) -> u32 {
        self.kind.into()
    }

    /// True for a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// The side that this node is on.
    pub(crate) fn side(&self) -> Side {
        self.key.side
    }

    /// Where the node was last found.
    pub(crate) fn link(&self) -> MutexGuard<'_, Link> {
        lock(&self.link)
    }

    /// The open handles of the node.
    pub(crate) fn handles(&self) -> HandlesGuard<'_> {
        HandlesGuard::new(lock(&self.handles))
    }

    /// Notes that POSIX locks are used on this file.
    pub(crate) fn note_posix_locks(&self) {
        self.posix_locks.store(true, Ordering::Relaxed);
    }

    /// True if POSIX locks have been used on this file since the kernel first looked it up.
    pub(crate) fn had_posix_locks(&self) -> bool {
        self.posix_locks.load(Ordering::Relaxed)
    }

    /// Notes that the kernel keeps pages of this file: of mappings, and of what is spliced.
    pub(crate) fn note_pages(&self) {
        self.pages.store(true, Ordering::Relaxed);
    }

    /// True if the kernel may keep pages of this file.
    pub(crate) fn has_pages(&self) -> bool {
        self.pages.load(Ordering::Relaxed)
    }

    /// Notes that the kernel is about to drop its pages of this file. True if it may have kept some.
    pub(crate) fn drop_pages(&self) -> bool {
        self.pages.swap(false, Ordering::Relaxed)
    }

    /// The remembered place in the rule tree, if it was derived in `epoch`: the outer `None` says that it must be
    /// derived, the inner that no rule concerns this directory or anything below it.
    pub(crate) fn place(&self, epoch: PlaceEpoch) -> Option<Option<Place>> {
        let word = self.place.load(Ordering::Relaxed);
        if word & !PLACE_MASK != epoch.0 {
            return None;
        }
        match word & PLACE_MASK {
            0 => None,
            1 => Some(None),
            at => Some(Some(Place(at as u32 - 2))),
        }
    }

    /// Remembers the place. One too large for the word is derived every time.
    pub(crate) fn set_place(&self, epoch: PlaceEpoch, place: Option<Place>) {
        let low = place.map_or(1, |p| u64::from(p.0) + 2);
        if low <= PLACE_MASK {
            self.place.store(epoch.0 | low, Ordering::Relaxed);
        }
    }

    /// True if the kernel has not forgotten it; the root it never forgets.
    pub(crate) fn is_known(&self) -> bool {
        self.lookups() > 0
    }

    /// Lookups that the kernel has not forgotten.
    pub(crate) fn lookups(&self) -> u64 {
        match self.lookups.load(Ordering::Relaxed) {
            GONE | LEAVING => 0,
            n => n,
        }
    }
}

/// The count of lookups of a node that has left the table.
const GONE: u64 = u64::MAX;

/// And of one that is being forgotten at this moment.
const LEAVING: u64 = u64::MAX - 1;

/// How many forgotten nodes stay in the table: a megabyte of them.
const MOST_FORGOTTEN: usize = 4096;

/// All known nodes.
pub struct Nodes {
    by_id: HashIndex<NodeId, Arc<Node>, fast::RandomState>,
    /// By the hash of the identity, which takes less room than the identity; the node has that itself. Should two
    /// identities ever share one, the later node is found and the earlier one known by its number only.
    by_key: HashIndex<u64, Arc<Node>, fast::RandomState>,
    /// Seeded at start, so that nobody can choose file names or times for which identities collide.
    hasher: quality::RandomState,
    next: AtomicU64,
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
}

impl Nodes {
    /// A table that knows the root only.
    pub(crate) fn new(root: Key, dir: OwnedFd) -> Nodes {
        let node = Node::new(NodeId::ROOT, root, libc::S_IFDIR, NodeId::ROOT, c".");
        node.dir.store(Some(Arc::new(dir)));
        let nodes = Nodes {
            by_id: HashIndex::default(),
            by_key: HashIndex::default(),
            hasher: quality::RandomState::default(),
            next: AtomicU64::new(NodeId::FIRST),
            root: Arc::new(node),
            moves: AtomicU64::new(0),
            moving: Mutex::new(()),
            asleep: AtomicUsize::new(0),
            forgotten: Mutex::default(),
            most_forgotten: AtomicUsize::new(MOST_FORGOTTEN),
        };
        let hash = nodes.hasher.hash_one(root);
        let _ = nodes.by_key.insert_sync(hash, nodes.root.clone());
        nodes
    }

    /// The node of the mount's root, which is never forgotten.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// The node with that number.
    pub(crate) fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        if id == NodeId::ROOT {
            return Some(self.root.clone());
        }
        self.by_id.peek_with(&id, |_, node| node.clone())
    }

    /// The node of that inode if the kernel knows it; no lookup is counted.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Node>> {
        self.find_any(key).filter(|node| node.lookups() > 0)
    }

    /// The node of that inode, be it forgotten.
    fn find_any(&self, key: &Key) -> Option<Arc<Node>> {
        let hash = self.hasher.hash_one(key);
        let same = |_: &u64, node: &Arc<Node>| (node.key == *key).then(|| node.clone());
        self.by_key.peek_with(&hash, same)?
    }

    /// The node of the inode `key`, found as `name` in `parent`, with one more lookup counted.
    pub(crate) fn look_up(&self, key: Key, kind: u32, parent: NodeId, name: &CStr) -> Arc<Node> {
        if let Some(node) = self.find_any(&key)
            && node.kind() == kind
            && self.revive(&node)
        {
            self.found_again(&node, parent, name);
            return node;
        }
        self.add(key, kind, parent, name)
    }

    /// As [`Nodes::look_up`], of an inode that most likely is not known: it has just been made.
    pub(crate) fn add(&self, key: Key, kind: u32, parent: NodeId, name: &CStr) -> Arc<Node> {
        let fresh = || {
            let id = NodeId(self.next.fetch_add(1, Ordering::Relaxed));
            let node = Arc::new(Node::new(id, key, kind, parent, name));
            let _ = self.by_id.insert_sync(id, node.clone());
            node
        };
        match self.by_key.entry_sync(self.hasher.hash_one(key)) {
            Entry::Occupied(mut entry) => {
                let node = entry.get().clone();
                if node.key == key && node.kind() == kind && self.revive(&node) {
                    drop(entry);
                    self.found_again(&node, parent, name);
                    return node;
                }
                let node = fresh();
                entry.update(node.clone());
                node
            }
            Entry::Vacant(entry) => {
                let node = fresh();
                entry.insert_entry(node.clone());
                node
            }
        }
    }

    fn found_again(&self, node: &Node, parent: NodeId, name: &CStr) {
        // Where it has just been found, a file needs no other way, which would be kept as long as the node.
        if node.lookups() == 1 && !node.is_dir() {
            node.link().forget_all_but(None);
        }
        self.note(node, parent, name);
    }

    /// How often a directory was found elsewhere than before; part of a [`PlaceEpoch`].
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// How many nodes the kernel knows, the root included.
    pub fn count(&self) -> usize {
        self.by_id.len() + 1 - self.asleep.load(Ordering::Relaxed).min(self.by_id.len())
    }

    /// How many files and directories are open. Looks at every node: for reports, not for requests.
    pub(crate) fn handles(&self) -> usize {
        let guard = scc::Guard::new();
        let known = self
            .by_id
            .iter(&guard)
            .map(|(_, node)| node.handles().len());
        known.sum::<usize>() + self.root.handles().len()
    }
}

/// A name as it stands in a [`Link`], copied out so that the lock is not held across a system call. 256 bytes on the
/// stack: a file name has at most 255.
pub(crate) struct NameBuf {
    bytes: [u8; 256],
    len: usize,
}

impl NameBuf {
    /// Copies `name`; longer ones cannot come from the kernel (`FUSE_NAME_MAX` is larger, lower names are not) and are cut.
    pub(crate) fn new(name: &CStr) -> NameBuf {
        let mut bytes = [0; 256];
        let len = name.count_bytes().min(255);
        bytes[..len].copy_from_slice(&name.to_bytes()[..len]);
        NameBuf { bytes, len }
    }

    /// The name.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.bytes[..=self.len]).unwrap_or(c"")
    }
}
