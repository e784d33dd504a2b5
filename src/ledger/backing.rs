//! Lower files that the kernel was given to read and write by itself, 24 bytes each. Their ids live on in the connection.

use super::crash::point;
use super::table::{Ends, FlatRecord, number};
use rustix::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, compiler_fence};
use zerocopy::FromBytes;

/// The kernel is being asked for an id, and may have given one that nobody knows.
const ASKED: u32 = 1;
/// The id is in force.
const GIVEN: u32 = 2;
/// The id is being given back, or has been.
const ENDING: u32 = 3;

/// A registered lower file.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct BackingRecord {
    /// 0: not in use.
    state: AtomicU32,
    id: AtomicU32,
    node: AtomicU64,
    /// One more than the number of the descriptor that was opened to be registered; 0: a client's was.
    anchor: AtomicI32,
    unused: AtomicU32,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backed {
    /// An id was asked for.
    Asked,
    /// The id is in force.
    Given {
        /// The id.
        id: u32,
        /// The node's number.
        node: u64,
        /// The descriptor that was opened to be registered.
        anchor: Option<RawFd>,
    },
    /// The id is to be given back, though it may have been.
    Ending(u32),
}

impl FlatRecord for BackingRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    fn name_descriptors(&self, named: &mut Vec<RawFd>) {
        if self.state.load(Ordering::Relaxed) == GIVEN {
            named.extend(number(self.anchor.load(Ordering::Relaxed)));
        }
    }
}

impl Ends for BackingRecord {
    fn end(&self) {
        self.set(0);
    }
}

const RELAXED: Ordering = Ordering::Relaxed;

impl BackingRecord {
    fn set(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        point();
    }

    /// An id is about to be asked for.
    pub(crate) fn ask(&self, node: u64, anchor: Option<RawFd>) {
        self.node.store(node, RELAXED);
        self.anchor.store(anchor.map_or(0, |fd| fd + 1), RELAXED);
        self.set(ASKED);
    }

    /// It was given.
    pub(crate) fn give(&self, id: u32) {
        self.id.store(id, RELAXED);
        self.set(GIVEN);
    }

    /// It is about to be given back.
    pub(crate) fn begin_end(&self) {
        self.set(ENDING);
    }

    /// What it says. `None`: nothing that is known.
    pub(crate) fn backed(&self) -> Option<Backed> {
        let id = self.id.load(RELAXED);
        Some(match self.state.load(Ordering::Acquire) {
            ASKED => Backed::Asked,
            GIVEN => Backed::Given {
                id,
                node: self.node.load(RELAXED),
                anchor: number(self.anchor.load(RELAXED)),
            },
            ENDING => Backed::Ending(id),
            _ => return None,
        })
    }
}
