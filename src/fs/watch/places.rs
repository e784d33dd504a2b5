//! Which file systems tell of every change.
//!
//! The kernel raises the events of inotify where the change is made (`fsnotify`, fs/namei.c). So a file system of which this
//! kernel is the only user tells of all; one that another machine or another program changes as well tells of some. On overlayfs
//! and others that lie on a second tree, a change to that tree is not told of.

use super::mode::On;
use crate::mutex::lock;
use rustix::fd::BorrowedFd;

/// `f_type` of those that tell (`include/uapi/linux/magic.h`). What is not here is not kept.
const TELLING: [u64; 12] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0x0102_1994, // tmpfs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // zfs
    0x3153_464a, // jfs
    0x5265_4973, // reiserfs
    0x4d44,      // vfat, msdos
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
];

/// True if the file system of `dir` tells of every change.
pub(super) fn tells(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|fs| TELLING.contains(&(fs.f_type as u64)))
}

impl On {
    /// As [`tells`] for the device `dev`, which is that of `dir`; asked once for each device.
    pub(super) fn tells(&self, dev: u64, dir: BorrowedFd<'_>) -> bool {
        *lock(&self.places).entry(dev).or_insert_with(|| tells(dir))
    }

    /// What is mounted has changed: a device number may mean another file system.
    pub(super) fn forget_places(&self) {
        lock(&self.places).clear();
    }
}
