//! What is dropped once more: an answer that was on its way when it was dropped has made the kernel keep it.
//!
//! Between the moment at which a client's thread is handed an answer and the moment at which it has put the name's time down
//! lie a few hundred instructions in the kernel (`fuse_dentry_revalidate`, fs/fuse/dir.c). It may be held up there by others
//! that run. So what was answered a moment before it was dropped is dropped again after times that grow.

use super::clock::{millis, now};
use crate::fs::ids::NodeId;
use std::time::Duration;

/// An answer older than this has arrived.
const YOUNG: Duration = Duration::from_secs(1);

/// After how many milliseconds it is dropped again.
const AFTER: [u64; 4] = [2, 30, 300, 1500];

/// What is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DropAgain {
    /// A name of a directory.
    Name(NodeId, Box<[u8]>),
    /// The pages of a symlink.
    Pages(NodeId),
}

/// What is to be dropped again, and when.
#[derive(Debug, Default)]
pub(super) struct Again(Vec<(u64, DropAgain)>);

impl Again {
    /// `name`, which was answered at the time `at`, is dropped.
    pub(super) fn note(&mut self, dir: NodeId, name: &[u8], at: u64) {
        let now = now();
        if now > at + millis(YOUNG) {
            return;
        }
        for after in AFTER {
            self.0
                .push((now + after, DropAgain::Name(dir, name.into())));
        }
    }

    /// The symlink's pages are to be dropped after `after` milliseconds.
    pub(super) fn later(&mut self, node: NodeId, after: u64) {
        self.0.push((now() + after, DropAgain::Pages(node)));
    }

    /// Adds those of `other`.
    pub(super) fn append(&mut self, mut other: Again) {
        self.0.append(&mut other.0);
    }

    /// How long it is until the next of them, in milliseconds; `None`: there is none.
    pub(super) fn next(&self) -> Option<u64> {
        let next = self.0.iter().map(|(due, _)| *due).min()?;
        Some(next.saturating_sub(now()))
    }

    /// Those whose time has come.
    pub(super) fn due(&mut self) -> Vec<DropAgain> {
        let now = now();
        let (due, later) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(due, _)| *due <= now);
        self.0 = later;
        let mut due: Vec<DropAgain> = due.into_iter().map(|(_, drop)| drop).collect();
        due.dedup();
        due
    }
}
