//! Putting a symlink or a directory where an override wants it. What stood there is replaced in one step where the
//! file system can do that, so that the name is never missing.

use crate::fs::hidden::{STALE_AFTER, sweep, with_fresh_name};
use crate::fs::stat::Stat;
use crate::sys::creds::set_umask;
use crate::sys::object;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// The mode of a directory that an override makes (contract D42).
const DIRECTORY_MODE: u32 = 0o755;

/// Makes `name` in `dir` a symlink to `target`, in place of `found`.
///
/// # Errors
/// ENOTEMPTY for a directory that holds something; EPERM for an immutable object; EBUSY for a mount point; EROFS,
/// ENOSPC, EDQUOT. What was there still is then, but for an empty directory.
pub fn symlink(
    dir: BorrowedFd<'_>,
    name: &CStr,
    target: &[u8],
    found: Option<&Stat>,
) -> Result<(), Errno> {
    let _ = sweep(dir, STALE_AFTER);
    let temp = with_fresh_name(&mut |temp| rustix::fs::symlinkat(target, dir, temp))?;
    let placed = own(dir, &temp, libc::S_IFLNK).and_then(|()| {
        if found.is_some_and(Stat::is_dir) {
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
        }
        rustix::fs::renameat(dir, &*temp, dir, name)
    });
    if placed.is_err() {
        let _ = rustix::fs::unlinkat(dir, &*temp, AtFlags::empty());
    }
    placed
}

/// Makes `name` in `dir` a directory, in place of `found`, which is not one.
///
/// # Errors
/// As [`symlink`], ENOTEMPTY excepted.
pub fn directory(dir: BorrowedFd<'_>, name: &CStr, found: Option<&Stat>) -> Result<(), Errno> {
    let _ = sweep(dir, STALE_AFTER);
    // The umask of a worker is the last caller's.
    set_umask(0o777 & !DIRECTORY_MODE);
    let mode = Mode::from_raw_mode(DIRECTORY_MODE);
    let temp = with_fresh_name(&mut |temp| rustix::fs::mkdirat(dir, temp, mode))?;
    let placed = own(dir, &temp, libc::S_IFDIR).and_then(|()| match found {
        None => into_gap(dir, &temp, name),
        Some(_) => swap(dir, &temp, name),
    });
    if placed.is_err() {
        let _ = rustix::fs::unlinkat(dir, &*temp, AtFlags::REMOVEDIR);
    }
    placed
}

/// Renames `temp` to `name`, where nothing stands. Somebody who was faster keeps what they made.
fn into_gap(dir: BorrowedFd<'_>, temp: &CStr, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag. A plain rename replaces nothing but an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(dir, temp, dir, name),
        other => other,
    }
}

/// Exchanges the directory `temp` with the object `name`, and removes that.
fn swap(dir: BorrowedFd<'_>, temp: &CStr, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            return into_gap(dir, temp, name);
        }
        other => other?,
    }
    match rustix::fs::unlinkat(dir, temp, AtFlags::empty()) {
        // Somebody has put a directory there meanwhile, which is what the override asks for.
        Err(Errno::ISDIR) => {
            rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::EXCHANGE)?;
            rustix::fs::unlinkat(dir, temp, AtFlags::REMOVEDIR)
        }
        other => other,
    }
}

/// Gives what was just made, an object of type `kind`, to the daemon's own user, root (contract B6): a directory with the
/// set-group-id bit hands down its group and, to directories, the bit itself; a default ACL decides about the mode.
///
/// Goes through a descriptor: an ordinary user who owns `dir` may have put something else there.
fn own(dir: BorrowedFd<'_>, name: &CStr, kind: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = Stat::of(fd.as_fd())?;
    if stat.kind() != kind {
        return Err(Errno::STALE);
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if (stat.0.stx_uid, stat.0.stx_gid) != (uid, gid) {
        object::chown(fd.as_fd(), Some(uid), Some(gid))?;
    }
    if stat.is_dir() && u32::from(stat.0.stx_mode) & 0o7777 != DIRECTORY_MODE {
        object::chmod(fd.as_fd(), DIRECTORY_MODE)?;
    }
    Ok(())
}
