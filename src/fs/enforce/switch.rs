//! The moment in which a new file takes an old one's place, and the way back.

use super::inject_file::{Attempt, Original, Step};
use crate::fs::stat::Stat;
use crate::sys::lease::Lease;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Exchanges the new file `temp`, whose inode is `ino`, with the old one at `name`, unless that is not what was read.
/// `temp` names what is to be removed afterwards, whatever the result, unless `keep` is set.
pub(super) fn switch(
    dir: BorrowedFd<'_>,
    name: &CStr,
    temp: &CStr,
    ino: u64,
    original: &Original,
    keep: &mut bool,
    reached: &mut dyn FnMut(Step),
) -> Result<Attempt, Errno> {
    let lease = match Lease::against_writers(original.fd.as_fd()) {
        Ok(lease) => Some(lease),
        Err(Errno::AGAIN) => return Ok(Attempt::Busy),
        Err(_) => None,
    };
    if !original.stands_at(dir, name) {
        return Ok(Attempt::Changed);
    }
    match rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => {
            reached(Step::Switched);
            let wanted = lease.as_ref().is_some_and(Lease::is_wanted);
            if wanted || !original.was_moved_to(dir, temp) {
                switch_back(dir, name, temp, ino).inspect_err(|_| *keep = true)?;
                return Ok(if wanted {
                    Attempt::Busy
                } else {
                    Attempt::Changed
                });
            }
        }
        // Not every file system can exchange.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::renameat(dir, temp, dir, name)?;
            reached(Step::Switched);
        }
        Err(Errno::NOENT) => return Ok(Attempt::Changed),
        Err(errno) => return Err(errno),
    }
    drop(lease);
    sync_dir(dir)?;
    reached(Step::Durable);
    Ok(Attempt::Done)
}

/// Exchanges once more, so that `temp` is the new file again, whose inode is `ino`.
///
/// # Errors
/// Then `temp` may still be the old file, with a change in it.
fn switch_back(dir: BorrowedFd<'_>, name: &CStr, temp: &CStr, ino: u64) -> Result<(), Errno> {
    for _ in 0..2 {
        match rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::EXCHANGE) {
            // The name was removed, which is a change later than the one that would come back.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        if Stat::at(dir, temp).is_ok_and(|stat| stat.0.stx_ino == ino) {
            break;
        }
        // Somebody has put a third file at the name since the first exchange. It is the latest and goes back.
    }
    Ok(())
}

/// Puts the names in `dir` on disk.
fn sync_dir(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, c".", flags, Mode::empty()) {
        Ok(fd) => rustix::fs::fsync(fd),
        // A directory that this daemon may not read.
        Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(errno),
    }
}
