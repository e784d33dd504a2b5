//! Removing what killed daemons have left.
//!
//! A daemon that is killed at the wrong moment leaves a [`Staging`](super::Staging) behind; [`sweep`] removes those, before
//! the next such work in their directory and before the directory itself is removed.

use super::temp_names::is_hidden;
use super::{clear, enter, is_ours_alone};
use crate::fs::stat::Stat;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// A hidden name whose object has not changed for so many seconds belongs to nobody any more. A living user of one
/// that is slower than this finds it gone and fails without having lost anything: what it replaces is still in place.
pub(crate) const STALE_AFTER: i64 = 60;

/// How many entries a sweep looks at. A daemon leaves one at most each time that it is killed, and somebody who has filled
/// a directory of his own must not keep a worker busy with it.
const LOOKED_AT: usize = 2048;

/// Removes what killed daemons have left in `dir` and what has not changed for `stale_after` seconds. Looks at the first
/// [`LOOKED_AT`] entries only. True if anything was removed.
///
/// Where others make names too, what has a hidden name may be theirs, or may be exchanged for something of theirs between
/// a look at it and its removal. There only a [`Staging`](super::Staging) goes, which is recognised through its
/// descriptor, and whose name leads to nothing by then that its directory's users could not remove themselves.
///
/// # Errors
/// What opening and reading the directory answers.
pub fn sweep(dir: BorrowedFd<'_>, stale_after: i64) -> Result<bool, Errno> {
    let dir = open_to_read(dir)?;
    let found = look(&dir, false)?.unwrap_or_default();
    remove(&dir, &found, stale_after)
}

/// As [`sweep`], for a directory that is to be removed: does nothing if it holds something that clients see, and ends at
/// the first such entry, so that rmdir(2) of a full directory costs the same however full it is.
///
/// # Errors
/// As [`sweep`].
pub(crate) fn sweep_empty(dir: BorrowedFd<'_>, stale_after: i64) -> Result<bool, Errno> {
    let dir = open_to_read(dir)?;
    match look(&dir, true)? {
        Some(found) => remove(&dir, &found, stale_after),
        None => Ok(false),
    }
}

/// The hidden names among the first entries of `dir`. `alone`: none if there is any other entry, or too many to look at.
fn look(dir: &OwnedFd, alone: bool) -> Result<Option<Vec<CString>>, Errno> {
    let mut found = Vec::new();
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut looked_at = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        looked_at += 1;
        let is_hidden = is_hidden(name.to_bytes());
        if alone && (!is_hidden || looked_at > LOOKED_AT) {
            return Ok(None);
        }
        if looked_at > LOOKED_AT {
            break;
        }
        if is_hidden {
            found.push(name.to_owned());
        }
    }
    Ok(Some(found))
}

fn remove(dir: &OwnedFd, names: &[CString], stale_after: i64) -> Result<bool, Errno> {
    if names.is_empty() {
        return Ok(false);
    }
    let of_dir = Stat::of(dir.as_fd())?;
    let alone = is_ours_alone(&of_dir);
    let mut removed = false;
    for name in names {
        if !is_stale(dir.as_fd(), name, stale_after) {
            continue;
        }
        removed |= match clear(dir.as_fd(), name, &of_dir) {
            Ok(()) => rustix::fs::unlinkat(dir, &**name, AtFlags::REMOVEDIR).is_ok(),
            Err(Errno::NOTDIR | Errno::LOOP) if alone => {
                rustix::fs::unlinkat(dir, &**name, AtFlags::empty()).is_ok()
            }
            // A directory that an older daemon was about to put in place; one that holds something is nobody's work.
            Err(_) if alone => rustix::fs::unlinkat(dir, &**name, AtFlags::REMOVEDIR).is_ok(),
            Err(_) => false,
        };
    }
    Ok(removed)
}

/// Removes from the places in `dir` what `is_left` says was left there by a daemon that is known to be dead, and the places of
/// those.
///
/// # Errors
/// As [`sweep`].
pub(crate) fn remove_left(
    dir: BorrowedFd<'_>,
    is_left: &dyn Fn(&Stat) -> bool,
) -> Result<(), Errno> {
    let dir = open_to_read(dir)?;
    let of_dir = Stat::of(dir.as_fd())?;
    let remove = |at: BorrowedFd<'_>, name: &CStr| {
        let is_there = Stat::at(at, name).is_ok_and(|stat| !stat.is_dir() && is_left(&stat));
        is_there && rustix::fs::unlinkat(at, name, AtFlags::empty()).is_ok()
    };
    for name in look(&dir, false)?.unwrap_or_default() {
        let Ok(place) = enter(dir.as_fd(), &name, &of_dir) else {
            // One beside, where there was no room for a place.
            remove(dir.as_fd(), &name);
            continue;
        };
        let objects = look(&place, false)?.unwrap_or_default();
        let removed = objects.iter().any(|object| remove(place.as_fd(), object));
        if removed || objects.is_empty() {
            let _ = rustix::fs::unlinkat(&dir, &*name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

/// Gives what lies in a place in `dir`, and `is_it` says of what it is, the name `name` back if that is free, and removes the
/// place.
///
/// # Errors
/// As [`sweep`].
pub(crate) fn give_back(
    dir: BorrowedFd<'_>,
    name: &CStr,
    is_it: &dyn Fn(&Stat) -> bool,
) -> Result<(), Errno> {
    let dir = open_to_read(dir)?;
    let of_dir = Stat::of(dir.as_fd())?;
    let give = |at: BorrowedFd<'_>, object: &CStr| {
        let is_there = Stat::at(at, object).is_ok_and(|stat| !stat.is_dir() && is_it(&stat));
        is_there && put_at_free_name((at, object), (dir.as_fd(), name)).is_ok()
    };
    for place in look(&dir, false)?.unwrap_or_default() {
        let Ok(inside) = enter(dir.as_fd(), &place, &of_dir) else {
            give(dir.as_fd(), &place);
            continue;
        };
        let objects = look(&inside, false)?.unwrap_or_default();
        if objects.iter().any(|object| give(inside.as_fd(), object)) {
            let _ = rustix::fs::unlinkat(&dir, &*place, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

/// Renames what is no directory, never over anything.
fn put_at_free_name(
    (from, old): (BorrowedFd<'_>, &CStr),
    (to, new): (BorrowedFd<'_>, &CStr),
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // A file system without the flag: a link to a taken name fails as well.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(from, old, to, new, AtFlags::empty())?;
            rustix::fs::unlinkat(from, old, AtFlags::empty())
        }
        other => other,
    }
}

fn open_to_read(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, c".", flags, Mode::empty())
}

/// True if the hidden name `name` in `dir` has not changed for `stale_after` seconds, so that it belongs to nobody.
pub(crate) fn is_stale(dir: BorrowedFd<'_>, name: &CStr, stale_after: i64) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    Stat::at(dir, name).is_ok_and(|stat| stat.0.stx_ctime.tv_sec < now - stale_after)
}
