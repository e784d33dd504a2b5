//! Going on with the locks of a predecessor that was killed.
//!
//! Its descriptors are open still, and what is locked through them is what the records say, but where a change was under
//! way. There the lower lock is made what the records say: a lock that was had and not noted is given up again, one that
//! was given up and not noted is noted so. The request is carried out once more from its start, or its client was told
//! nothing and has given up. What is killed here does the same again.

use super::all::Locks;
use super::ask::{Owner, WHOLE};
use super::holder::{Description, Holder, Locked, Watch};
use super::kept::{Kept, KeptOwner};
use super::ranges::Ranges;
use crate::fs::budget::Account;
use crate::fs::ids::NodeId;
use crate::ledger::crash::point;
use crate::ledger::lock::{KeptWatch, OwnerRecord};
use crate::ledger::{Ledger, Unreadable};
use crate::mutex::lock;
use crate::sys::inherit::Inherited;
use crate::sys::lock as sys;
use crate::sys::lock::{LockKind, Range};
use arc_swap::ArcSwap;
use rustix::fd::{AsFd as _, BorrowedFd};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

#[cfg(test)]
mod tests;

/// What is written down of one owner, by the numbers of records.
#[derive(Default)]
struct OwnerFound {
    ranges: Vec<(Range, LockKind, u32)>,
    handles: Vec<(u64, u32)>,
    changes: Vec<(Range, Option<LockKind>, u32)>,
}

impl Locks {
    /// The locks that `ledger` says are held, through descriptors that a predecessor has left; at most `most` descriptors
    /// will be used for them.
    ///
    /// # Errors
    /// [`Unreadable::Broken`].
    pub(crate) fn over(
        ledger: &'static Ledger,
        inherited: &Inherited,
        most: usize,
    ) -> Result<Arc<Locks>, Unreadable> {
        let locks = Arc::new(Locks::none(ledger, most));
        let mut found = locks.kept.found()?;
        let mut had = 0;
        for (slot, record) in locks.kept.owners.used() {
            let owner = owner_of(record).ok_or(Unreadable::Broken("a lock is nobody's"))?;
            let node = NodeId(record.node.load(Ordering::Relaxed));
            had = had.max(record.since.load(Ordering::Relaxed).saturating_add(1));
            let found = found.remove(&slot).unwrap_or_default();
            locks.go_on_with((node, owner), locks.kept.owner(slot), found, inherited)?;
        }
        locks.had.store(had, Ordering::Relaxed);
        Ok(locks)
    }

    fn go_on_with(
        self: &Arc<Locks>,
        (node, owner): (NodeId, Owner),
        kept: KeptOwner,
        found: OwnerFound,
        inherited: &Inherited,
    ) -> Result<(), Unreadable> {
        let record = kept.record();
        let (number, writable) = record.description();
        let fd = inherited.take(number);
        let fd = fd.ok_or(Unreadable::Broken("a lock's descriptor is not open"))?;
        let torn = !found.changes.is_empty();
        let mut locked = Locked {
            since: record.since.load(Ordering::Relaxed),
            ranges: Ranges::restored(kept.clone(), found.ranges, torn)
                .map_err(Unreadable::Broken)?,
            flocked: false,
            handles: found.handles.into_iter().collect(),
            pid: record.pid.load(Ordering::Relaxed),
            users: 0,
        };
        match owner {
            Owner::Posix(_) => settle_ranges(&mut locked.ranges, fd.as_fd(), &found.changes),
            Owner::Flock(_) if locked.ranges.is_empty() => {
                locked.flocked = settle_flock(&kept, fd.as_fd(), &found.changes)?;
            }
            Owner::Flock(_) => return Err(Unreadable::Broken("flock(2) has no ranges")),
        }
        if locked.ranges.contradict() {
            return Err(Unreadable::Broken("a byte is locked in two ways"));
        }
        for (.., slot) in found.changes {
            self.kept.end_change(slot);
        }
        let account = Account::of(record.uid.load(Ordering::Relaxed));
        let (ranges, handles) = (locked.ranges.len(), locked.handles.clone());
        let watch = match record.watch() {
            KeptWatch::Unknown => Watch::Unknown,
            KeptWatch::Nobodys => Watch::Nobodys,
            KeptWatch::Process(pid, fd) => {
                let fd = inherited.take(fd);
                let fd = fd.ok_or(Unreadable::Broken("a watched process has no descriptor"))?;
                let process = self.lookout.watch_on((node, owner), (pid, fd));
                Watch::Of(process.map_err(Unreadable::Memory)?)
            }
        };
        let holder = Arc::new(Holder {
            description: ArcSwap::from_pointee(Description { fd, writable }),
            account,
            owner,
            kept,
            changes: Mutex::new(0),
            watch: Mutex::new(watch),
            locked: Mutex::new(locked),
        });
        self.owners.go_on_with(account, holder.descriptors());
        self.ranges.go_on_with(account, ranges);
        let shared = self.tables.get_or_make(node);
        let mut table = lock(&shared);
        if table.owners.insert(owner, holder).is_some() {
            return Err(Unreadable::Broken("an owner of locks is there twice"));
        }
        table.through.extend(handles.keys().map(|&fh| (fh, owner)));
        drop(table);
        drop(shared);
        // Whoever was about to lock something, or had given all up.
        self.prune(node, owner);
        Ok(())
    }
}

/// What is written down of the owner whose record has the number `owner`.
fn of<'a>(
    found: &'a mut BTreeMap<u32, OwnerFound>,
    owner: &AtomicU32,
) -> Result<&'a mut OwnerFound, Unreadable> {
    let owner = found.get_mut(&owner.load(Ordering::Relaxed));
    owner.ok_or(Unreadable::Broken("what is locked is nobody's"))
}

/// Whose it is. `None`: nobody's that can be.
fn owner_of(record: &OwnerRecord) -> Option<Owner> {
    let number = record.number.load(Ordering::Relaxed);
    match record.state.load(Ordering::Acquire) {
        1 => Some(Owner::Posix(number)),
        2 => Some(Owner::Flock(number)),
        _ => None,
    }
}

impl Kept {
    /// What is written down, by the numbers of the owners' records.
    fn found(&self) -> Result<BTreeMap<u32, OwnerFound>, Unreadable> {
        let mut found: BTreeMap<u32, OwnerFound> = BTreeMap::new();
        for (slot, _) in self.owners.used() {
            found.insert(slot, OwnerFound::default());
        }
        for (slot, record) in self.ranges.used() {
            let (range, kind) = record.range().ok_or(Unreadable::Broken("a locked range"))?;
            of(&mut found, &record.owner)?
                .ranges
                .push((range, kind, slot));
        }
        for (slot, record) in self.handles.used() {
            let fh = record.fh.load(Ordering::Relaxed);
            of(&mut found, &record.owner)?.handles.push((fh, slot));
        }
        for (slot, record) in self.changes.used() {
            let (range, to) = record
                .change()
                .ok_or(Unreadable::Broken("a change of a lock"))?;
            of(&mut found, &record.owner)?
                .changes
                .push((range, to, slot));
        }
        Ok(found)
    }

    fn end_change(&self, slot: u32) {
        self.changes.at(slot).state.store(0, Ordering::Release);
        point();
        self.changes.give(slot);
    }
}

/// Makes the lower locks behind `fd` what `ranges` says, where `changes` were under way.
fn settle_ranges(
    ranges: &mut Ranges,
    fd: BorrowedFd<'_>,
    changes: &[(Range, Option<LockKind>, u32)],
) {
    for &(range, to, _) in changes {
        // It was had, and its note is there, with what it replaces or without.
        if let Some(kind) = to.filter(|&kind| ranges.cover(range, kind)) {
            ranges.set(range, Some(kind));
        }
    }
    for &(range, to, _) in changes {
        match to {
            None => {
                let _ = sys::ofd_set(fd, range, None);
                ranges.set(range, None);
            }
            Some(_) => settle_range(ranges, fd, range),
        }
        point();
    }
}

fn settle_range(ranges: &mut Ranges, fd: BorrowedFd<'_>, range: Range) {
    for gap in ranges.gaps(range) {
        let _ = sys::ofd_set(fd, gap, None);
        point();
    }
    for (part, kind) in ranges.within(range) {
        // What is held already is had again at once. What was given away in part is had back unless somebody has it.
        let ways: &[Option<LockKind>] = match kind {
            LockKind::Exclusive => &[Some(LockKind::Exclusive), Some(LockKind::Shared), None],
            LockKind::Shared => &[Some(LockKind::Shared), None],
        };
        let mut ways = ways.iter();
        let had = ways.find(|way| sys::ofd_set(fd, part, **way).is_ok());
        let had = had.copied().flatten();
        if had != Some(kind) {
            ranges.set(part, had);
        }
    }
}

/// Makes the lower lock behind `fd` what the record says, where `changes` were under way. True if there is one.
///
/// The kernel gives a lock up before it looks whether one of the other kind can be had, so nothing is owed to whoever was
/// about to change the kind. Whoever asked for what he had goes on having it.
fn settle_flock(
    kept: &KeptOwner,
    fd: BorrowedFd<'_>,
    changes: &[(Range, Option<LockKind>, u32)],
) -> Result<bool, Unreadable> {
    let noted = kept.record().flocked();
    let noted = noted.map_err(|()| Unreadable::Broken("a lock of flock(2)"))?;
    if changes.iter().any(|&(range, ..)| range != WHOLE) {
        return Err(Unreadable::Broken("flock(2) locks whole files"));
    }
    if changes.is_empty() {
        return Ok(noted.is_some());
    }
    let stays = noted.is_some() && changes.iter().all(|&(_, to, _)| to == noted);
    if stays && sys::flock(fd, noted, false).is_ok() {
        return Ok(true);
    }
    let _ = sys::flock(fd, None, false);
    point();
    kept.set_flocked(None);
    Ok(false)
}
