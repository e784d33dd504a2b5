//! Putting a symlink or a directory where an override wants it. What stood there is replaced in one step where the
//! file system can do that, so that the name is never missing.

use crate::fs::staging::Staging;
use crate::fs::staging::sweep::{STALE_AFTER, sweep};
use crate::fs::stat::Stat;
use crate::sys::creds::set_umask;
use crate::sys::object;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use std::ffi::CStr;

/// The mode of a directory that an override makes (contract D42).
const DIRECTORY_MODE: u32 = 0o755;

/// Makes `name` in `dir` a symlink to `target`, in place of `found`.
///
/// # Errors
/// ENOTEMPTY for a directory that holds something; EPERM for an immutable object; EBUSY for a mount point; EROFS,
/// ENOSPC, EDQUOT. What was there still is then, but for an empty directory.
pub(crate) fn symlink(
    dir: BorrowedFd<'_>,
    name: &CStr,
    target: &[u8],
    found: Option<&Stat>,
) -> Result<(), Errno> {
    let _ = sweep(dir, STALE_AFTER);
    let staging = Staging::within(dir)?;
    let link = staging.make(&mut |at, temp| rustix::fs::symlinkat(target, at, temp))?;
    own(&link)?;
    if found.is_some_and(Stat::is_dir) {
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    staging.put(name)
}

/// Makes `name` in `dir` a directory, in place of `found`, which is not one.
///
/// # Errors
/// As [`symlink`], ENOTEMPTY excepted.
pub(crate) fn directory(
    dir: BorrowedFd<'_>,
    name: &CStr,
    found: Option<&Stat>,
) -> Result<(), Errno> {
    let _ = sweep(dir, STALE_AFTER);
    let staging = Staging::within(dir)?;
    set_umask(0o777 & !DIRECTORY_MODE);
    let mode = Mode::from_raw_mode(DIRECTORY_MODE);
    let made = staging.make(&mut |at, temp| rustix::fs::mkdirat(at, temp, mode))?;
    own(&made)?;
    match found {
        // Somebody who was faster keeps what they made.
        None => staging.put_at_free_name(name),
        Some(_) => swap(dir, &staging, name),
    }
}

/// Exchanges the directory in `staging` with the object `name`, and removes that.
fn swap(dir: BorrowedFd<'_>, staging: &Staging<'_>, name: &CStr) -> Result<(), Errno> {
    match staging.exchange(name) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            return staging.put_at_free_name(name);
        }
        other => other?,
    }
    match staging.remove() {
        // Somebody has put a directory there meanwhile, which is what the override asks for.
        Err(Errno::ISDIR) => staging.exchange(name),
        other => other,
    }
}

/// Gives what was just made to the daemon's own user, root (contract B6): a directory with the set-group-id bit hands down
/// its group and, to directories, the bit itself; a default ACL decides about the mode.
fn own(made: &OwnedFd) -> Result<(), Errno> {
    let stat = Stat::of(made.as_fd())?;
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if (stat.0.stx_uid, stat.0.stx_gid) != (uid, gid) {
        object::chown(made.as_fd(), Some(uid), Some(gid))?;
    }
    if stat.is_dir() && u32::from(stat.0.stx_mode) & 0o7777 != DIRECTORY_MODE {
        object::chmod(made.as_fd(), DIRECTORY_MODE)?;
    }
    Ok(())
}
