//! Editing a file for an inject override, through descriptors.
//!
//! The new content is made whole and put on disk under no name, with the original's owner, group, mode, ACL, attributes
//! and times (contract B34), and then takes the original's place in one step (B9). So a power cut at any moment leaves
//! the old file or the new one.
//!
//! # A writer's change is never lost
//!
//! Nothing is done while somebody has the file open for writing: the edit is [`Edited::Busy`] and is tried again at the
//! next access. For the moment of the switch a lease keeps writers out. The two files *exchange* names, so the old one
//! can be looked at once more afterwards; if it is not what was read, or if somebody waits to open it for writing, they
//! change back and all begins anew. Clients of a mount look once more whether a file that they have got open for writing
//! still has its name, so nothing of theirs is lost. What remains, beneath the mount, is a process that has looked a
//! file up and is stopped before its `open` asks for the lease, or one that has found the new file in the moment before it
//! changes back: it writes to a file without a name, as with every editor that replaces files. Where a file system has
//! no leases or cannot exchange, the comparison immediately before the switch is what is left.
//!
//! # Hard links
//!
//! Replacing would part a file from its other names, which an edit of a file with several names must not do. See
//! [`in_place`].

use super::in_place;
use super::original::{EditAttempt, EditStep, Original};
use super::switch::switch;
use crate::fs::cross::Errand;
use crate::fs::cross::fresh::Fresh;
use crate::fs::cross::metadata::carry;
use crate::fs::inject;
use crate::fs::staging::sweep;
use crate::sys::lease::Lease;
use crate::sys::xattr::Target;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::StatxAttributes;
use rustix::io::Errno;
use std::ffi::CStr;

/// How often an edit begins anew because the file changes meanwhile.
const ATTEMPTS: u32 = 8;

/// What is to be done to the file's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The text is to be in it.
    Put(&'a [u8]),
    /// The text is to be taken out.
    Take(&'a [u8]),
    /// The one text is to be taken out, the other put in.
    Replace(&'a [u8], &'a [u8]),
}

impl Change<'_> {
    /// The new content; `None` if the original is already as it should be.
    pub(crate) fn of(&self, original: &[u8]) -> Option<Vec<u8>> {
        match self {
            Change::Put(text) => inject::injected(original, text),
            Change::Take(text) => inject::uninjected(original, text),
            Change::Replace(old, new) => inject::reinjected(original, old, new),
        }
    }

    /// The text that an interrupted edit may have left a part of.
    fn put(&self) -> &[u8] {
        match self {
            Change::Put(text) | Change::Replace(_, text) => text,
            Change::Take(text) => text,
        }
    }
}

/// How an edit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// There is no regular file that holds anything (contract D41).
    Nothing,
    /// The file was as it should be.
    InPlace,
    /// It is now.
    Done,
    /// Somebody writes to it at this moment.
    Busy,
}

/// Makes `change` to the file `name` in `dir`; `reached` is told of every step. `may_switch` is asked immediately before
/// another file gets the name.
///
/// # Errors
/// EPERM for an immutable or append-only file or without the right to keep its owner; EFBIG for one larger than
/// [`FILE_MAX`](super::original::FILE_MAX); EROFS, ENOSPC, EDQUOT, EIO. The file is the old one then.
pub fn edit(
    dir: BorrowedFd<'_>,
    name: &CStr,
    change: Change<'_>,
    may_switch: &dyn Fn() -> bool,
    reached: &mut dyn FnMut(EditStep),
) -> Result<Edited, Errno> {
    let mut keep_links = true;
    for _ in 0..ATTEMPTS {
        let original = match Original::read(dir, name) {
            Ok(Some(original)) => original,
            Ok(None) => return Ok(Edited::Nothing),
            Err(Errno::BUSY | Errno::AGAIN) => return Ok(Edited::Busy),
            Err(errno) => return Err(errno),
        };
        match in_place::roll_back(dir, name, &original, change.put())? {
            EditAttempt::Unable => {}
            EditAttempt::Busy => return Ok(Edited::Busy),
            EditAttempt::Done | EditAttempt::Changed => continue,
        }
        let Some(content) = change.of(&original.bytes) else {
            return Ok(Edited::InPlace);
        };
        // Cheaper than to find out when all is made; also what the lease alone cannot say of a file with several names.
        if let Err(Errno::AGAIN) = Lease::against_writers(original.fd.as_fd()) {
            return Ok(Edited::Busy);
        }
        let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        if original.stat.0.stx_attributes.intersects(fixed) {
            return Err(Errno::PERM);
        }
        let attempt = if original.stat.0.stx_nlink > 1 && keep_links {
            in_place::change(dir, name, original, &content, reached)?
        } else {
            replace(dir, name, &original, &content, may_switch, reached)?
        };
        match attempt {
            EditAttempt::Done => return Ok(Edited::Done),
            EditAttempt::Busy => return Ok(Edited::Busy),
            EditAttempt::Changed => {}
            EditAttempt::Unable => keep_links = false,
        }
    }
    Ok(Edited::Busy)
}

/// What a look at a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It needs no change, or it is no regular file that holds something.
    Fits,
    /// It needs the change.
    Lacks,
}

/// Whether the file `name` in `dir` needs `change`; one that bears the mark of an interrupted edit does.
///
/// # Errors
/// EFBIG, EACCES, EIO, and EBUSY for one that never stands still.
pub(crate) fn look(dir: BorrowedFd<'_>, name: &CStr, change: Change<'_>) -> Result<Look, Errno> {
    let Some(original) = Original::read(dir, name)? else {
        return Ok(Look::Fits);
    };
    let torn = in_place::is_marked(&original);
    Ok(match change.of(&original.bytes) {
        None if !torn => Look::Fits,
        _ => Look::Lacks,
    })
}

/// Makes a file of `content` like `original` and puts it in its place.
fn replace(
    dir: BorrowedFd<'_>,
    name: &CStr,
    original: &Original,
    content: &[u8],
    may_switch: &dyn Fn() -> bool,
    reached: &mut dyn FnMut(EditStep),
) -> Result<EditAttempt, Errno> {
    let _ = sweep::sweep(dir, sweep::STALE_AFTER);
    let errand = Errand::unbounded();
    let fresh = Fresh::file(dir, &|dir| errand.make_nameless(dir))?;
    fill(fresh.fd(), original, content, reached)?;
    let (staging, fd) = fresh.named(dir)?;
    reached(EditStep::Named);
    if !may_switch() {
        return Ok(EditAttempt::Busy);
    }
    switch(dir, name, staging, fd.as_fd(), original, reached)
}

/// Fills the new file, which then is on disk.
fn fill(
    fresh: BorrowedFd<'_>,
    original: &Original,
    content: &[u8],
    reached: &mut dyn FnMut(EditStep),
) -> Result<(), Errno> {
    write_all(fresh, content)?;
    reached(EditStep::Written);
    let (from, to) = (Target::Open(original.fd.as_fd()), Target::Open(fresh));
    let errand = Errand::unbounded();
    carry(&original.stat, from, to, fresh, &errand).map_err(|errno| match errno {
        // Said of two file systems, and here there is one.
        Errno::XDEV => Errno::PERM,
        other => other,
    })?;
    reached(EditStep::Dressed);
    rustix::fs::fsync(fresh)?;
    reached(EditStep::Synced);
    Ok(())
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
