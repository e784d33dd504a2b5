//! What has just been made under a name, where making returns no descriptor: mkdir(2), mknod(2), symlink(2).
//!
//! Whoever may write to the directory can put something else on the name before it is looked at. What is answered to the
//! kernel then stands for the new object: a socket is bound to that very inode (`unix_bind_bsd`, net/unix/af_unix.c). So
//! something of another kind, of another owner, or older than the request is not answered.

use super::stat::Stat;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::ffi::CStr;

/// `f_type` of the file systems whose new objects belong to the file system uid of who makes them and bear the time of
/// the kernel's own clock (`include/uapi/linux/magic.h`). Others give everything to one user (vfat), or have the clock
/// and the users of another machine (NFS).
const OF_THEIR_MAKER: [u64; 7] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
];

/// Something about to be made.
pub(crate) struct Making {
    kind: u32,
    uid: u32,
    since: Timespec,
}

impl Making {
    /// An object of type `kind` (`S_IFDIR` and so on) is about to be made by `uid`. No system call.
    pub(crate) fn begin(kind: u32, uid: u32) -> Making {
        Making {
            kind,
            uid,
            // The clock that birth times are taken from (`current_time`, fs/inode.c) is this one or one that is ahead.
            since: clock_gettime(ClockId::RealtimeCoarse),
        }
    }

    /// As [`Making::begin`], begun by a predecessor that was killed: [`Making::since`] was that.
    pub(crate) fn begun(kind: u32, uid: u32, (sec, nsec): (u64, u64)) -> Making {
        let since = Timespec {
            tv_sec: sec as i64,
            tv_nsec: nsec as i64,
        };
        Making { kind, uid, since }
    }

    /// When it was begun, in seconds and nanoseconds since 1970.
    pub(crate) fn since(&self) -> [u64; 2] {
        [self.since.tv_sec as u64, self.since.tv_nsec as u64]
    }

    /// What was made as `name` in `dir`.
    ///
    /// # Errors
    /// ESTALE when something else has that name by now; ENOENT when nothing has.
    pub(crate) fn made(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
        let stat = Stat::at(dir, name)?;
        if stat.kind() != self.kind {
            return Err(Errno::STALE);
        }
        let older = stat
            .birth()
            .is_some_and(|birth| birth < (self.since.tv_sec, self.since.tv_nsec as u32));
        if (older || stat.0.stx_uid != self.uid) && is_of_its_maker(dir) {
            return Err(Errno::STALE);
        }
        Ok(stat)
    }
}

/// True if the file system of `dir` takes owners and times from this kernel.
pub(in crate::fs) fn is_of_its_maker(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|fs| OF_THEIR_MAKER.contains(&(fs.f_type as u64)))
}
