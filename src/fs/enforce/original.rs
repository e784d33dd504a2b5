//! A file that is to be edited, as it was read.

use crate::fs::mark::Mark;
use crate::fs::staging::open_regular;
use crate::fs::stat::Stat;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CStr;

/// The largest file that is edited, in bytes: it is held in memory.
pub(crate) const FILE_MAX: u64 = 16 << 20;

/// How often a file is read that changes meanwhile.
const READS: u32 = 8;

/// What an edit has just done. Not every edit takes every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditStep {
    /// The new file holds the content, without a name.
    Written,
    /// It has the original's owner, mode, attributes and times.
    Dressed,
    /// It is on disk.
    Synced,
    /// It has a name in a place of the daemon's own.
    Named,
    /// It has the name, and the old one is in that place.
    Switched,
    /// It has the name, and is about to lose it again.
    ChangesBack,
    /// The old file is gone.
    Removed,
    /// That is on disk.
    Durable,
    /// In place: the file says how long it was.
    Marked,
    /// In place: the text is added or cut off.
    Changed,
    /// In place: that is on disk.
    ChangeSynced,
    /// In place: the file says nothing any more.
    Unmarked,
}

/// How one attempt to bring new content into place ended.
pub(crate) enum EditAttempt {
    /// It is in place.
    Done,
    /// The file changed meanwhile.
    Changed,
    /// Somebody writes to it at this moment.
    Busy,
    /// This way cannot be taken here.
    Unable,
}

/// A file as it was read.
pub(crate) struct Original {
    /// The file, open for reading.
    pub(crate) fd: OwnedFd,
    /// What it was.
    pub(crate) stat: Stat,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}

impl Original {
    /// Reads the file; `None` if it is not a regular one that holds something.
    pub(crate) fn read(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<Original>, Errno> {
        let fd = match open_regular(dir, name, OFlags::RDONLY | OFlags::NOATIME) {
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Ok(None),
            other => other?,
        };
        for _ in 0..READS {
            let stat = Stat::of(fd.as_fd())?;
            if stat.0.stx_size == 0 {
                return Ok(None);
            }
            if stat.0.stx_size > FILE_MAX {
                return Err(Errno::FBIG);
            }
            let bytes = read_all(fd.as_fd(), stat.0.stx_size)?;
            if Mark::of(&Stat::of(fd.as_fd())?) == Mark::of(&stat) {
                return Ok(Some(Original { fd, stat, bytes }));
            }
        }
        // It is written to all the time. (EAGAIN, from open: somebody else edits it in place.)
        Err(Errno::BUSY)
    }

    /// True if `name` in `dir` is this file, unchanged.
    pub(crate) fn stands_at(&self, dir: BorrowedFd<'_>, name: &CStr) -> bool {
        Stat::at(dir, name).is_ok_and(|stat| Mark::of(&stat) == Mark::of(&self.stat))
    }

    /// True if `now` is this file and it was not written to, its change time aside: a rename has just moved it.
    pub(crate) fn was_moved(&self, now: &Stat) -> bool {
        let rights = |stat: &Stat| {
            let s = &stat.0;
            (s.stx_mode, s.stx_uid, s.stx_gid, s.stx_nlink)
        };
        Mark::of(now).has_same_data(&Mark::of(&self.stat)) && rights(now) == rights(&self.stat)
    }
}

fn read_all(fd: BorrowedFd<'_>, size: u64) -> Result<Vec<u8>, Errno> {
    // One byte more: a read that ends early shows that there is no more.
    let mut bytes = vec![0; size as usize + 1];
    let mut len = 0;
    while len < bytes.len() {
        match rustix::io::pread(fd, &mut bytes[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}
