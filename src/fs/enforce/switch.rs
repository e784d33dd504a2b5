//! The moment in which a new file takes an old one's place, and the way back.

use super::original::{EditAttempt, EditStep, Original};
use crate::fs::lower::walk;
use crate::fs::staging::Staging;
use crate::fs::stat::Stat;
use crate::sys::lease::Lease;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::CStr;

/// Exchanges the new file, which `fresh` is and `staging` holds, with the old one at `name`, unless that is not what was
/// read. Either way what is in `staging` then is gone afterwards.
///
/// Both files are leased meanwhile, and the one that loses its name is removed before the leases end: whoever gets it
/// open after that finds it without a name and can look again.
pub(super) fn switch(
    dir: BorrowedFd<'_>,
    name: &CStr,
    staging: Staging<'_>,
    fresh: BorrowedFd<'_>,
    original: &Original,
    reached: &mut dyn FnMut(EditStep),
) -> Result<EditAttempt, Errno> {
    let writers = Lease::against_writers(original.fd.as_fd());
    let others = Lease::against_all(fresh);
    let switched = match &writers {
        Err(Errno::AGAIN) => Ok(EditAttempt::Busy),
        Ok(lease) if lease.is_wanted() => Ok(EditAttempt::Busy),
        _ if !original.stands_at(dir, name) => Ok(EditAttempt::Changed),
        lease => exchange(
            name,
            &staging,
            fresh,
            original,
            lease.as_ref().ok(),
            reached,
        ),
    };
    match &switched {
        Err(Errno::STALE) => staging.leave(),
        _ => drop(staging),
    }
    if !matches!(switched, Ok(EditAttempt::Done)) {
        return switched;
    }
    reached(EditStep::Removed);
    drop((writers, others));
    walk::sync(dir)?;
    reached(EditStep::Durable);
    Ok(EditAttempt::Done)
}

/// The switch itself, and the way back if the old file changed or somebody waits to change it.
///
/// # Errors
/// ESTALE: what is in `staging` may be the old file with a change in it, and must stay.
fn exchange(
    name: &CStr,
    staging: &Staging<'_>,
    fresh: BorrowedFd<'_>,
    original: &Original,
    writers: Option<&Lease<'_>>,
    reached: &mut dyn FnMut(EditStep),
) -> Result<EditAttempt, Errno> {
    match staging.exchange(name) {
        Ok(()) => {}
        // Not every file system can exchange. What is left is the comparison that was made just before.
        Err(Errno::INVAL | Errno::NOSYS) => {
            staging.put(name)?;
            reached(EditStep::Switched);
            return Ok(EditAttempt::Done);
        }
        Err(Errno::NOENT) => return Ok(EditAttempt::Changed),
        Err(errno) => return Err(errno),
    }
    reached(EditStep::Switched);
    let wanted = writers.is_some_and(Lease::is_wanted);
    if !wanted && staging.stat().is_ok_and(|stat| original.was_moved(&stat)) {
        return Ok(EditAttempt::Done);
    }
    // Who waits for the new file has found it within this moment, and a client of the mount looks again. Who waits for the
    // old one may have waited for as long as the lease is held. A third file, which an editor or another stratum has put
    // there a moment ago, goes back as well: what it holds is nowhere else.
    reached(EditStep::ChangesBack);
    let ino = Stat::of(fresh)?.0.stx_ino;
    switch_back(name, staging, ino).map_err(|_| Errno::STALE)?;
    Ok(match wanted {
        true => EditAttempt::Busy,
        false => EditAttempt::Changed,
    })
}

/// Exchanges once more, so that `staging` holds the new file again, whose inode is `ino`.
///
/// # Errors
/// Then it may still hold the old file, with a change in it.
fn switch_back(name: &CStr, staging: &Staging<'_>, ino: u64) -> Result<(), Errno> {
    for _ in 0..2 {
        match staging.exchange(name) {
            // The name was removed, which is a change later than the one that would come back.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        if staging.stat().is_ok_and(|stat| stat.0.stx_ino == ino) {
            break;
        }
        // Somebody has put a third file at the name since the first exchange. It is the latest and goes back.
    }
    Ok(())
}
