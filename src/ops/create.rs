//! Creating: MKNOD, MKDIR, SYMLINK, LINK, CREATE, TMPFILE. Done in the caller's name and with the caller's umask, which the
//! lower file system applies unless the directory has a default ACL (`FUSE_DONT_MASK`).

use super::act::Actor;
use super::answer::{ATTR_VALID_NSEC, attr, decode_dev, entry_out};
use super::lookup::put_entry;
use super::{Call, Handled, file};
use crate::fs::budget::Charge;
use crate::fs::ids::{NodeId, Side};
use crate::fs::lower::known::Sighting;
use crate::fs::lower::resolve::Spot;
use crate::fs::made::Making;
use crate::fs::node::Node;
use crate::fs::opens::lower_flags;
use crate::fs::stat::Stat;
use crate::sys::creds::set_umask;
use etcfs_proto::abi::{CreateIn, LinkIn, MkdirIn, MknodIn};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

/// MKNOD: files, FIFOs, sockets, devices.
pub(crate) fn mknod(call: &mut Call<'_>) -> Handled {
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
pub(crate) fn mkdir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<MkdirIn>()?;
    let mode = args.mode & 0o7777 | libc::S_IFDIR;
    make(call, args.umask, mode, |spot, name, mode| {
        rustix::fs::mkdirat(spot.dir(), name, mode)
    })
}

/// SYMLINK: the new name comes first, then the target.
pub(crate) fn symlink(call: &mut Call<'_>) -> Handled {
    let (name, target) = call.frame.names2().map_err(super::malformed)?;
    let name = super::one_component(name)?;
    make_as(call, name, 0, libc::S_IFLNK, |spot, name, _| {
        rustix::fs::symlinkat(target, spot.dir(), name)
    })
}

/// LINK: the head names the directory, the argument the existing node. Across sides it is EXDEV (contract S6).
pub(crate) fn link(call: &mut Call<'_>) -> Handled {
    let name = call.name()?;
    let old = NodeId(call.args::<LinkIn>()?.oldnodeid);
    let old = call.fs.lower.nodes.get(old).ok_or(Errno::STALE)?;
    let parent = call.node()?;
    let asker = call.actor().unvouched();
    let spot = call.fs.lower.spot_to_create(&asker, &parent, name)?;
    if spot.side != old.side() {
        return Err(Errno::XDEV.into());
    }
    let pinned = call.fs.lower.pin(&old)?;
    call.actor_at(&spot)
        .act(|| crate::sys::object::link(pinned.as_fd(), spot.dir(), name))?;
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    // What was linked, whatever has that name by now.
    let stat = Stat::of(pinned.as_fd())?;
    put_made(call, &parent, name, &spot, &stat)
}

/// CREATE: makes and opens a regular file.
pub(crate) fn create(call: &mut Call<'_>) -> Handled {
    let name = call.name()?;
    let args = call.args::<CreateIn>()?;
    let charge = call.fs.opens.descriptors.charge(call.frame.head.uid)?;
    let parent = call.node()?;
    let spot = call
        .fs
        .lower
        .spot_to_create(&call.actor().unvouched(), &parent, name)?;
    // O_EXCL always: the kernel has checked the right to make a file here, not the right to open one that somebody
    // else has made since. ESTALE sends the kernel back to look the name up, unless the client wants EEXIST.
    let flags = lower_flags(args.flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(args.mode & 0o7777);
    let open = || rustix::fs::openat(spot.dir(), name, flags, mode);
    let opened = call
        .fs
        .lower
        .with_relief(|| in_callers_name(call.actor_at(&spot), args.umask, args.mode, open));
    let fd = match opened {
        Err(Errno::EXIST) if args.flags & libc::O_EXCL as u32 == 0 => {
            return Err(Errno::STALE.into());
        }
        other => other?,
    };
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    let stat = Stat::of(fd.as_fd())?;
    let node = call.fs.lower.meet_made(&Sighting {
        parent: parent.id,
        name,
        spot: &spot,
        stat: &stat,
    })?;
    opened_file(call, &node, (&stat, fd), args.flags, charge);
    Ok(())
}

/// TMPFILE: a regular file without a name (`O_TMPFILE`), made in the directory that the request names.
pub(crate) fn tmpfile(call: &mut Call<'_>) -> Handled {
    let args = call.args::<CreateIn>()?;
    let charge = call.fs.opens.descriptors.charge(call.frame.head.uid)?;
    let parent = call.node()?;
    let spot = call.fs.lower.spot_unnamed(&parent)?;
    let mode = Mode::from_raw_mode(args.mode & 0o7777);
    let mut flags = lower_flags(args.flags) | OFlags::TMPFILE;
    if args.flags & libc::O_EXCL as u32 != 0 {
        flags |= OFlags::EXCL;
    }
    let open = || rustix::fs::openat(spot.dir(), c".", flags, mode);
    let fd = call
        .fs
        .lower
        .with_relief(|| in_callers_name(call.actor_at(&spot), args.umask, args.mode, open))?;
    let stat = Stat::of(fd.as_fd())?;
    let node = call
        .fs
        .lower
        .nodes
        .add(stat.key(spot.side), stat.kind(), parent.id, c"")?;
    opened_file(call, &node, (&stat, fd), args.flags, charge);
    Ok(())
}

/// Keeps the handle of a file just made, and puts the answer into the reply. Nobody else has had a local one yet, so what
/// it is like is kept for a moment.
fn opened_file(
    call: &mut Call<'_>,
    node: &Arc<Node>,
    (stat, fd): (&Stat, OwnedFd),
    flags: u32,
    charge: Charge<'_>,
) {
    let valid = match node.side() {
        Side::Local => ATTR_VALID_NSEC,
        Side::Global => 0,
    };
    call.reply.put(&entry_out(
        call.fs,
        node.id.0,
        attr(call.fs, node, stat),
        valid,
    ));
    let opened = call.fs.opens.adopt(node, fd, stat, flags, charge);
    // It is as fresh as one that had to be, which is what decides on FLUSH.
    file::put(call, node, &opened, flags | libc::O_EXCL as u32);
}

/// What MKNOD, MKDIR and SYMLINK have in common.
fn make(
    call: &mut Call<'_>,
    umask: u32,
    mode: u32,
    make: impl Fn(&Spot, &CStr, Mode) -> Result<(), Errno>,
) -> Handled {
    let name = call.name()?;
    make_as(call, name, umask, mode, make)
}

fn make_as(
    call: &mut Call<'_>,
    name: &CStr,
    umask: u32,
    mode: u32,
    make: impl Fn(&Spot, &CStr, Mode) -> Result<(), Errno>,
) -> Handled {
    let parent = call.node()?;
    let spot = call
        .fs
        .lower
        .spot_to_create(&call.actor().unvouched(), &parent, name)?;
    let making = Making::begin(mode & libc::S_IFMT, call.fs.maker(call.frame.head.uid));
    let bits = Mode::from_raw_mode(mode & 0o7777);
    in_callers_name(call.actor_at(&spot), umask, mode, || {
        make(&spot, name, bits)
    })?;
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    let stat = making.made(spot.dir(), name)?;
    put_made(call, &parent, name, &spot, &stat)
}

/// Counts a lookup of what was made or linked, which is that and no other, and puts its entry into the reply.
fn put_made(call: &mut Call<'_>, parent: &Node, name: &CStr, spot: &Spot, stat: &Stat) -> Handled {
    let seen = Sighting {
        parent: parent.id,
        name,
        spot,
        stat,
    };
    let (node, stat) = call.fs.lower.meet(&seen, false)?;
    put_entry(call, &node, &stat);
    Ok(())
}

/// Runs `make`, which makes something of `mode`, with the caller's umask and as the caller. Whether set-group-id may be had
/// depends on the caller's groups and CAP_FSETID, and goes in silence where it may not (`mode_strip_sgid`).
fn in_callers_name<T>(
    caller: Actor<'_>,
    umask: u32,
    mode: u32,
    make: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    set_umask(umask);
    if mode & libc::S_ISGID != 0 {
        caller.act_truly(make)
    } else {
        caller.act(make)
    }
}
