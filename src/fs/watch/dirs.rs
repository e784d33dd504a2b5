//! The watched directories, and what the kernel may keep of each.

use super::clock::{NAMES, millis, now};
use crate::fs::ids::NodeId;
use crate::ledger::kept::KeptRecord;
use crate::ledger::table::{Slot, Table};
use crate::mutex::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The most names of one directory that are kept as absent: they cost as much as others, and anybody can make them up.
const MOST_ABSENT: usize = 1024;

/// A name that the kernel may keep.
pub(super) struct KeptName {
    /// What it leads to; [`NodeId::NOWHERE`]: to nothing.
    pub(super) node: NodeId,
    /// A digest of the attributes that the kernel was told, if it may keep them.
    pub(super) attributes: Option<u64>,
    /// When it was answered.
    pub(super) at: u64,
    /// What a successor will find of it.
    _noted: Slot<KeptRecord>,
}

impl KeptName {
    /// True if the kernel asks anyway.
    pub(super) fn is_over(&self, now: u64) -> bool {
        // A tick more, as the kernel rounds up.
        now > self.at + millis(NAMES) + 1000
    }
}

/// Whether a name was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrittenDown {
    /// It was.
    Yes,
    /// It is not to be.
    No,
    /// Others take all the room.
    NoRoom,
}

/// What is kept of one directory.
pub(super) struct KeptState {
    names: HashMap<Box<[u8]>, KeptName>,
    absent: usize,
    /// The batch of events that has last told of it: see [`super::keep::WatchLease`].
    pub(super) changed: u64,
    /// It is watched no more.
    pub(super) ended: bool,
    /// As of a name: the directory's own.
    pub(super) attributes: Option<u64>,
    /// Names that are not to be kept for a while, and until when.
    barred: Vec<(Box<[u8]>, u64)>,
    /// Its listing.
    pub(super) listing: ListingPages,
    _noted: Slot<KeptRecord>,
}

/// What the kernel keeps of a listing: the pages that are filled by whoever reads a handle.
#[derive(Default)]
pub(super) struct ListingPages {
    /// Handles that fill them, with the lease that each was opened under.
    pub(super) fresh: Vec<(u64, u64)>,
    /// The lease under which they were last emptied, when no handle was open that could fill them with something older.
    pub(super) emptied: Option<u64>,
}

/// A watched directory.
pub(super) struct WatchedDir {
    pub(super) node: NodeId,
    pub(super) wd: i32,
    /// It is watched from this moment on: see [`super::keep::WatchLease`].
    pub(super) born: u64,
    used: AtomicU64,
    state: Mutex<KeptState>,
}

impl WatchedDir {
    pub(super) fn new(node: NodeId, wd: i32, born: u64, noted: Slot<KeptRecord>) -> WatchedDir {
        noted.begin(node.0, b"", node.0);
        WatchedDir {
            node,
            wd,
            born,
            used: AtomicU64::new(now()),
            state: Mutex::new(KeptState {
                names: HashMap::new(),
                absent: 0,
                changed: 0,
                ended: false,
                attributes: None,
                barred: Vec::new(),
                listing: ListingPages::default(),
                _noted: noted,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, KeptState> {
        lock(&self.state)
    }

    /// Somebody asks for something in it.
    pub(super) fn touch(&self) {
        self.used.store(now(), Ordering::Relaxed);
    }

    /// How many names are kept, and about how many bytes are held for them.
    pub(super) fn weight(&self) -> (usize, usize) {
        let state = self.state();
        let each = size_of::<KeptRecord>() + size_of::<(Box<[u8]>, KeptName)>() + 16;
        let names = state.names.len();
        (names, size_of::<WatchedDir>() + names * each)
    }
}

impl KeptState {
    pub(super) fn get(&self, name: &[u8]) -> Option<&KeptName> {
        self.names.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut KeptName> {
        self.names.get_mut(name)
    }

    /// Writes down that `name` leads to `node`, unless it is barred, or there is no room.
    pub(super) fn keep(
        &mut self,
        table: &'static Table<KeptRecord>,
        dir: NodeId,
        name: &[u8],
        node: NodeId,
    ) -> WrittenDown {
        let now = now();
        if !self.barred.is_empty() {
            self.barred.retain(|(_, until)| *until > now);
            if self.barred.iter().any(|(barred, _)| **barred == *name) {
                return WrittenDown::No;
            }
        }
        if let Some(kept) = self.names.get_mut(name) {
            if kept.node == node {
                kept.at = now;
                return WrittenDown::Yes;
            }
            self.remove(name);
        }
        if node == NodeId::NOWHERE && self.absent >= MOST_ABSENT && !self.sweep(now) {
            return WrittenDown::No;
        }
        let Some(noted) = Slot::take(table) else {
            return WrittenDown::NoRoom;
        };
        noted.begin(dir.0, name, node.0);
        let kept = KeptName {
            node,
            attributes: None,
            at: now,
            _noted: noted,
        };
        self.absent += usize::from(node == NodeId::NOWHERE);
        self.names.insert(name.into(), kept);
        WrittenDown::Yes
    }

    /// Lets go of names that the kernel asks for anyway. True if there is room for an absent one.
    pub(super) fn sweep(&mut self, now: u64) -> bool {
        self.names.retain(|_, kept| !kept.is_over(now));
        let absent = self.names.values().filter(|k| k.node == NodeId::NOWHERE);
        self.absent = absent.count();
        self.absent < MOST_ABSENT
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<KeptName> {
        let kept = self.names.remove(name)?;
        self.absent -= usize::from(kept.node == NodeId::NOWHERE);
        Some(kept)
    }

    /// `name` is not kept for two seconds.
    pub(super) fn bar(&mut self, name: &[u8]) {
        self.barred.push((name.into(), now() + 2000));
    }

    /// Takes all names out.
    pub(super) fn take(&mut self) -> HashMap<Box<[u8]>, KeptName> {
        self.absent = 0;
        std::mem::take(&mut self.names)
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct WatchedDirs {
    by_node: HashMap<NodeId, Arc<WatchedDir>>,
    by_wd: HashMap<i32, Arc<WatchedDir>>,
}

impl WatchedDirs {
    pub(super) fn of_node(&self, node: NodeId) -> Option<Arc<WatchedDir>> {
        self.by_node.get(&node).cloned()
    }

    pub(super) fn of_watch(&self, wd: i32) -> Option<Arc<WatchedDir>> {
        self.by_wd.get(&wd).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.by_node.len()
    }

    pub(super) fn all(&self) -> Vec<Arc<WatchedDir>> {
        self.by_node.values().cloned().collect()
    }

    /// Adds one. A node of the same inode that was watched before is forgotten by now; its place is this one's.
    pub(super) fn add(&mut self, dir: &Arc<WatchedDir>) {
        if let Some(before) = self.by_wd.insert(dir.wd, dir.clone()) {
            self.by_node.remove(&before.node);
        }
        self.by_node.insert(dir.node, dir.clone());
    }

    /// Takes one out. False: it was out already.
    pub(super) fn remove(&mut self, dir: &Arc<WatchedDir>) -> bool {
        let is_it = |found: &Arc<WatchedDir>| Arc::ptr_eq(found, dir);
        let mut was = false;
        if self.by_wd.get(&dir.wd).is_some_and(is_it) {
            self.by_wd.remove(&dir.wd);
            was = true;
        }
        if self.by_node.get(&dir.node).is_some_and(is_it) {
            self.by_node.remove(&dir.node);
        }
        was
    }

    /// An eighth of all, and one at least: those that nobody has asked for longest.
    pub(super) fn oldest(&self) -> Vec<Arc<WatchedDir>> {
        let mut all = self.all();
        all.sort_by_key(|dir| dir.used.load(Ordering::Relaxed));
        let some = all.len() / 8 + 1;
        all.truncate(some);
        all
    }
}
