//! The new inode of a copy, from its making to the moment when it takes the target's name.

use super::{Move, Step};
use crate::fs::hidden;
use crate::fs::stat::Stat;
use crate::sys::object;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// The new inode on its way to the target's name.
pub enum Fresh {
    /// Without a name (`O_TMPFILE`).
    Nameless(OwnedFd),
    /// With a hidden name.
    Hidden(CString, OwnedFd),
}

impl Fresh {
    /// The inode.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Fresh::Nameless(fd) | Fresh::Hidden(_, fd) => fd.as_fd(),
        }
    }

    /// Removes what will not be used.
    pub fn discard(self, dir: BorrowedFd<'_>) {
        if let Fresh::Hidden(name, _) = self {
            let _ = rustix::fs::unlinkat(dir, &*name, AtFlags::empty());
        }
    }
}

/// A new file in `dir`, without a name where the file system can do that, for root alone until it is complete.
///
/// # Errors
/// EROFS, ENOSPC, EDQUOT as `openat(2)`.
pub fn make_file(dir: BorrowedFd<'_>) -> Result<Fresh, Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, c".", flags | OFlags::TMPFILE, mode) {
        Ok(fd) => return Ok(Fresh::Nameless(fd)),
        // EISDIR: a kernel older than O_TMPFILE (3.11) takes it for O_DIRECTORY.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    let mut made = None;
    let name = hidden::with_fresh_name(&mut |name| {
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        made = Some(rustix::fs::openat(dir, name, flags, mode)?);
        Ok(())
    })?;
    made.map(|fd| Fresh::Hidden(name, fd)).ok_or(Errno::IO)
}

/// Takes hold of `name` in `dir` without opening it; a symlink is held itself.
///
/// # Errors
/// As `openat(2)`.
pub fn open_pinned(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Makes a symlink, FIFO, socket or device like the source under a hidden name.
///
/// # Errors
/// EPERM for a device without CAP_MKNOD; EROFS, ENOSPC, EDQUOT.
pub fn make_special(
    dir: BorrowedFd<'_>,
    stat: &Stat,
    source: BorrowedFd<'_>,
) -> Result<CString, Errno> {
    if stat.kind() == libc::S_IFLNK {
        // An empty path reads the very symlink that is pinned.
        let target = rustix::fs::readlinkat(source, c"", Vec::new())?;
        return hidden::with_fresh_name(&mut |name| rustix::fs::symlinkat(&*target, dir, name));
    }
    let kind = FileType::from_raw_mode(stat.kind());
    let device = rustix::fs::makedev(stat.0.stx_rdev_major, stat.0.stx_rdev_minor);
    hidden::with_fresh_name(&mut |name| rustix::fs::mknodat(dir, name, kind, Mode::empty(), device))
}

/// Gives the new inode the target's name, in one step and, with `no_replace`, only if it is free.
///
/// # Errors
/// EEXIST with `no_replace`; EISDIR, EPERM (an immutable target), EROFS as `renameat(2)`.
pub fn publish(work: &Move<'_>, fresh: Fresh, reached: &mut dyn FnMut(Step)) -> Result<(), Errno> {
    let (name, _fd) = match fresh {
        Fresh::Hidden(name, fd) => (name, fd),
        Fresh::Nameless(fd) => match object::link(fd.as_fd(), work.to, work.new) {
            // A free name needs no second one.
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) if !work.no_replace => {
                let name =
                    hidden::with_fresh_name(&mut |name| object::link(fd.as_fd(), work.to, name))?;
                (name, fd)
            }
            Err(errno) => return Err(errno),
        },
    };
    reached(Step::Named);
    let renamed = if work.no_replace {
        rename_to_free_name(work.to, &name, work.new)
    } else {
        rustix::fs::renameat(work.to, &*name, work.to, work.new)
    };
    if renamed.is_err() {
        let _ = rustix::fs::unlinkat(work.to, &*name, AtFlags::empty());
    }
    renamed
}

/// Renames within `dir`, never over anything.
///
/// # Errors
/// EEXIST if `new` is taken.
pub fn rename_to_free_name(dir: BorrowedFd<'_>, old: &CStr, new: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, old, dir, new, RenameFlags::NOREPLACE) {
        // A file system without the flag: a link to a taken name fails as well, and the old name is nobody's.
        Err(Errno::INVAL) => {
            rustix::fs::linkat(dir, old, dir, new, AtFlags::empty())?;
            rustix::fs::unlinkat(dir, old, AtFlags::empty())
        }
        other => other,
    }
}
