//! Opening lower directories, through no symlink.

use crate::sys::creds::looking;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// How directories are opened: for reading, so that fsync, xattrs and ioctls work on the descriptor.
pub(crate) const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How a directory is held that the daemon may search but not read (a mount for an ordinary user).
const DIR_PATH_FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens directory `name` in `dir`, never through a symlink.
///
/// # Errors
/// ENOTDIR, ELOOP, ENOENT as `openat(2)`.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match looking(|| rustix::fs::openat(dir, name, DIR_FLAGS, Mode::empty())) {
        Err(Errno::ACCESS) => rustix::fs::openat(dir, name, DIR_PATH_FLAGS, Mode::empty()),
        other => other,
    }
}

/// Opens the directory `path` (several components) below `base`, through no symlink and never outside.
///
/// # Errors
/// ENOENT, ENOTDIR; ELOOP for a symlink on the way.
pub(crate) fn open_beneath(base: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match looking(|| rustix::fs::openat2(base, path, DIR_PATH_FLAGS, Mode::empty(), how)) {
        // openat2 came with Linux 5.6.
        Err(Errno::NOSYS) => {
            let mut at = open_dir(base, c".")?;
            for part in components(path) {
                at = open_dir(at.as_fd(), &part)?;
            }
            Ok(at)
        }
        other => other,
    }
}

/// Puts the names in `dir`, whose descriptor may be `O_PATH`, on disk. File systems without a disk may not know how, and a
/// directory that the daemon may not read it cannot ask for: both are left.
///
/// # Errors
/// EIO, ENOSPC, EDQUOT as `fsync(2)`.
pub(crate) fn sync(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::openat(dir, c".", DIR_FLAGS, Mode::empty()).and_then(rustix::fs::fsync) {
        Err(Errno::INVAL | Errno::ACCESS) => Ok(()),
        other => other,
    }
}

/// Makes what is missing of the directory `path` below `base`, with mode 0755 (contract D40).
pub(crate) fn make_dirs(base: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let mut at = open_dir(base, c".")?;
    for part in components(path) {
        // The umask of a worker is the last caller's.
        crate::sys::creds::set_umask(0o022);
        match rustix::fs::mkdirat(&at, &*part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = open_dir(at.as_fd(), &part)?;
    }
    Ok(())
}

fn components(path: &CStr) -> impl Iterator<Item = CString> {
    path.to_bytes()
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty())
        .filter_map(|part| CString::new(part).ok())
}
