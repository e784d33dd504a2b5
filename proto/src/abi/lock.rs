//! File locks, only sent when POSIX_LOCKS or FLOCK_LOCKS was agreed.

use super::wire;

wire! {
    /// `struct fuse_file_lock`: a range and its kind.
    struct FileLock [24] {
        /// First byte.
        start: u64,
        /// Last byte, included; `i64::MAX` for the end of the file.
        end: u64,
        /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
        r#type: u32,
        /// Process id of the holder (thread group).
        pid: u32,
    }

    /// `struct fuse_lk_in`: GETLK, SETLK and SETLKW.
    struct LkIn [48] {
        /// The handle.
        fh: u64,
        /// Who locks: an opaque number, scrambled by the kernel.
        owner: u64,
        /// The lock.
        lk: FileLock,
        /// [`LkFlags`](crate::flags::LkFlags) (7.9).
        lk_flags: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_lk_out`: answers GETLK with the lock that is in the way, or `F_UNLCK`.
    struct LkOut [24] {
        /// The lock.
        lk: FileLock,
    }
}
