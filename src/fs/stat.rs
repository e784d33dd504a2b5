//! What a lower object is: one `statx(2)`, and the identity drawn from it.

use super::ids::Key;
use super::ids::Side;
use crate::sys::creds::looking;
use crate::sys::file_handle::FileHandle;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io;
use std::ffi::CStr;

/// `f_type` of FUSE (`include/uapi/linux/magic.h`), whose handles are numbers that a server gives for as long as it
/// pleases.
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;

/// The attributes of a lower object, as the lower file system gives them, and where it has no birth time what its file
/// handle says about the generation of its number; 0: nothing.
#[derive(Clone, Copy)]
pub struct Stat(pub(crate) Statx, u64);

impl Stat {
    /// Looks at `name` in `dir`; a symlink is looked at itself. One system call where the file system has birth times.
    ///
    /// # Errors
    /// What `statx(2)` answers; ENFILE or EMFILE.
    pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Stat> {
        let stat = looking(|| statx(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
        if tells_birth(&stat) {
            return Ok(Stat(stat, 0));
        }
        // Attributes and file handle are to be of one inode.
        Stat::pinned(dir, name).map(|(_, stat)| stat)
    }

    /// Looks at what `fd` refers to, `O_PATH` or not. One system call where the file system has birth times.
    ///
    /// # Errors
    /// What `statx(2)` answers.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Stat> {
        let stat = statx(fd, c"", AtFlags::EMPTY_PATH)?;
        let generation = match tells_birth(&stat) {
            true => 0,
            false => generation(fd),
        };
        Ok(Stat(stat, generation))
    }

    /// Takes hold of `name` in `dir` (`O_PATH`; a symlink itself), and looks at that.
    ///
    /// # Errors
    /// As [`Stat::at`].
    pub(crate) fn pinned(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(OwnedFd, Stat)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = looking(|| rustix::fs::openat(dir, name, flags, Mode::empty()))?;
        let stat = Stat::of(fd.as_fd())?;
        Ok((fd, stat))
    }

    /// The file type: `S_IFREG` and so on.
    pub(crate) fn kind(&self) -> u32 {
        u32::from(self.0.stx_mode) & libc::S_IFMT
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// True for a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// True for a file to which can only be appended (chattr +a); false where the file system does not tell.
    pub(crate) fn is_append_only(&self) -> bool {
        self.0.stx_attributes.contains(StatxAttributes::APPEND)
    }

    /// The device number of the lower file system, in the kernel's 64-bit encoding.
    pub(crate) fn dev(&self) -> u64 {
        rustix::fs::makedev(self.0.stx_dev_major, self.0.stx_dev_minor)
    }

    /// When the object was made, seconds and nanoseconds since 1970, where the file system tells.
    pub(crate) fn birth(&self) -> Option<(i64, u32)> {
        tells_birth(&self.0).then_some((self.0.stx_btime.tv_sec, self.0.stx_btime.tv_nsec))
    }

    /// True if both are of one size and were written at the same time: one is a copy of the other, which is as it was.
    pub(crate) fn has_same_data(&self, other: &Stat) -> bool {
        let of = |stat: &Stat| {
            let time = &stat.0.stx_mtime;
            (stat.0.stx_size, time.tv_sec, time.tv_nsec)
        };
        of(self) == of(other)
    }

    /// The change time, ns since 1970.
    pub(crate) fn changed(&self) -> u64 {
        nanoseconds((self.0.stx_ctime.tv_sec, self.0.stx_ctime.tv_nsec))
    }

    /// What tells this inode from every other one that the mount has shown or will show.
    ///
    /// A birth time does so: since Linux 6.13 the removal of a file that has been looked at moves the clock that births
    /// are taken from (`inode_set_ctime_current`, multigrain timestamps of ext4, xfs, btrfs and tmpfs). Before, a number
    /// that is used again within one tick (10 ms at most) of the birth of the file that had it before is taken for that
    /// file, for which the lower file system still checks every change. Where there is neither a birth time nor a file
    /// handle ([`Key::is_ambiguous`]), only a held inode is safe ([`super::lower::known`]).
    pub(crate) fn key(&self, side: Side) -> Key {
        Key {
            side,
            dev: self.dev(),
            ino: self.0.stx_ino,
            generation: self.birth().map_or(self.1, nanoseconds),
        }
    }
}

fn tells_birth(stat: &Statx) -> bool {
    stat.stx_mask & StatxFlags::BTIME.bits() != 0
}

/// What the file handle says: on ext2 to ext4 with 128-byte inodes, XFS before version 5, f2fs without `inode_crtime`, NFS
/// version 3 and tmpfs before Linux 5.19 it has a generation number in it.
fn generation(fd: BorrowedFd<'_>) -> u64 {
    let Ok(handle) = FileHandle::of(fd) else {
        return 0;
    };
    let of_fuse = || rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type as u64 == FUSE_SUPER_MAGIC);
    match handle.may_be_of_fuse() && of_fuse() {
        true => 0,
        false => handle.digest(),
    }
}

fn statx(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Statx> {
    rustix::fs::statx(
        dir,
        name,
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
}

fn nanoseconds((sec, nsec): (i64, u32)) -> u64 {
    (sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(u64::from(nsec))
}
