//! Editing a file that has several names (hard links), which must stay one file.
//!
//! A file is written in place only where that cannot tear it:
//!
//! - Text to be *added at the end* is appended with one write. Before that, the file is given an attribute
//!   ([`MARK`]) that says how long it was, and this is on disk first. A power cut in the middle of the write leaves the
//!   attribute and a part of the text, which the next look at the file cuts off again, before a client sees it.
//! - Text to be *taken from the end* is cut off, which file systems do whole or not at all; only while nobody else has
//!   the file open.
//!
//! Everything else (text from the middle, a text for another one, a file system without attributes, a file that
//! somebody reads all the time, a directory in which others make names) is done by replacing the file, and the edited name parts from the others, which keep
//! the old content: content is worth more than a link.

use super::original::{EditAttempt, EditStep, Original};
use crate::fs::mark::Mark;
use crate::fs::staging::{is_ours_alone, open_regular};
use crate::fs::stat::Stat;
use crate::sys::lease::Lease;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// The attribute of a file that is being appended to: its length before, 8 bytes, little-endian. Only the privileged
/// see attributes in `trusted`.
pub(crate) const MARK: &CStr = c"trusted.etcfs.length";

/// Brings `content` into the file without replacing it, if it differs from the original at the end only.
///
/// # Errors
/// ENOSPC, EDQUOT, EIO, EPERM; the file is the old one then.
pub(super) fn change(
    dir: BorrowedFd<'_>,
    name: &CStr,
    original: Original,
    content: &[u8],
    reached: &mut dyn FnMut(EditStep),
) -> Result<EditAttempt, Errno> {
    // Elsewhere a link may have been made by somebody who wants a file of somebody else's written to.
    if !is_ours_alone(&Stat::of(dir)?) {
        return Ok(EditAttempt::Unable);
    }
    if let Some(tail) = content.strip_prefix(&*original.bytes) {
        return append(dir, name, &original, tail, reached);
    }
    if original.bytes.starts_with(content) {
        return cut(dir, name, original, content.len() as u64, reached);
    }
    Ok(EditAttempt::Unable)
}

fn append(
    dir: BorrowedFd<'_>,
    name: &CStr,
    original: &Original,
    tail: &[u8],
    reached: &mut dyn FnMut(EditStep),
) -> Result<EditAttempt, Errno> {
    let flags = OFlags::RDWR | OFlags::APPEND;
    let Some(file) = reopen(dir, name, &original.stat, flags)? else {
        return Ok(EditAttempt::Changed);
    };
    let length = original.stat.0.stx_size;
    match rustix::fs::fsetxattr(&file, MARK, &length.to_le_bytes(), XattrFlags::empty()) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(EditAttempt::Unable),
        Err(errno) => return Err(errno),
    }
    let written = rustix::fs::fsync(&file).and_then(|()| {
        reached(EditStep::Marked);
        match rustix::io::write(&file, tail) {
            Ok(n) if n < tail.len() => Err(Errno::NOSPC),
            other => other.map(drop),
        }
    });
    if written.is_ok() {
        reached(EditStep::Changed);
        rustix::fs::fsync(&file)?;
        reached(EditStep::ChangeSynced);
    } else if is_torn(&file, length, tail)? {
        rustix::fs::ftruncate(&file, length)?;
    }
    unmark(&file, &original.stat)?;
    written?;
    reached(EditStep::Unmarked);
    Ok(EditAttempt::Done)
}

fn cut(
    dir: BorrowedFd<'_>,
    name: &CStr,
    original: Original,
    length: u64,
    reached: &mut dyn FnMut(EditStep),
) -> Result<EditAttempt, Errno> {
    let Some(file) = reopen(dir, name, &original.stat, OFlags::RDWR)? else {
        return Ok(EditAttempt::Changed);
    };
    let stat = original.stat;
    // The descriptor that the file was read through counts as somebody who has it open.
    drop(original);
    let Ok(lease) = Lease::against_all(file.as_fd()) else {
        return Ok(EditAttempt::Unable);
    };
    if Mark::of(&Stat::of(file.as_fd())?) != Mark::of(&stat) {
        return Ok(EditAttempt::Changed);
    }
    rustix::fs::ftruncate(&file, length)?;
    drop(lease);
    reached(EditStep::Changed);
    rustix::fs::fsync(&file)?;
    reached(EditStep::ChangeSynced);
    restore_times(&file, &stat)?;
    Ok(EditAttempt::Done)
}

/// Cuts off what an interrupted append of `text` has left in the file. [`EditAttempt::Unable`]: there was no such thing, and
/// nothing has changed.
///
/// # Errors
/// EROFS, EPERM, EIO.
pub(super) fn roll_back(
    dir: BorrowedFd<'_>,
    name: &CStr,
    original: &Original,
    text: &[u8],
) -> Result<EditAttempt, Errno> {
    let Some(length) = mark_of(original) else {
        return Ok(EditAttempt::Unable);
    };
    // Another stratum's daemon may be in the middle of it.
    if let Err(Errno::AGAIN) = Lease::against_writers(original.fd.as_fd()) {
        return Ok(EditAttempt::Busy);
    }
    let Some(file) = reopen(dir, name, &original.stat, OFlags::RDWR)? else {
        return Ok(EditAttempt::Changed);
    };
    // The text, or the newline that ends the last line and the text.
    if is_torn(&file, length, text)? || is_torn(&file, length, &[b"\n", text].concat())? {
        rustix::fs::ftruncate(&file, length)?;
        rustix::fs::fsync(&file)?;
    }
    unmark(&file, &original.stat)?;
    Ok(EditAttempt::Done)
}

/// True if an append was interrupted, or is under way.
pub(super) fn is_marked(original: &Original) -> bool {
    mark_of(original).is_some()
}

fn mark_of(original: &Original) -> Option<u64> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(&original.fd, MARK, &mut value) {
        Ok(8) => Some(u64::from_le_bytes(value)),
        _ => None,
    }
}

/// True if the file is `length` bytes and a part of `tail`, and nothing else.
fn is_torn(file: &OwnedFd, length: u64, tail: &[u8]) -> Result<bool, Errno> {
    let size = Stat::of(file.as_fd())?.0.stx_size;
    let Some(more) = size
        .checked_sub(length)
        .and_then(|n| usize::try_from(n).ok())
    else {
        return Ok(false);
    };
    if more == 0 || more >= tail.len() {
        return Ok(false);
    }
    let mut end = vec![0; more];
    let len = rustix::io::pread(file, &mut end, length)?;
    Ok(len == more && tail.starts_with(&end))
}

/// Opens the file for writing; `None` if it is another or has changed.
fn reopen(
    dir: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    flags: OFlags,
) -> Result<Option<OwnedFd>, Errno> {
    match open_regular(dir, name, flags) {
        Ok(file) => {
            let same = Mark::of(&Stat::of(file.as_fd())?) == Mark::of(stat);
            Ok(same.then_some(file))
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Takes the attribute away and gives the file its times back (contract B34).
fn unmark(file: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fremovexattr(file, MARK)?;
    restore_times(file, stat)
}

fn restore_times(file: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    let mtime = &stat.0.stx_mtime;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.tv_sec,
            tv_nsec: mtime.tv_nsec.into(),
        },
    };
    rustix::fs::futimens(file, &times)
}
