//! What is asked for, and whose it is to be.

use crate::sys::creds;
use crate::sys::lock::{LockKind, Range};
use crate::sys::proc::{LockCall, is_own_namespace, lock_call};

/// Whose lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Of a table of descriptors, or of an open file that took it with `F_OFD_SETLK`.
    Posix(u64),
    /// Of an open file that took it with `flock(2)`, by its handle: the kernel's number for it, its address scrambled,
    /// may belong to the next open file before RELEASE of this one is served.
    Flock(u64),
}

impl Owner {
    /// True if locks of the two are in each other's way at all.
    pub(super) fn is_rival_of(self, other: Owner) -> bool {
        self != other && matches!(self, Owner::Flock(_)) == matches!(other, Owner::Flock(_))
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// Whose lock it is to be.
    pub(crate) owner: Owner,
    /// The handle through which it is asked for.
    pub(crate) fh: u64,
    /// What to lock; the whole file for `flock(2)`.
    pub(crate) range: Range,
    /// How; `None`: unlock.
    pub(crate) kind: Option<LockKind>,
    /// The process, for F_GETLK's answer; 0: not visible to this mount, or not said (the kernel names none that unlocks).
    pub pid: u32,
    /// The thread that asks; 0: not visible to this mount.
    pub thread: u32,
    /// The user, whose descriptors and ranges are counted.
    pub(crate) uid: u32,
}

impl Ask {
    /// Whose lock `fcntl(2)` is asked for, as far as that can be known: not of another architecture's programs, in another
    /// pid namespace, or without the right to look (an ordinary user's daemon at others' processes).
    pub(super) fn call(&self) -> Option<LockCall> {
        if !is_own_namespace() {
            return None;
        }
        creds::own(|| Ok(lock_call(self.thread))).ok().flatten()
    }
}

/// True if the kernel may not be asked to say which process has closed a descriptor opened with `flags` (FLUSH), and so lost
/// its POSIX locks: see `ops::lock`.
pub(crate) fn may_lack_flush(flags: u32) -> bool {
    let flags = flags as i32;
    // The last one has no name by which another process could reach it.
    flags & libc::O_ACCMODE == libc::O_RDONLY
        || flags & (libc::O_TRUNC | libc::O_EXCL) != 0
        || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

/// All bytes there are and will be.
pub(super) const WHOLE: Range = Range {
    first: 0,
    last: i64::MAX as u64,
};
