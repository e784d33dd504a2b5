//! Creating: MKNOD, MKDIR, SYMLINK, LINK, CREATE, TMPFILE. Done in the caller's name and with the caller's umask, which the
//! lower file system applies unless the directory has a default ACL (`FUSE_DONT_MASK`).

use super::act::Actor;
use super::answer::{ATTR_VALID, attr, decode_dev, entry_out};
use super::lookup::put_entry;
use super::{Call, Handled, file};
use crate::fs::budget::Charge;
use crate::fs::ids::{NodeId, Side};
use crate::fs::lower::known::Sighting;
use crate::fs::lower::resolve::Spot;
use crate::fs::made::Making;
use crate::fs::node::Node;
use crate::fs::opens::lower_flags;
use crate::fs::staging::open_regular;
use crate::fs::stat::Stat;
use crate::fs::watch::Valid;
use crate::ledger::flight::tally::CountChange;
use crate::sys::creds::{self, set_umask};
use etcfs_proto::abi::{CreateIn, LinkIn, MkdirIn, MknodIn};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
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
    let old = NodeId::of(call.args::<LinkIn>()?.oldnodeid);
    let old = call.fs.lower.nodes.get(old).ok_or(Errno::STALE)?;
    let parent = call.node()?;
    let asker = call.actor().unvouched();
    let spot = call.fs.lower.spot_to_create(&asker, &parent, name)?;
    if spot.side != old.side() {
        return Err(Errno::XDEV.into());
    }
    let pinned = call.fs.lower.pin(&old)?;
    call.begin(&[]);
    let linked = call
        .actor_at(&spot)
        .act(|| crate::sys::object::link(pinned.as_fd(), spot.dir(), name));
    match linked {
        Err(Errno::EXIST) if call.begun().is_some() && is_at(pinned.as_fd(), &spot, name) => {}
        other => other?,
    }
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    call.changed(parent.id, name);
    // What was linked, whatever has that name by now.
    let stat = Stat::of(pinned.as_fd())?;
    put_made(call, &parent, name, &spot, &stat)
}

/// True if the inode `fd` stands at `spot` as `name`.
fn is_at(fd: BorrowedFd<'_>, spot: &Spot, name: &CStr) -> bool {
    let there = Stat::at(spot.dir(), name).map(|stat| stat.key(spot.side));
    there.is_ok() && there == Stat::of(fd).map(|stat| stat.key(spot.side))
}

/// CREATE: makes and opens a regular file.
pub(crate) fn create(call: &mut Call<'_>) -> Handled {
    let name = call.name()?;
    let args = call.args::<CreateIn>()?;
    let charge = call.charge()?;
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
    let making = making(call, libc::S_IFREG);
    call.begin(&making.since());
    let mut opened = call
        .fs
        .lower
        .with_relief(|| in_callers_name(call.actor_at(&spot), args.umask, args.mode, open));
    if let Err(Errno::EXIST) = opened {
        opened = open_made(call, &making, (&spot, name), args.flags);
    }
    let fd = match opened {
        Err(Errno::EXIST) if args.flags & libc::O_EXCL as u32 == 0 => {
            return Err(Errno::STALE.into());
        }
        other => other?,
    };
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    call.changed(parent.id, name);
    let stat = Stat::of(fd.as_fd())?;
    let seen = Sighting {
        parent: parent.id,
        name,
        spot: &spot,
        stat: &stat,
    };
    let asker = call.changes(CountChange::Given);
    let node = call.fs.lower.meet_made(&seen, asker)?;
    opened_file(call, &node, (&stat, fd), args.flags, charge);
    Ok(())
}

/// TMPFILE: a regular file without a name (`O_TMPFILE`), made in the directory that the request names.
pub(crate) fn tmpfile(call: &mut Call<'_>) -> Handled {
    let args = call.args::<CreateIn>()?;
    let charge = call.charge()?;
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
    let (key, asker) = (stat.key(spot.side), call.changes(CountChange::Given));
    let node = call
        .fs
        .lower
        .nodes
        .add(key, stat.kind(), parent.id, c"", asker)?;
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
        Side::Local => ATTR_VALID,
        Side::Global => Valid::NOT,
    };
    call.reply.put(&entry_out(
        call.fs,
        node.id.0,
        attr(call.fs, node, stat),
        Valid::NOT,
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
    let making = making(call, mode & libc::S_IFMT);
    let bits = Mode::from_raw_mode(mode & 0o7777);
    call.begin(&making.since());
    let made = in_callers_name(call.actor_at(&spot), umask, mode, || {
        make(&spot, name, bits)
    });
    match made {
        // By a predecessor, for this very request, if it is what would have been made.
        Err(Errno::EXIST) if call.begun().is_some() && making.made(spot.dir(), name).is_ok() => {}
        other => other?,
    }
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    call.changed(parent.id, name);
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
    let (node, stat) = call
        .fs
        .lower
        .meet(&seen, false, call.changes(CountChange::Given))?;
    put_entry(call, &node, &stat);
    Ok(())
}

/// The making of something of type `kind` for the caller, by a predecessor or from here on.
fn making(call: &Call<'_>, kind: u32) -> Making {
    let uid = call.fs.maker(call.frame.head.uid);
    match call.begun() {
        Some([sec, nsec, ..]) => Making::begun(kind, uid, (sec, nsec)),
        None => Making::begin(kind, uid),
    }
}

/// Opens what a predecessor has made as `name` for this very request.
///
/// # Errors
/// EEXIST where it was somebody else.
fn open_made(
    call: &Call<'_>,
    making: &Making,
    (spot, name): (&Spot, &CStr),
    flags: u32,
) -> Result<OwnedFd, Errno> {
    if call.begun().is_none() {
        return Err(Errno::EXIST);
    }
    let stat = making.made(spot.dir(), name).map_err(|_| Errno::EXIST)?;
    // Its mode may forbid to open it, as it may for who makes a file.
    let fd = creds::own(|| open_regular(spot.dir(), name, lower_flags(flags)))?;
    match Stat::of(fd.as_fd())?.key(spot.side) == stat.key(spot.side) {
        true => Ok(fd),
        false => Err(Errno::EXIST),
    }
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
