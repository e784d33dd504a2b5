//! Attributes: GETATTR, SETATTR, STATX, STATFS, ACCESS.

use super::answer::{attr, attr_out};
use super::{Call, Handled, answer, set_ids};
use crate::fs::node::Node;
use crate::fs::object::Pinned;
use crate::sys::object;
use etcfs_proto::abi::{GetattrIn, Kstatfs, SetattrIn, StatfsOut, StatxIn, StatxOut};
use etcfs_proto::flags::{GetattrFlags, SetattrValid};
use rustix::fd::AsFd;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use std::sync::Arc;

/// GETATTR. The kernel sends `fstat` without a handle, so an open file of the node answers if there is one.
pub fn getattr(call: &mut Call<'_>) -> Handled {
    let stat = stat(call, call.args::<GetattrIn>()?)?;
    call.reply.put(&attr_out(attr(call.fs, &stat)));
    Ok(())
}

/// STATX, sent when a client asks for what GETATTR does not carry, such as the birth time.
pub fn statx(call: &mut Call<'_>) -> Handled {
    let args = call.args::<StatxIn>()?;
    let plain = GetattrIn {
        getattr_flags: args.getattr_flags,
        dummy: 0,
        fh: args.fh,
    };
    let stat = stat(call, &plain)?;
    call.reply.put(&StatxOut {
        attr_valid: 0,
        attr_valid_nsec: 1,
        flags: 0,
        spare: [0; 2],
        stat: answer::statx(call.fs, &stat),
    });
    Ok(())
}

fn stat(call: &Call<'_>, args: &GetattrIn) -> Result<crate::fs::stat::Stat, Errno> {
    let node = call.node()?;
    let flags = GetattrFlags::from_bits_retain(args.getattr_flags);
    if flags.contains(GetattrFlags::FH) {
        let file = node.handles().file(args.fh);
        if let Some(file) = file {
            return crate::fs::stat::Stat::of(file.fd.as_fd());
        }
    }
    call.fs.stat(&node)
}

/// SETATTR. The kernel has checked the caller's right to it; what is changed is the very inode that it checked.
pub fn setattr(call: &mut Call<'_>) -> Handled {
    let args = call.args::<SetattrIn>()?;
    let valid = SetattrValid::from_bits_retain(args.valid);
    let node = call.node()?;
    let named = if valid.contains(SetattrValid::FH) {
        node.handles().file(args.fh)
    } else {
        None
    };
    let pinned = match named {
        Some(file) => Pinned::File(file),
        None => call.fs.pin(&node)?,
    };
    let fd = pinned.as_fd();
    if valid.contains(SetattrValid::SIZE) {
        if valid.contains(SetattrValid::KILL_SUIDGID) {
            set_ids::before_change(call, fd)?;
        }
        match &pinned {
            Pinned::File(file) if file.is_writable() => rustix::fs::ftruncate(fd, args.size)?,
            _ => {
                let (fd, _) = call.fs.open_file(&node, OFlags::WRONLY)?;
                rustix::fs::ftruncate(fd, args.size)?;
            }
        }
    }
    let owner = SetattrValid::UID | SetattrValid::GID;
    if valid.intersects(owner) {
        let uid = valid.contains(SetattrValid::UID).then_some(args.uid);
        let gid = valid.contains(SetattrValid::GID).then_some(args.gid);
        set_ids::before_chown(call, fd)?;
        object::chown(fd, uid, gid)?;
    }
    if valid.contains(SetattrValid::MODE) {
        object::chmod(fd, args.mode)?;
    } else if !valid.intersects(CHANGES) {
        set_ids::without_attributes(call, &node, fd)?;
    }
    if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
        object::set_times(fd, &times(args, valid))?;
    }
    let stat = crate::fs::stat::Stat::of(fd)?;
    call.reply.put(&attr_out(attr(call.fs, &stat)));
    Ok(())
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
pub fn statfs(call: &mut Call<'_>) -> Handled {
    statfs_of(call, &call.node()?)
}

/// Puts the state of the file system that holds `node` into the reply.
pub fn statfs_of(call: &mut Call<'_>, node: &Arc<Node>) -> Handled {
    let pinned = call.fs.pin(node)?;
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
pub fn access(call: &mut Call<'_>) -> Handled {
    let node = call.node()?;
    call.fs.stat(&node)?;
    Ok(())
}
