//! What a lower object is: one `statx(2)`, and the identity drawn from it.

use super::node::Key;
use super::rules::Side;
use crate::sys::creds::looking;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io;
use std::ffi::CStr;

/// The attributes of a lower object, as the lower file system gives them.
#[derive(Clone, Copy)]
pub struct Stat(pub Statx);

impl Stat {
    /// Looks at `name` in `dir`; a symlink is looked at itself. One system call.
    ///
    /// # Errors
    /// What `statx(2)` answers.
    pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Stat> {
        looking(|| statx(dir, name, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Looks at what `fd` refers to, `O_PATH` or not. One system call.
    ///
    /// # Errors
    /// What `statx(2)` answers.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Stat> {
        statx(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// The file type: `S_IFREG` and so on.
    pub fn kind(&self) -> u32 {
        u32::from(self.0.stx_mode) & libc::S_IFMT
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// True for a file to which can only be appended (chattr +a); false where the file system does not tell.
    pub fn is_append_only(&self) -> bool {
        self.0.stx_attributes.contains(StatxAttributes::APPEND)
    }

    /// The device number of the lower file system, in the kernel's 64-bit encoding.
    pub fn dev(&self) -> u64 {
        rustix::fs::makedev(self.0.stx_dev_major, self.0.stx_dev_minor)
    }

    /// When the object was made, seconds and nanoseconds since 1970, where the file system tells.
    pub fn birth(&self) -> Option<(i64, u32)> {
        let told = self.0.stx_mask & StatxFlags::BTIME.bits() != 0;
        told.then_some((self.0.stx_btime.tv_sec, self.0.stx_btime.tv_nsec))
    }

    /// What tells this inode from every other one that the mount has shown or will show.
    pub fn key(&self, side: Side) -> Key {
        Key {
            side,
            dev: self.dev(),
            ino: self.0.stx_ino,
            birth: self.birth().map_or(0, nanoseconds),
        }
    }
}

fn statx(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Stat> {
    rustix::fs::statx(
        dir,
        name,
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )
    .map(Stat)
}

fn nanoseconds((sec, nsec): (i64, u32)) -> u64 {
    (sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(u64::from(nsec))
}
