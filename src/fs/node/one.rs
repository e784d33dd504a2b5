//! One known lower inode.

use super::link::{Link, Target};
use crate::fs::handle::{Handles, HandlesGuard};
use crate::fs::ids::{Key, NodeId, Side};
use crate::fs::rules::Place;
use crate::ledger::flight::tally::Number;
use crate::ledger::node::{GONE, LEAVING, NodeIdentity, NodeRecord, NodeTable};
use crate::mutex::lock;
use arc_swap::{ArcSwapOption, Guard};
use rustix::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

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

/// One known lower inode. What a successor must know of it lies in its record.
pub struct Node {
    table: &'static NodeTable,
    /// Its number.
    pub(crate) id: NodeId,
    /// The number of its record.
    slot: u32,
    /// See [`Node::kind`]. In 16 bits it takes no more room than the others leave.
    kind: u16,
    side: Side,
    /// Set by each use of the descriptor, cleared by the clock that decides which to give up.
    pub(crate) dir_used: AtomicBool,
    /// Where a symlink leads. Held by whoever reads or changes where the node is, or what it holds, or changes how often it
    /// was looked up.
    link: Mutex<Option<Target>>,
    /// Of a directory the place in the rule tree, with the epoch that it is good for: see [`Node::place`]. Of anything else
    /// the change time, ns since 1970, of the state in which it had no access ACL. 0: not known.
    remembered: AtomicU64,
    dir: ArcSwapOption<OwnedFd>,
    /// Boxed, and only while there are some: most known nodes are not open.
    handles: Mutex<Option<Box<Handles>>>,
}

impl Node {
    /// The node whose record is `slot`, which says what it is.
    pub(super) fn over(table: &'static NodeTable, slot: u32) -> Node {
        let what = table.nodes.at(slot).identity();
        Node {
            table,
            id: NodeId(what.id),
            slot,
            kind: what.kind,
            side: if what.global {
                Side::Global
            } else {
                Side::Local
            },
            dir_used: AtomicBool::new(false),
            link: Mutex::new(None),
            remembered: AtomicU64::new(0),
            dir: ArcSwapOption::empty(),
            handles: Mutex::new(None),
        }
    }

    /// What a successor will find of it.
    pub(super) fn record(&self) -> &'static NodeRecord {
        self.table.nodes.at(self.slot)
    }

    /// Its identity.
    pub(crate) fn key(&self) -> Key {
        let what = self.record().identity();
        Key {
            side: self.side,
            dev: dev(what.dev),
            ino: what.ino,
            generation: what.generation,
        }
    }

    /// The device number of its file system.
    pub(crate) fn dev(&self) -> u64 {
        self.key().dev
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
        self.side
    }

    /// Where the node was last found.
    pub(crate) fn link(&self) -> Link<'_> {
        Link::new(lock(&self.link), self.table, self.slot)
    }

    /// A directory's descriptor, while the directory is in use; or an `O_PATH` one of a file without a name.
    pub(crate) fn dir(&self) -> Guard<Option<Arc<OwnedFd>>> {
        self.dir.load()
    }

    /// Has the node hold `fd`, instead of what it may hold.
    pub(crate) fn hold(&self, fd: Arc<OwnedFd>) {
        let turn = lock(&self.link);
        // The number of another that it holds is written over before that is closed.
        self.record().set_dir(Some(fd.as_raw_fd()));
        let before = self.dir.swap(Some(fd));
        drop(turn);
        drop(before);
    }

    /// Has the node hold `fd`, whose number its record has, or is not to have: no successor closes it or takes it over.
    pub(super) fn hold_unnamed(&self, fd: Arc<OwnedFd>) {
        self.dir.store(Some(fd));
    }

    /// How often it was looked up, as a number that many requests change.
    pub(super) fn number(&self) -> Number {
        Number::Lookups { node: self.id.0 }
    }

    /// The number of its record.
    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// The node holds no descriptor any more.
    pub(crate) fn let_go(&self) -> Option<Arc<OwnedFd>> {
        if self.dir.load().is_none() {
            return None;
        }
        let _turn = lock(&self.link);
        self.record().set_dir(None);
        self.dir.swap(None)
    }

    /// The node does not hold `fd` any more, if it does.
    pub(crate) fn let_go_of(&self, fd: &Arc<OwnedFd>) -> Option<Arc<OwnedFd>> {
        let _turn = lock(&self.link);
        if !self
            .dir
            .load()
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, fd))
        {
            return None;
        }
        self.record().set_dir(None);
        self.dir.swap(None)
    }

    /// The open handles of the node.
    pub(crate) fn handles(&self) -> HandlesGuard<'_> {
        HandlesGuard::new(lock(&self.handles))
    }

    /// Takes what is open out, to be closed.
    pub(super) fn take_handles(&self) -> Option<Box<Handles>> {
        lock(&self.handles).take()
    }

    /// Notes that POSIX locks are used on this file.
    pub(crate) fn note_posix_locks(&self) {
        self.record().set_posix_locks(true);
    }

    /// True if POSIX locks have been used on this file since the kernel first looked it up.
    pub(crate) fn had_posix_locks(&self) -> bool {
        self.record().had_posix_locks()
    }

    /// Notes that the kernel keeps pages of this file: of mappings, and of what is spliced.
    pub(crate) fn note_pages(&self) {
        self.record().set_pages(true);
    }

    /// True if the kernel may keep pages of this file.
    pub(crate) fn has_pages(&self) -> bool {
        self.record().has_pages()
    }

    /// Notes that the kernel is about to drop its pages of this file. True if it may have kept some.
    pub(crate) fn drop_pages(&self) -> bool {
        self.record().set_pages(false)
    }

    /// Which ids the kernel was last told that the file gives to who runs it: see [`crate::fs::grants`].
    pub(crate) fn told_ids(&self) -> &AtomicU16 {
        &self.record().told_ids
    }

    /// The change time, ns since 1970, of the state in which a file had no access ACL; 0: none is known.
    pub(crate) fn no_acl(&self) -> u64 {
        match self.is_dir() {
            true => 0,
            false => self.remembered.load(Ordering::Relaxed),
        }
    }

    /// Remembers it.
    pub(crate) fn set_no_acl(&self, changed: u64) {
        if !self.is_dir() {
            self.remembered.store(changed, Ordering::Relaxed);
        }
    }

    /// The remembered place in the rule tree, if it was derived in `epoch`: the outer `None` says that it must be
    /// derived, the inner that no rule concerns this directory or anything below it.
    pub(crate) fn place(&self, epoch: PlaceEpoch) -> Option<Option<Place>> {
        let word = self.remembered.load(Ordering::Relaxed);
        if word & !PLACE_MASK != epoch.0 || !self.is_dir() {
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
        if low <= PLACE_MASK && self.is_dir() {
            self.remembered.store(epoch.0 | low, Ordering::Relaxed);
        }
    }

    /// True if the kernel has not forgotten it; the root it never forgets.
    pub(crate) fn is_known(&self) -> bool {
        self.lookups() > 0
    }

    /// Lookups that the kernel has not forgotten.
    pub(crate) fn lookups(&self) -> u64 {
        match self.record().lookups.load(Ordering::Relaxed) {
            GONE | LEAVING => 0,
            n => n,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its descriptor is closed behind this.
        self.table.give(self.slot);
    }
}

/// What a successor will be told of a node with that number.
pub(super) fn identity(id: NodeId, key: Key, kind: u32) -> NodeIdentity {
    NodeIdentity {
        id: id.0,
        global: key.side == Side::Global,
        kind: (kind & libc::S_IFMT) as u16,
        dev: rustix::fs::major(key.dev) << MINOR_BITS | rustix::fs::minor(key.dev),
        ino: key.ino,
        generation: key.generation,
    }
}

/// As the kernel keeps a device number (`MINORBITS`, include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;

fn dev(packed: u32) -> u64 {
    rustix::fs::makedev(packed >> MINOR_BITS, packed & ((1 << MINOR_BITS) - 1))
}
