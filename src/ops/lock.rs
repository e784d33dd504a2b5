//! Locks of open files: GETLK, SETLK, SETLKW.
//!
//! The kernel has checked that the client's descriptor allows the lock (`check_fmode_for_setlk` of `fs/locks.c`: EBADF).
//! Directories and special files never get here: their locks are the kernel's own, within this mount.

use super::{Call, Handled, Leave};
use crate::fs::locks::{Ask, Asked, Owner, may_lack_flush};
use crate::fs::node::Node;
use crate::sys::lock::{LockKind, Range};
use etcfs_proto::abi::{FileLock, FlushIn, LkIn, LkOut, ReleaseIn};
use etcfs_proto::flags::{LkFlags, OpenFlags, ReleaseFlags};
use rustix::io::Errno;

/// GETLK: F_UNLCK when the lock could be had, and otherwise what is in the way. Its process is 0 where this mount does
/// not know it: an open file of another mount or of a native process (natively such a one is -1).
pub(crate) fn getlk(call: &mut Call<'_>) -> Handled {
    let ask = ask(call)?;
    let conflict = call.or_later(call.fs.locker.get_lock(&call.node()?, &ask))?;
    let lk = match conflict {
        None => FileLock {
            r#type: libc::F_UNLCK as u32,
            ..FileLock::default()
        },
        Some(conflict) => FileLock {
            start: conflict.range.first,
            end: conflict.range.last,
            r#type: conflict.kind.to_raw(),
            pid: conflict.pid,
        },
    };
    call.reply.put(&LkOut { lk });
    Ok(())
}

/// SETLK: locks and unlocks, and does not wait.
pub(crate) fn setlk(call: &mut Call<'_>) -> Handled {
    set(call, false)
}

/// SETLKW: what cannot be had at once is waited for elsewhere.
pub(crate) fn setlkw(call: &mut Call<'_>) -> Handled {
    set(call, true)
}

fn set(call: &mut Call<'_>, wait: bool) -> Handled {
    let ask = ask(call)?;
    let node = call.node()?;
    // The kernel's pages go before a lock is given, or given up by whoever may have stored in them, and no worker waits for
    // that. Where some have come in between, the same lock is set once more.
    let pages_go = || node.has_pages() && (ask.kind.is_some() || node.handles().any_writable());
    if pages_go() {
        call.go_aside()?;
    }
    match call.or_later(call.fs.locker.set_lock(&node, &ask, wait))? {
        Asked::Done if pages_go() => call.go_aside(),
        Asked::Done => Ok(()),
        Asked::Waits(wait) => Err(Leave::Wait(wait)),
    }
}

fn ask(call: &Call<'_>) -> Result<Ask, Errno> {
    let args = call.args::<LkIn>()?;
    let flock = LkFlags::from_bits_retain(args.lk_flags).contains(LkFlags::FLOCK);
    let kind = LockKind::from_raw(args.lk.r#type);
    if kind.is_none() && args.lk.r#type != libc::F_UNLCK as u32 {
        return Err(Errno::INVAL);
    }
    if args.lk.start > args.lk.end || args.lk.end > i64::MAX as u64 {
        return Err(Errno::INVAL);
    }
    Ok(Ask {
        owner: if flock {
            Owner::Flock(args.fh)
        } else {
            Owner::Posix(args.owner)
        },
        fh: args.fh,
        range: Range {
            first: args.lk.start,
            last: args.lk.end,
        },
        kind,
        pid: args.lk.pid,
        thread: call.frame.head.pid,
        uid: call.frame.head.uid,
    })
}

/// Whether FLUSH is to be sent at every close(2) of a file opened with `flags`: the flag for the answer to OPEN.
///
/// Lower files have nothing to flush; what FLUSH alone says is which owner has closed a descriptor and so lost its
/// POSIX locks (`fuse_flush`, `fs/fuse/file.c`; RELEASE comes after the last close of all and names no such owner). The
/// kernel asks once, at open, when nobody knows whether there will be a lock. So FLUSH is left out where locks are
/// unlikely: opens for reading, and those that empty or make the file. What is locked through such a one is given up
/// with RELEASE or when the process ends, which is the same unless a second descriptor of the same process is closed
/// first. On a node where there has been a POSIX lock, every later open gets FLUSH.
pub(crate) fn flush_wanted(node: &Node, flags: u32) -> OpenFlags {
    if may_lack_flush(flags) && !node.had_posix_locks() {
        OpenFlags::NOFLUSH
    } else {
        OpenFlags::empty()
    }
}

/// FLUSH: a descriptor was closed, and with it go the POSIX locks of its process.
pub(crate) fn flush(call: &mut Call<'_>) -> Handled {
    if !call.fs.locks.is_empty() {
        let args = call.args::<FlushIn>()?;
        let owner = Owner::Posix(args.lock_owner);
        call.fs.locks.drop_owner(call.node_id(), owner);
    }
    Ok(())
}

/// What RELEASE says about locks.
pub(crate) fn release(call: &Call<'_>, args: &ReleaseIn) {
    let locks = &call.fs.locks;
    if locks.is_empty() {
        return;
    }
    let flags = ReleaseFlags::from_bits_retain(args.release_flags);
    if flags.contains(ReleaseFlags::FLOCK_UNLOCK) {
        locks.drop_owner(call.node_id(), Owner::Flock(args.fh));
    }
    locks.drop_handle(call.node_id(), args.fh);
}
