//! What the clients have open, 32 bytes for each handle.

use super::crash::point;
use super::table::{Ends, FlatRecord, number};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, compiler_fence};
use zerocopy::FromBytes;

/// An open file or directory, or the opens without a descriptor that one user has of one node.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct HandleRecord {
    /// 0: not in use. [`HandleKind`] otherwise.
    state: AtomicU32,
    /// One more than the descriptor's number; 0: none. Handles that share a descriptor have the same.
    fd: AtomicI32,
    /// The handle's number; of opens without a descriptor, any that the user's have.
    fh: AtomicU64,
    node: AtomicU64,
    /// The client's flags; of opens without a descriptor, how many there are.
    flags: AtomicU32,
    unused: AtomicU32,
    #[cfg(feature = "other-state")]
    later: [AtomicU64; 2],
}

/// What a record stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandleKind {
    /// An open file.
    File {
        /// It is open with the node's backing id.
        registered: bool,
    },
    /// An open directory.
    Dir,
    /// Opens without a descriptor.
    Lent,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenRecord {
    /// What it stands for.
    pub(crate) kind: HandleKind,
    /// The handle's number.
    pub(crate) fh: u64,
    /// The node's number.
    pub(crate) node: u64,
    /// The descriptor's.
    pub(crate) fd: Option<RawFd>,
    /// The client's flags, or the count.
    pub(crate) flags: u32,
}

impl FlatRecord for HandleRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    fn name_descriptors(&self, named: &mut Vec<RawFd>) {
        named.extend(number(self.fd.load(Ordering::Relaxed)));
    }
}

impl Ends for HandleRecord {
    fn end(&self) {
        self.state.store(0, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        point();
    }
}

const RELAXED: Ordering = Ordering::Relaxed;

impl HandleRecord {
    /// Says what it stands for: its descriptor is open.
    pub(crate) fn begin(&self, open: &OpenRecord) {
        let state = match open.kind {
            HandleKind::File { registered: false } => 1,
            HandleKind::File { registered: true } => 2,
            HandleKind::Dir => 3,
            HandleKind::Lent => 4,
        };
        point();
        self.fd.store(open.fd.map_or(0, |fd| fd + 1), RELAXED);
        point();
        self.fh.store(open.fh, RELAXED);
        self.node.store(open.node, RELAXED);
        self.flags.store(open.flags, RELAXED);
        point();
        self.state.store(state, Ordering::Release);
        point();
    }

    /// Says how many opens without a descriptor there are.
    pub(crate) fn set_count(&self, count: u32) {
        self.flags.store(count, Ordering::Release);
    }

    /// What it says. `None`: nothing that is known.
    pub(crate) fn open(&self) -> Option<OpenRecord> {
        let kind = match self.state.load(Ordering::Acquire) {
            1 => HandleKind::File { registered: false },
            2 => HandleKind::File { registered: true },
            3 => HandleKind::Dir,
            4 => HandleKind::Lent,
            _ => return None,
        };
        Some(OpenRecord {
            kind,
            fh: self.fh.load(RELAXED),
            node: self.node.load(RELAXED),
            fd: number(self.fd.load(RELAXED)),
            flags: self.flags.load(RELAXED),
        })
    }
}
