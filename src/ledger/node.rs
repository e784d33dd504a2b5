//! Known nodes, 104 bytes each, and room for the names and file handles that are too long for that.
//!
//! A name changes with its directory, and nobody finds half of either: where both stand is one word. A new place is written
//! aside, the word says so, the old one is written over, and the word says that.

mod check;

use super::crash::point;
use super::table::{FlatRecord, Table, number};
use super::words;
use rustix::fd::RawFd;
use std::sync::atomic::{
    AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence,
};
use zerocopy::FromBytes;

/// The count of lookups of a node that has left the table.
pub(crate) const GONE: u64 = u64::MAX;

/// And of one that is being forgotten at this moment.
pub(crate) const LEAVING: u64 = u64::MAX - 1;

/// The longest name, in bytes.
pub(crate) const LONGEST_NAME: usize = 255;

/// `MAX_HANDLE_SZ` of `linux/exportfs.h`.
pub(crate) const LONGEST_HANDLE: usize = 128;

/// Words for the name, from the first on, and the handle, up to the last.
const WORDS: usize = 4;

/// In [`NodeRecord::state`].
const USED: u32 = 1;
const GLOBAL: u32 = 2;

/// In [`NodeRecord::flags`].
const POSIX_LOCKS: u8 = 1;
const PAGES: u8 = 2;

/// In [`NodeRecord::name_at`]: there is none, and the directory is not known.
const NOWHERE: u32 = u32::MAX;

/// In [`NodeRecord::handle`].
const HANDLE: u32 = 1 << 31;

/// A known node.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct NodeRecord {
    /// 0: not in use. Otherwise bits, and the file type in the upper half.
    state: AtomicU32,
    /// One more than the number of the descriptor that the node holds; 0: none.
    dir: AtomicI32,
    id: AtomicU64,
    /// Lookups that the kernel has not forgotten, [`LEAVING`] or [`GONE`].
    pub(crate) lookups: AtomicU64,
    ino: AtomicU64,
    generation: AtomicU64,
    parent: AtomicU64,
    /// As the kernel has it: 12 bits of the major number above 20 of the minor one.
    dev: AtomicU32,
    /// When it was forgotten: its turn among all.
    pub(crate) slept: AtomicU32,
    /// 0: `parent` and the first of `words`; [`NOWHERE`]; otherwise one more than the number of an [`Aside`].
    name_at: AtomicU32,
    /// 0: the last of `words`; otherwise one more than the number of an [`Aside`].
    handle_at: AtomicU32,
    /// 0: none. Otherwise [`HANDLE`], eight bits of its length, and sixteen of its type.
    handle: AtomicU32,
    /// What the kernel was last told: see `fs::grants`.
    pub(crate) told_ids: AtomicU16,
    flags: AtomicU8,
    /// Of the name in `words`.
    name_len: AtomicU8,
    words: [AtomicU64; WORDS],
    #[cfg(feature = "other-state")]
    later: [AtomicU64; 3],
}

/// Room for a name or a file handle that does not fit.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct Aside {
    /// One more than the number of the node that it is of; 0: not in use. It is only if that node says so, too.
    owner: AtomicU32,
    name_len: AtomicU32,
    parent: AtomicU64,
    words: [AtomicU64; 32],
}

impl FlatRecord for NodeRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    fn name_descriptors(&self, named: &mut Vec<RawFd>) {
        named.extend(self.dir());
    }
}

impl FlatRecord for Aside {
    fn is_used(&self) -> bool {
        self.owner.load(Ordering::Acquire) != 0
    }
}

/// What a node is and stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeIdentity {
    /// Its number.
    pub(crate) id: u64,
    /// On the global side.
    pub(crate) global: bool,
    /// `S_IFDIR` and so on.
    pub(crate) kind: u16,
    /// Device number, packed.
    pub(crate) dev: u32,
    /// Inode number.
    pub(crate) ino: u64,
    /// See `fs::ids::Key`.
    pub(crate) generation: u64,
}

const RELAXED: Ordering = Ordering::Relaxed;

/// One step of a change is made, and the next may begin. A process that is killed has carried its instructions out in their
/// order; the compiler is told to leave them in it.
fn step() {
    compiler_fence(Ordering::SeqCst);
    point();
}

/// Writes a name or a file handle, to which nothing refers yet.
fn put(words: &[AtomicU64], bytes: &[u8]) {
    point();
    words::put(words, bytes);
    point();
}

macro_rules! store {
    ($($field:expr => $value:expr,)*) => {
        $($field.store($value, RELAXED);
        point();)*
    };
}

impl NodeRecord {
    /// What it is.
    pub(crate) fn identity(&self) -> NodeIdentity {
        let state = self.state.load(RELAXED);
        NodeIdentity {
            id: self.id.load(RELAXED),
            global: state & GLOBAL != 0,
            kind: (state >> 16) as u16,
            dev: self.dev.load(RELAXED),
            ino: self.ino.load(RELAXED),
            generation: self.generation.load(RELAXED),
        }
    }

    /// Nobody finds it any more. It keeps what is in it until it is given back.
    pub(crate) fn end(&self) {
        self.state.store(0, Ordering::Release);
        step();
        self.dir.store(0, Ordering::Release);
        step();
    }

    /// The number of the descriptor that the node holds.
    pub(crate) fn dir(&self) -> Option<RawFd> {
        number(self.dir.load(Ordering::Acquire))
    }

    /// Says which open descriptor the node holds, or that it is about to hold none.
    pub(crate) fn set_dir(&self, fd: Option<RawFd>) {
        step();
        self.dir.store(fd.map_or(0, |fd| fd + 1), Ordering::Release);
        step();
    }

    fn flag(&self, bit: u8) -> bool {
        self.flags.load(RELAXED) & bit != 0
    }

    fn set_flag(&self, bit: u8, on: bool) -> bool {
        let before = match on {
            true => self.flags.fetch_or(bit, RELAXED),
            false => self.flags.fetch_and(!bit, RELAXED),
        };
        before & bit != 0
    }

    /// A POSIX lock was asked for at some time.
    pub(crate) fn had_posix_locks(&self) -> bool {
        self.flag(POSIX_LOCKS)
    }

    /// Says whether one was.
    pub(crate) fn set_posix_locks(&self, on: bool) {
        if self.flag(POSIX_LOCKS) != on {
            self.set_flag(POSIX_LOCKS, on);
        }
    }

    /// The kernel has asked for pages since they were dropped.
    pub(crate) fn has_pages(&self) -> bool {
        self.flag(PAGES)
    }

    /// Says whether it has, and returns what was said before.
    pub(crate) fn set_pages(&self, on: bool) -> bool {
        match self.has_pages() == on {
            true => on,
            false => self.set_flag(PAGES, on),
        }
    }
}

/// All known nodes.
#[derive(Debug)]
pub(crate) struct NodeTable {
    /// Their records.
    pub(crate) nodes: Table<NodeRecord>,
    /// What did not fit.
    pub(crate) aside: Table<Aside>,
}

impl NodeTable {
    /// A record for a node found as `name` in the directory `parent`, with one lookup counted. `None`: there is none left.
    pub(crate) fn begin(&self, what: &NodeIdentity, parent: u64, name: &[u8]) -> Option<u32> {
        let slot = self.nodes.take()?;
        let record = self.nodes.at(slot);
        store! {
            record.dir => 0,
            record.id => what.id,
            record.lookups => 1,
            record.ino => what.ino,
            record.generation => what.generation,
            record.dev => what.dev,
            record.slept => 0,
            record.handle => 0,
            record.handle_at => 0,
            record.told_ids => 0,
            record.flags => 0,
            record.name_at => 0,
        }
        if !self.write_inline(record, parent, name) {
            let Some(aside) = self.write_aside(slot, parent, name) else {
                self.nodes.give(slot);
                return None;
            };
            record.name_at.store(aside + 1, RELAXED);
        }
        let side = if what.global { GLOBAL } else { 0 };
        let state = u32::from(what.kind) << 16 | side | USED;
        record.state.store(state, Ordering::Release);
        step();
        Some(slot)
    }

    /// The record may be taken again; nobody has the node any more.
    pub(crate) fn give(&self, slot: u32) {
        let record = self.nodes.at(slot);
        record.end();
        for at in [&record.name_at, &record.handle_at] {
            self.give_aside(at.swap(0, RELAXED));
        }
        self.nodes.give(slot);
    }

    fn give_aside(&self, at: u32) {
        if at != 0 && at != NOWHERE {
            self.aside.at(at - 1).owner.store(0, Ordering::Release);
            step();
            self.aside.give(at - 1);
        }
    }

    fn write_aside(&self, slot: u32, parent: u64, name: &[u8]) -> Option<u32> {
        let at = self.aside.take()?;
        let aside = self.aside.at(at);
        store! {
            aside.parent => parent,
            aside.name_len => name.len() as u32,
        }
        put(&aside.words, name);
        aside.owner.store(slot + 1, Ordering::Release);
        step();
        Some(at)
    }

    /// False: it does not fit. To be called while nothing refers to what is there.
    fn write_inline(&self, record: &NodeRecord, parent: u64, name: &[u8]) -> bool {
        let room = match record.handle_at.load(RELAXED) {
            0 => WORDS - words::taken_by(handle_len(record.handle.load(RELAXED))),
            _ => WORDS,
        };
        if words::taken_by(name.len()) > room {
            return false;
        }
        store! {
            record.parent => parent,
            record.name_len => name.len() as u8,
        }
        put(&record.words, name);
        true
    }

    /// Says that the node was found as `name` in the directory `parent`.
    ///
    /// Not for two at a time of one node, as little as the others that change where it is, or read that.
    pub(crate) fn set_name(&self, slot: u32, parent: u64, name: &[u8]) {
        let record = self.nodes.at(slot);
        let before = record.name_at.load(RELAXED);
        let aside = self.write_aside(slot, parent, name);
        let at = aside.map_or(NOWHERE, |at| at + 1);
        record.name_at.store(at, Ordering::Release);
        step();
        if self.write_inline(record, parent, name) {
            record.name_at.store(0, Ordering::Release);
            step();
            self.give_aside(at);
        }
        self.give_aside(before);
    }

    /// Says that it lies in the directory `parent`, under the same name.
    pub(crate) fn set_parent(&self, slot: u32, parent: u64) {
        let record = self.nodes.at(slot);
        match record.name_at.load(RELAXED) {
            0 => record.parent.store(parent, RELAXED),
            NOWHERE => {}
            at => self.aside.at(at - 1).parent.store(parent, RELAXED),
        }
    }

    /// The directory that it lies in; 0: not known.
    pub(crate) fn parent(&self, slot: u32) -> u64 {
        let record = self.nodes.at(slot);
        match record.name_at.load(RELAXED) {
            0 => record.parent.load(RELAXED),
            NOWHERE => 0,
            at => self.aside.at(at - 1).parent.load(RELAXED),
        }
    }

    /// Copies its name into `name`, and returns the length.
    pub(crate) fn name(&self, slot: u32, name: &mut [u8]) -> usize {
        let (words, len) = self.name_words(slot);
        let name = &mut name[..len];
        words::fill(words, name);
        len
    }

    /// True if `name` is its name.
    pub(crate) fn is_named(&self, slot: u32, name: &[u8]) -> bool {
        let (words, len) = self.name_words(slot);
        len == name.len() && words::are(words, name)
    }

    fn name_words(&self, slot: u32) -> (&'static [AtomicU64], usize) {
        let record = self.nodes.at(slot);
        match record.name_at.load(RELAXED) {
            0 => (&record.words, record.name_len.load(RELAXED).into()),
            NOWHERE => (&record.words, 0),
            at => {
                let aside = self.aside.at(at - 1);
                let len = aside.name_len.load(RELAXED) as usize;
                (&aside.words, len.min(LONGEST_NAME))
            }
        }
    }

    /// Remembers the file handle. One that it has no room for it does not.
    pub(crate) fn keep_handle(&self, slot: u32, kind: i32, bytes: &[u8]) {
        let Ok(kind) = u16::try_from(kind) else {
            return;
        };
        if bytes.len() > LONGEST_HANDLE {
            return;
        }
        self.drop_handle(slot);
        let record = self.nodes.at(slot);
        let name_words = match record.name_at.load(RELAXED) {
            0 => words::taken_by(record.name_len.load(RELAXED).into()),
            _ => 0,
        };
        let own = words::taken_by(bytes.len());
        if name_words + own <= WORDS {
            put(&record.words[WORDS - own..], bytes);
        } else {
            let Some(at) = self.aside.take() else { return };
            let aside = self.aside.at(at);
            put(&aside.words, bytes);
            aside.owner.store(slot + 1, Ordering::Release);
            step();
            record.handle_at.store(at + 1, Ordering::Release);
            step();
        }
        let word = HANDLE | (bytes.len() as u32) << 16 | u32::from(kind);
        record.handle.store(word, Ordering::Release);
    }

    /// Forgets it.
    pub(crate) fn drop_handle(&self, slot: u32) {
        let record = self.nodes.at(slot);
        record.handle.store(0, Ordering::Release);
        step();
        let at = record.handle_at.swap(0, Ordering::AcqRel);
        step();
        self.give_aside(at);
    }

    /// Copies the file handle into `bytes`, and returns its type and length, if there is one.
    pub(crate) fn handle(&self, slot: u32, bytes: &mut [u8]) -> Option<(i32, usize)> {
        let record = self.nodes.at(slot);
        let word = record.handle.load(RELAXED);
        if word == 0 {
            return None;
        }
        let len = handle_len(word);
        match record.handle_at.load(RELAXED) {
            0 => words::fill(
                &record.words[WORDS - words::taken_by(len)..],
                &mut bytes[..len],
            ),
            at => words::fill(&self.aside.at(at - 1).words, &mut bytes[..len]),
        }
        Some(((word & 0xffff) as i32, len))
    }

    /// True if it has one.
    pub(crate) fn has_handle(&self, slot: u32) -> bool {
        self.nodes.at(slot).handle.load(RELAXED) != 0
    }
}

/// Of a handle word.
fn handle_len(word: u32) -> usize {
    (word >> 16 & 0xff) as usize
}
