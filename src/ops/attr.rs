//! Attributes: GETATTR, SETATTR, STATX, STATFS, ACCESS.

use super::answer::{attr, attr_out, validity};
use super::file::frees_much;
use super::{Call, Handled, Where, answer};
use crate::fs::lower::pin::Pinned;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::sys::creds::{self, Held};
use crate::sys::{object, proc};
use etcfs_proto::abi::{GetattrIn, Kstatfs, SetattrIn, StatfsOut, StatxIn, StatxOut};
use etcfs_proto::flags::{GetattrFlags, SetattrValid};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::sync::Arc;

/// GETATTR. The kernel sends `fstat` without a handle, so an open file of the node answers if there is one.
pub(crate) fn getattr(call: &mut Call<'_>) -> Handled {
    let node = call.node()?;
    let lease = call.lease_of(&node);
    let stat = stat(call, &node, call.args::<GetattrIn>()?)?;
    let valid = validity(call.fs, lease.as_ref(), &node, &stat);
    call.reply
        .put(&attr_out(attr(call.fs, &node, &stat), valid));
    Ok(())
}

/// STATX, sent when a client asks for what GETATTR does not carry, such as the birth time.
pub(crate) fn statx(call: &mut Call<'_>) -> Handled {
    let args = call.args::<StatxIn>()?;
    let plain = GetattrIn {
        getattr_flags: args.getattr_flags,
        dummy: 0,
        fh: args.fh,
    };
    let node = call.node()?;
    let lease = call.lease_of(&node);
    let stat = stat(call, &node, &plain)?;
    let valid = validity(call.fs, lease.as_ref(), &node, &stat);
    call.reply.put(&StatxOut {
        attr_valid: valid.sec,
        attr_valid_nsec: valid.nsec,
        flags: 0,
        spare: [0; 2],
        stat: answer::statx(call.fs, &node, &stat),
    });
    Ok(())
}

fn stat(call: &Call<'_>, node: &Arc<Node>, args: &GetattrIn) -> Result<Stat, Errno> {
    let flags = GetattrFlags::from_bits_retain(args.getattr_flags);
    if flags.contains(GetattrFlags::FH) {
        let file = node.handles().file(args.fh);
        if let Some(file) = file {
            return Stat::of(file.fd.as_fd());
        }
    }
    call.fs.lower.stat(node)
}

/// SETATTR: what is changed is the very inode that the kernel has checked, and the lower file system checks it again.
pub(crate) fn setattr(call: &mut Call<'_>) -> Handled {
    let args = call.args::<SetattrIn>()?;
    let valid = SetattrValid::from_bits_retain(args.valid);
    let node = call.node()?;
    let named = if valid.contains(SetattrValid::FH) {
        node.handles().file(args.fh)
    } else {
        None
    };
    let by_handle = named.is_some();
    let pinned = match named {
        Some(file) => Pinned::File(file),
        None => call.fs.lower.pin(&node)?,
    };
    let fd = pinned.as_fd();
    if valid.contains(SetattrValid::SIZE) {
        let told = call
            .actor()
            .told(valid.contains(SetattrValid::KILL_SUIDGID));
        if call.at == Where::Worker && frees_much(&Stat::of(fd)?, args.size) {
            call.go_aside()?;
        }
        let truncate = |fd: BorrowedFd<'_>| {
            call.actor()
                .act_dropping_set_ids(fd, told, || rustix::fs::ftruncate(fd, args.size))
        };
        match &pinned {
            Pinned::File(file) if by_handle && file.is_writable() => truncate(fd)?,
            // truncate(2) by path: whether this caller may write is for the lower file system to say.
            _ => truncate(
                call.or_later(
                    call.act(|| call.fs.lower.open_pinned(&node, &pinned, OFlags::WRONLY)),
                )?
                .as_fd(),
            )?,
        }
    }
    let owner = SetattrValid::UID | SetattrValid::GID;
    if valid.intersects(owner) {
        let uid = valid.contains(SetattrValid::UID).then_some(args.uid);
        let gid = valid.contains(SetattrValid::GID).then_some(args.gid);
        call.actor()
            .act_dropping_set_ids(fd, None, || object::chown(fd, uid, gid))?;
    }
    if valid.contains(SetattrValid::MODE) {
        chmod(call, fd, args.mode)?;
    } else if !valid.intersects(CHANGES) {
        without_attributes(call, &node, fd)?;
    }
    if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
        call.act(|| object::set_times(fd, &times(args, valid)))?;
    }
    let lease = call.lease_of(&node);
    let stat = Stat::of(fd)?;
    let valid = validity(call.fs, lease.as_ref(), &node, &stat);
    call.reply
        .put(&attr_out(attr(call.fs, &node, &stat), valid));
    Ok(())
}

/// Changes the mode. Set-group-id wants membership of the file's group or CAP_FSETID, and goes in silence without
/// (`setattr_copy`).
fn chmod(call: &Call<'_>, fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    let change = || object::chmod(fd, mode);
    let told_by_kernel = call.actor().told(true).is_some();
    if mode & libc::S_ISGID == 0 && told_by_kernel {
        return call.act(change);
    }
    let now = Stat::of(fd)?;
    let old = u32::from(now.0.stx_mode) & 0o7777;
    let set_ids = libc::S_ISUID | libc::S_ISGID;
    if !told_by_kernel && mode & 0o7777 == old & !set_ids && mode & 0o7777 != old {
        // Before Linux 5.11 the kernel has set-id bits taken away so when anybody writes to the file.
        return creds::own(change);
    }
    if mode & libc::S_ISGID != 0 && now.0.stx_gid != call.frame.head.gid {
        return call.actor().act_truly(change);
    }
    call.act(change)
}

/// What a SETATTR without any attribute means: `chown(-1, -1)`, which the kernel lets through unchecked and which natively
/// takes the set-id bits of one's own file and is EPERM on another's; or the kernel's own `file_remove_privs` before
/// somebody writes. Then the lower file system takes away at the write itself what has to go, but for one bit where the
/// kernel writes with rights of its own: set-group-id of a file that nobody runs by it.
fn without_attributes(call: &Call<'_>, node: &Node, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    let mode = u32::from(stat.0.stx_mode);
    let writes = || {
        let thread = call.frame.head.pid;
        let changes_owner = creds::own(|| Ok(proc::changes_owner(thread)));
        node.handles().any_writable() && changes_owner == Ok(false)
    };
    if mode & (libc::S_ISUID | libc::S_ISGID) == 0 || !writes() {
        return call
            .actor()
            .act_dropping_set_ids(fd, None, || object::chown(fd, None, None));
    }
    let group = stat.0.stx_gid;
    let keeps = |held: Held| {
        held.groups.contains(&group) || held.capabilities.contains(CapabilitySet::FSETID)
    };
    if mode & (libc::S_ISGID | libc::S_IXGRP) != libc::S_ISGID
        || call.frame.head.gid == group
        || call.actor().held().is_some_and(keeps)
    {
        return Ok(());
    }
    creds::own(|| object::chmod(fd, mode & !libc::S_ISGID))
}

/// What a SETATTR can change.
const CHANGES: SetattrValid = SetattrValid::MODE
    .union(SetattrValid::UID)
    .union(SetattrValid::GID)
    .union(SetattrValid::SIZE)
    .union(SetattrValid::ATIME)
    .union(SetattrValid::MTIME)
    .union(SetattrValid::CTIME);

fn times(args: &SetattrIn, valid: SetattrValid) -> Timestamps {
    let one = |set: SetattrValid, now: SetattrValid, sec: u64, nsec: u32| Timespec {
        tv_sec: if valid.contains(now) { 0 } else { sec as i64 },
        tv_nsec: if !valid.contains(set) {
            UTIME_OMIT
        } else if valid.contains(now) {
            UTIME_NOW
        } else {
            nsec.into()
        },
    };
    Timestamps {
        last_access: one(
            SetattrValid::ATIME,
            SetattrValid::ATIME_NOW,
            args.atime,
            args.atimensec,
        ),
        last_modification: one(
            SetattrValid::MTIME,
            SetattrValid::MTIME_NOW,
            args.mtime,
            args.mtimensec,
        ),
    }
}

/// STATFS: the lower file system of that very object; needs no right to open it (contract B26).
pub(crate) fn statfs(call: &mut Call<'_>) -> Handled {
    statfs_of(call, &call.node()?)
}

/// Puts the state of the file system that holds `node` into the reply.
pub(crate) fn statfs_of(call: &mut Call<'_>, node: &Arc<Node>) -> Handled {
    let pinned = call.fs.lower.pin(node)?;
    let st = rustix::fs::fstatfs(pinned.as_fd())?;
    call.reply.put(&StatfsOut {
        st: Kstatfs {
            blocks: st.f_blocks,
            bfree: st.f_bfree,
            bavail: st.f_bavail,
            files: st.f_files,
            ffree: st.f_ffree,
            bsize: st.f_bsize as u32,
            namelen: st.f_namelen as u32,
            frsize: st.f_frsize as u32,
            padding: 0,
            spare: [0; 6],
        },
    });
    Ok(())
}

/// ACCESS is not sent to a mount with `default_permissions`, which every mount of this daemon has: the kernel has
/// decided already. What remains to say is whether the object is there.
pub(crate) fn access(call: &mut Call<'_>) -> Handled {
    let node = call.node()?;
    call.fs.lower.stat(&node)?;
    Ok(())
}
