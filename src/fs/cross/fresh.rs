//! The new inode of a copy, from its making to the moment when it takes the target's name.

use crate::fs::staging::Staging;
use crate::fs::stat::Stat;
use crate::sys::creds::own;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// The new inode on its way to the target's name. Dropping it removes it, unless it has arrived.
pub(crate) struct Fresh<'a> {
    fd: OwnedFd,
    /// Where it has a name, if it has one.
    staging: Option<Staging<'a>>,
}

impl<'a> Fresh<'a> {
    /// A new file for the directory `dir`, for its owner alone until it is complete: what `make_nameless` makes (with
    /// `O_TMPFILE`), or where the file system cannot do that, one with a name.
    ///
    /// # Errors
    /// EROFS, ENOSPC, EDQUOT as `openat(2)`, and those of [`Staging::within`].
    pub(crate) fn file(
        dir: BorrowedFd<'a>,
        make_nameless: &dyn Fn(BorrowedFd<'a>) -> Result<OwnedFd, Errno>,
    ) -> Result<Fresh<'a>, Errno> {
        match make_nameless(dir) {
            Ok(fd) => return Ok(Fresh { fd, staging: None }),
            // EISDIR: a kernel older than O_TMPFILE (3.11) takes it for O_DIRECTORY.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        own(|| {
            let staging = Staging::within(dir)?;
            let (at, name) = staging.at();
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR)?;
            Ok(Fresh {
                fd,
                staging: Some(staging),
            })
        })
    }

    /// A symlink, FIFO, socket or device for the directory `dir` like the one that `source` pins and `stat` describes.
    ///
    /// # Errors
    /// EPERM for a device without CAP_MKNOD; EROFS, ENOSPC, EDQUOT, and those of [`Staging::within`].
    pub(crate) fn special(
        dir: BorrowedFd<'a>,
        stat: &Stat,
        source: BorrowedFd<'_>,
    ) -> Result<Fresh<'a>, Errno> {
        let staging = Staging::within(dir)?;
        let fd = if stat.kind() == libc::S_IFLNK {
            // An empty path reads the very symlink that is pinned.
            let target = rustix::fs::readlinkat(source, c"", Vec::new())?;
            staging.make(&mut |at, name| rustix::fs::symlinkat(&*target, at, name))?
        } else {
            let kind = FileType::from_raw_mode(stat.kind());
            let device = rustix::fs::makedev(stat.0.stx_rdev_major, stat.0.stx_rdev_minor);
            let mode = Mode::empty();
            staging.make(&mut |at, name| rustix::fs::mknodat(at, name, kind, mode, device))?
        };
        Ok(Fresh {
            fd,
            staging: Some(staging),
        })
    }

    /// The inode.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Gives the inode, made for the directory `dir`, a name in a place of the daemon's own there, if it has none yet.
    ///
    /// # Errors
    /// As `linkat(2)`, and those of [`Staging::within`].
    pub(crate) fn named(self, dir: BorrowedFd<'a>) -> Result<(Staging<'a>, OwnedFd), Errno> {
        let staging = match self.staging {
            Some(staging) => staging,
            None => {
                let staging = Staging::within(dir)?;
                staging.link(self.fd.as_fd())?;
                staging
            }
        };
        Ok((staging, self.fd))
    }

    /// True while the inode has no name.
    pub(crate) fn is_nameless(&self) -> bool {
        self.staging.is_none()
    }
}
