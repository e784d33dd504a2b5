//! Creating: MKNOD, MKDIR, SYMLINK, CREATE, TMPFILE. Done in the caller's name and with the caller's umask, which the
//! lower file system applies unless the directory has a default ACL (`FUSE_DONT_MASK`).

use super::answer::{attr, decode_dev, entry_out};
use super::name::found;
use super::{Call, Handled, file};
use crate::fs::made::Making;
use crate::fs::open::lower_flags;
use crate::fs::stat::Stat;
use crate::fs::tree::Spot;
use crate::sys::creds::{ActingAs, set_umask};
use etcfs_proto::abi::{CreateIn, MkdirIn, MknodIn};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// MKNOD: files, FIFOs, sockets, devices.
pub fn mknod(call: &mut Call<'_>) -> Handled {
    let args = call.args::<MknodIn>()?;
    let (major, minor) = decode_dev(args.rdev);
    make(call, args.umask, args.mode, |spot, name, mode| {
        rustix::fs::mknodat(
            spot.dir(),
            name,
            FileType::from_raw_mode(args.mode),
            mode,
            rustix::fs::makedev(major, minor),
        )
    })
}

/// MKDIR.
pub fn mkdir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<MkdirIn>()?;
    let mode = args.mode & 0o7777 | libc::S_IFDIR;
    make(call, args.umask, mode, |spot, name, mode| {
        rustix::fs::mkdirat(spot.dir(), name, mode)
    })
}

/// SYMLINK: the new name comes first, then the target.
pub fn symlink(call: &mut Call<'_>) -> Handled {
    let (name, target) = call.frame.names2().map_err(super::malformed)?;
    let name = super::one_component(name)?;
    make_as(call, name, 0, libc::S_IFLNK, |spot, name, _| {
        rustix::fs::symlinkat(target, spot.dir(), name)
    })
}

/// CREATE: makes and opens a regular file.
pub fn create(call: &mut Call<'_>) -> Handled {
    let name = call.name()?;
    call.not_config(call.node_id(), name)?;
    let args = call.args::<CreateIn>()?;
    let parent = call.node()?;
    let spot = call.fs.spot_to_create(&parent, name)?;
    let mode = permitted(call, &spot, args.mode)?;
    // O_EXCL always: the kernel has checked the right to make a file here, not the right to open one that somebody
    // else has made since. ESTALE sends the kernel back to look the name up, unless the client wants EEXIST.
    let flags = lower_flags(args.flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let open = || rustix::fs::openat(spot.dir(), name, flags, mode);
    let opened = call
        .fs
        .with_relief(|| in_callers_name(call, args.umask, open));
    let fd = match opened {
        Err(Errno::EXIST) if args.flags & libc::O_EXCL as u32 == 0 => {
            return Err(Errno::STALE.into());
        }
        other => other?,
    };
    spot.note_change(call.frame.head.pid);
    let stat = Stat::of(fd.as_fd())?;
    found(call, &parent, name, &spot, &stat);
    opened_file(call, &spot, &stat, fd, args.flags)
}

/// TMPFILE: a regular file without a name (`O_TMPFILE`), made in the directory that the request names.
pub fn tmpfile(call: &mut Call<'_>) -> Handled {
    let args = call.args::<CreateIn>()?;
    let parent = call.node()?;
    let spot = call.fs.spot_unnamed(&parent)?;
    let mode = permitted(call, &spot, args.mode)?;
    let mut flags = lower_flags(args.flags) | OFlags::TMPFILE;
    if args.flags & libc::O_EXCL as u32 != 0 {
        flags |= OFlags::EXCL;
    }
    let open = || rustix::fs::openat(spot.dir(), c".", flags, mode);
    let fd = call
        .fs
        .with_relief(|| in_callers_name(call, args.umask, open))?;
    let stat = Stat::of(fd.as_fd())?;
    let node = call
        .fs
        .nodes
        .look_up(stat.key(spot.side), stat.kind(), parent.id, c"");
    call.reply.put(&entry_out(node.id.0, attr(call.fs, &stat)));
    opened_file(call, &spot, &stat, fd, args.flags)
}

/// Keeps the handle of a file just made and puts the second half of the answer into the reply.
fn opened_file(call: &mut Call<'_>, spot: &Spot, stat: &Stat, fd: OwnedFd, flags: u32) -> Handled {
    let node = call
        .fs
        .nodes
        .find(&stat.key(spot.side))
        .ok_or(Errno::STALE)?;
    let opened = call.fs.adopt(&node, fd, stat, flags);
    // It is as fresh as one that had to be, which is what decides on FLUSH.
    file::put(call, &node, &opened, flags | libc::O_EXCL as u32);
    Ok(())
}

/// What MKNOD, MKDIR and SYMLINK have in common.
fn make(
    call: &mut Call<'_>,
    umask: u32,
    mode: u32,
    make: impl FnOnce(&Spot, &CStr, Mode) -> Result<(), Errno>,
) -> Handled {
    let name = call.name()?;
    make_as(call, name, umask, mode, make)
}

fn make_as(
    call: &mut Call<'_>,
    name: &CStr,
    umask: u32,
    mode: u32,
    make: impl FnOnce(&Spot, &CStr, Mode) -> Result<(), Errno>,
) -> Handled {
    if call.fs.is_config(call.node_id(), name) {
        return Err(Errno::EXIST.into());
    }
    let parent = call.node()?;
    let spot = call.fs.spot_to_create(&parent, name)?;
    let making = Making::begin(mode & libc::S_IFMT, call.fs.maker(call.frame.head.uid));
    let mode = permitted(call, &spot, mode)?;
    in_callers_name(call, umask, || make(&spot, name, mode))?;
    spot.note_change(call.frame.head.pid);
    let stat = making.made(spot.dir(), name)?;
    found(call, &parent, name, &spot, &stat);
    Ok(())
}

/// Runs `make` with the caller's umask, and as the caller where the daemon can.
fn in_callers_name<T>(call: &Call<'_>, umask: u32, make: impl FnOnce() -> T) -> T {
    set_umask(umask);
    let head = call.frame.head;
    let _identity = call
        .fs
        .settings
        .privileged
        .then(|| ActingAs::enter(head.uid, head.gid));
    make()
}

/// Linux 6.1. From 6.0 on the kernel itself strips set-group-id (`mode_strip_sgid`), with the caller's true capabilities.
const KERNEL_STRIPS_SGID: u32 = 37;

/// The mode to create with. Before Linux 6.0 set-group-id on an executable must go here if the directory hands its group
/// down and the caller is not in that group: the lower file system would keep it for the daemon, who has CAP_FSETID. A
/// caller other than root who has that capability cannot be told from one who has not, and loses the bit.
fn permitted(call: &Call<'_>, spot: &Spot, mode: u32) -> Result<Mode, Errno> {
    let bits = mode & 0o7777;
    let sgid_exec = libc::S_ISGID | libc::S_IXGRP;
    let kernel_did = call.agreed.minor >= KERNEL_STRIPS_SGID || call.frame.head.uid == 0;
    if bits & sgid_exec == sgid_exec && !kernel_did {
        let dir = Stat::of(spot.dir())?;
        let inherits = u32::from(dir.0.stx_mode) & libc::S_ISGID != 0;
        let group = dir.0.stx_gid;
        let member =
            call.frame.head.gid == group || call.frame.supplementary_group() == Some(group);
        if inherits && !member {
            return Ok(Mode::from_raw_mode(bits & !libc::S_ISGID));
        }
    }
    Ok(Mode::from_raw_mode(bits))
}
