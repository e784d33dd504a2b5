//! Set-user-id and set-group-id, which go when an unprivileged caller changes a file (contract B22, B30).
//!
//! Under `FUSE_HANDLE_KILLPRIV_V2` the clearing is the server's business: a lower file system would keep the bits for the
//! daemon, who has CAP_FSETID. The rules are the kernel's own (`setattr_should_drop_suidgid`): set-user-id goes, and
//! set-group-id goes unless it means no execution and the caller is in the file's group or has CAP_FSETID. The lower file system removes
//! file capabilities by itself.

use super::Call;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::sys::object;
use crate::sys::proc::{self, Status};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;

/// Clears what must go before the contents of `fd` change, where the request says that the caller lacks CAP_FSETID
/// (WRITE, OPEN, SETATTR with a size). One fstat where there is nothing to clear.
pub fn before_change(call: &Call<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    if mode(&stat) & SET_IDS == 0 {
        return Ok(());
    }
    clear(call, fd, &stat, &caller(call))
}

/// As [`before_change`] for the requests that do not say it (FALLOCATE, COPY_FILE_RANGE).
pub fn before_untold_change(call: &Call<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    if mode(&stat) & SET_IDS == 0 {
        return Ok(());
    }
    let caller = caller(call);
    if caller.effective.contains(CapabilitySet::FSETID) {
        return Ok(());
    }
    clear(call, fd, &stat, &caller)
}

/// What a SETATTR without any attribute means: the kernel's `file_remove_privs` before it writes to a backing file
/// itself, or `chown(-1, -1)`. The latter comes from anybody, as the kernel checks nothing then; so the bits go for those
/// whom a native file system would let change them, and for writers, who have the file open.
pub fn without_attributes(call: &Call<'_>, node: &Node, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    if mode(&stat) & SET_IDS == 0 || stat.is_dir() {
        return Ok(());
    }
    let caller = caller(call);
    let goes = if node.handles().any_writable() {
        // A write: of somebody with CAP_FSETID it concerns the file's capabilities only, which are removed apart.
        !caller.effective.contains(CapabilitySet::FSETID)
    } else {
        is_owner(call, &stat, &caller)
    };
    match goes {
        true => clear(call, fd, &stat, &caller),
        false => Ok(()),
    }
}

/// Before a change of owner or group, which clears the bits for everybody: natively that is a change of the mode, so a
/// caller with CAP_CHOWN alone is refused.
pub fn before_chown(call: &Call<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    if mode(&stat) & SET_IDS == 0 || stat.is_dir() {
        return Ok(());
    }
    let caller = caller(call);
    if !is_owner(call, &stat, &caller) {
        return Err(Errno::PERM);
    }
    clear(call, fd, &stat, &caller)
}

fn clear(call: &Call<'_>, fd: BorrowedFd<'_>, stat: &Stat, caller: &Status) -> Result<(), Errno> {
    let mode = mode(stat);
    let group = stat.0.stx_gid;
    let keeps_group = call.frame.head.gid == group
        || caller.groups.contains(&group)
        || caller.effective.contains(CapabilitySet::FSETID);
    let mut kept = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 || !keeps_group {
        kept &= !libc::S_ISGID;
    }
    if kept == mode {
        return Ok(());
    }
    object::chmod(fd, kept)
}

fn is_owner(call: &Call<'_>, stat: &Stat, caller: &Status) -> bool {
    call.frame.head.uid == stat.0.stx_uid || caller.effective.contains(CapabilitySet::FOWNER)
}

/// What is known of the caller. Where `/proc` does not tell, root has all capabilities and nobody else any.
fn caller(call: &Call<'_>) -> Status {
    let head = call.frame.head;
    proc::status(head.pid).unwrap_or_else(|| Status {
        groups: Vec::new(),
        effective: match head.uid {
            0 => CapabilitySet::all(),
            _ => CapabilitySet::empty(),
        },
    })
}

fn mode(stat: &Stat) -> u32 {
    u32::from(stat.0.stx_mode)
}
