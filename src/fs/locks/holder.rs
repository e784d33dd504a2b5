//! One owner's open file description of one file, and what is locked through it.

use super::ask::{Ask, Owner};
use super::kept::{Kept, KeptOwner};
use super::lookout::Watched;
use super::ranges::Ranges;
use crate::fs::budget::Account;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::sys::lock::{Conflict, LockKind, Range};
use arc_swap::ArcSwap;
use rustix::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// An open file description of the lower file.
pub(crate) struct Description {
    /// Its descriptor.
    pub(crate) fd: OwnedFd,
    /// Open for reading and writing, as exclusive POSIX locks need it.
    pub(crate) writable: bool,
}

impl Description {
    /// The descriptor's number, and whether it is open for writing.
    pub(super) fn number(&self) -> (RawFd, bool) {
        (self.fd.as_raw_fd(), self.writable)
    }
}

/// One owner's description of one node.
pub(crate) struct Holder {
    pub(super) description: ArcSwap<Description>,
    /// Who is charged for it, and for all its ranges.
    pub(crate) account: Account,
    pub(super) owner: Owner,
    /// What a successor is told of it.
    pub(super) kept: KeptOwner,
    /// Held while the lower lock is changed and the change noted, so that both happen in one order. What it guards is the
    /// number of changes so far. Nobody waits for a lock with it.
    pub(super) changes: Mutex<u64>,
    /// With which process its locks end.
    pub(super) watch: Mutex<Watch>,
    /// Held for table work only.
    pub(super) locked: Mutex<Locked>,
}

/// With which process an owner's locks end, for those of which the kernel may not say it.
#[derive(Default)]
pub(super) enum Watch {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// With none: an open file's, or those of several processes that share a table of descriptors.
    Nobodys,
    /// With this one.
    Of(Watched<(NodeId, Owner)>),
}

/// What is locked through a description.
#[derive(Default)]
pub(super) struct Locked {
    /// When the first of what is held was locked, in the order of all locks of the mount.
    pub(super) since: u64,
    pub(super) ranges: Ranges,
    pub(super) flocked: bool,
    /// The handles through which ranges were locked and that are still open, with the numbers of their records.
    pub(super) handles: BTreeMap<u64, u32>,
    pub(super) pid: u32,
    /// Requests that use the description right now, waiting ones included.
    pub(super) users: usize,
}

impl Holder {
    /// A description that holds nothing. `None`: there is no room to write it down.
    pub(super) fn new(
        kept: &Arc<Kept>,
        node: NodeId,
        ask: &Ask,
        description: Description,
    ) -> Option<Holder> {
        let kept = kept.begin_owner((node, ask.owner), ask.uid, description.number())?;
        Some(Holder {
            description: ArcSwap::from_pointee(description),
            account: Account::of(ask.uid),
            owner: ask.owner,
            changes: Mutex::new(0),
            watch: Mutex::default(),
            locked: Mutex::new(Locked {
                ranges: Ranges::kept_by(kept.clone()),
                ..Locked::default()
            }),
            kept,
        })
    }

    /// True if nothing is locked through it, and no request uses it.
    pub(crate) fn is_idle(&self) -> bool {
        let locked = lock(&self.locked);
        locked.users == 0 && !locked.flocked && locked.ranges.is_empty()
    }

    /// True if the lower file is open for writing here.
    pub(crate) fn is_writable(&self) -> bool {
        self.description.load().writable
    }

    /// When the first of what it holds was locked: a number that grows.
    pub(crate) fn holds_since(&self) -> u64 {
        lock(&self.locked).since
    }

    /// True if the end of its process is watched.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(*lock(&self.watch), Watch::Of(_))
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        1 + usize::from(self.is_watched())
    }

    /// True if a rival would have to wait for `kind` on `range`.
    pub(crate) fn is_in_the_way(&self, range: Range, kind: LockKind) -> bool {
        let locked = lock(&self.locked);
        locked.flocked || locked.ranges.are_in_the_way(range, kind)
    }

    /// The process, if it holds just that.
    pub(crate) fn process_with(&self, conflict: &Conflict) -> Option<u32> {
        let locked = lock(&self.locked);
        locked
            .ranges
            .has(conflict.range, conflict.kind)
            .then_some(locked.pid)
    }
}
