//! The moment in which a new file takes an old one's place, and the way back.

use super::inject_file::{Attempt, Original, Step};
use crate::fs::stat::Stat;
use crate::sys::lease::Lease;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Exchanges the new file, which `fresh` is and `temp` names, with the old one at `name`, unless that is not what was
/// read. Either way `temp` is gone afterwards.
///
/// Both files are leased meanwhile, and the one that loses its name is removed before the leases end: whoever gets it
/// open after that finds it without a name and can look again.
pub(super) fn switch(
    dir: BorrowedFd<'_>,
    name: &CStr,
    temp: &CStr,
    fresh: BorrowedFd<'_>,
    original: &Original,
    reached: &mut dyn FnMut(Step),
) -> Result<Attempt, Errno> {
    let writers = Lease::against_writers(original.fd.as_fd());
    let others = Lease::against_all(fresh);
    let switched = match &writers {
        Err(Errno::AGAIN) => Ok(Attempt::Busy),
        Ok(lease) if lease.is_wanted() => Ok(Attempt::Busy),
        _ if !original.stands_at(dir, name) => Ok(Attempt::Changed),
        lease => exchange(
            dir,
            name,
            temp,
            fresh,
            original,
            (lease.as_ref().ok(), others.as_ref().ok()),
            reached,
        ),
    };
    if !matches!(switched, Err(Errno::STALE)) {
        let _ = rustix::fs::unlinkat(dir, temp, AtFlags::empty());
    }
    if !matches!(switched, Ok(Attempt::Done)) {
        return switched;
    }
    reached(Step::Removed);
    drop((writers, others));
    sync_dir(dir)?;
    reached(Step::Durable);
    Ok(Attempt::Done)
}

/// The switch itself, and the way back if the old file changed or somebody waits to change it.
///
/// # Errors
/// ESTALE: `temp` may be the old file with a change in it, and must stay.
fn exchange(
    dir: BorrowedFd<'_>,
    name: &CStr,
    temp: &CStr,
    fresh: BorrowedFd<'_>,
    original: &Original,
    (writers, others): (Option<&Lease<'_>>, Option<&Lease<'_>>),
    reached: &mut dyn FnMut(Step),
) -> Result<Attempt, Errno> {
    match rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // Not every file system can exchange. What is left is the comparison that was made just before.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::renameat(dir, temp, dir, name)?;
            reached(Step::Switched);
            return Ok(Attempt::Done);
        }
        Err(Errno::NOENT) => return Ok(Attempt::Changed),
        Err(errno) => return Err(errno),
    }
    reached(Step::Switched);
    let wanted = writers.is_some_and(Lease::is_wanted);
    if !wanted && original.was_moved_to(dir, temp) {
        return Ok(Attempt::Done);
    }
    // Somebody waits for either file: there is no way that suits both, and the new one is in place.
    if others.is_some_and(Lease::is_wanted) {
        return Ok(Attempt::Done);
    }
    let ino = Stat::of(fresh)?.0.stx_ino;
    switch_back(dir, name, temp, ino).map_err(|_| Errno::STALE)?;
    Ok(match wanted {
        true => Attempt::Busy,
        false => Attempt::Changed,
    })
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
