//! Open files and directories.

use super::wire;

wire! {
    /// `struct fuse_open_in`: OPEN and OPENDIR.
    struct OpenIn [8] {
        /// `O_*` bits of the call, without those that concern creation.
        flags: u32,
        /// [`OpenInFlags`](crate::flags::OpenInFlags) (7.33).
        open_flags: u32,
    }

    /// `struct fuse_create_in`: CREATE and TMPFILE; the name follows.
    struct CreateIn [16] {
        /// `O_*` bits of the call.
        flags: u32,
        /// Permission bits with the file type; the umask is already applied unless DONT_MASK was agreed.
        mode: u32,
        /// The caller's umask (7.12).
        umask: u32,
        /// [`OpenInFlags`](crate::flags::OpenInFlags) (7.33).
        open_flags: u32,
    }

    /// `struct fuse_open_out`: answers OPEN and OPENDIR; in CREATE and TMPFILE it follows an [`EntryOut`](super::EntryOut).
    struct OpenOut [16] {
        /// The handle that later requests carry.
        fh: u64,
        /// [`OpenFlags`](crate::flags::OpenFlags).
        open_flags: u32,
        /// The backing id, valid with `OpenFlags::PASSTHROUGH` (7.40).
        backing_id: i32,
    }

    /// `struct fuse_release_in`: RELEASE and RELEASEDIR; sent once per open, after the last close and mapping.
    struct ReleaseIn [24] {
        /// The handle.
        fh: u64,
        /// `O_*` bits of the open.
        flags: u32,
        /// [`ReleaseFlags`](crate::flags::ReleaseFlags).
        release_flags: u32,
        /// Owner of the locks to drop.
        lock_owner: u64,
    }

    /// `struct fuse_flush_in`: sent at every `close(2)` of a descriptor, unless `OpenFlags::NOFLUSH`.
    struct FlushIn [24] {
        /// The handle.
        fh: u64,
        /// Zero.
        unused: u32,
        /// Zero.
        padding: u32,
        /// Owner of the POSIX locks to drop.
        lock_owner: u64,
    }

    /// `struct fuse_read_in`: READ, READDIR and READDIRPLUS.
    struct ReadIn [40] {
        /// The handle.
        fh: u64,
        /// Where to begin: bytes, or the `off` of the last directory entry seen.
        offset: u64,
        /// The most bytes to answer.
        size: u32,
        /// [`ReadFlags`](crate::flags::ReadFlags).
        read_flags: u32,
        /// Owner of POSIX locks, valid with `ReadFlags::LOCKOWNER`.
        lock_owner: u64,
        /// `O_*` bits of the open file.
        flags: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_write_in`: `size` bytes of data follow.
    struct WriteIn [40] {
        /// The handle; guessed by the kernel with `WriteFlags::CACHE`.
        fh: u64,
        /// Where to write, in bytes.
        offset: u64,
        /// Length of the data in bytes.
        size: u32,
        /// [`WriteFlags`](crate::flags::WriteFlags).
        write_flags: u32,
        /// Owner of POSIX locks, valid with `WriteFlags::LOCKOWNER`.
        lock_owner: u64,
        /// `O_*` bits of the open file.
        flags: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_write_out`: answers WRITE and COPY_FILE_RANGE.
    struct WriteOut [8] {
        /// Bytes written; more than was asked makes the kernel answer EIO.
        size: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_fsync_in`: FSYNC and FSYNCDIR.
    struct FsyncIn [16] {
        /// The handle.
        fh: u64,
        /// [`FsyncFlags`](crate::flags::FsyncFlags).
        fsync_flags: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_fallocate_in`: `fallocate(2)` (7.19).
    struct FallocateIn [32] {
        /// The handle.
        fh: u64,
        /// Begin of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        length: u64,
        /// `FALLOC_FL_*` bits.
        mode: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_lseek_in`: only for `SEEK_DATA` and `SEEK_HOLE` (7.24).
    struct LseekIn [24] {
        /// The handle.
        fh: u64,
        /// Where to begin, in bytes.
        offset: u64,
        /// `SEEK_DATA` or `SEEK_HOLE`.
        whence: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_lseek_out`: answers LSEEK (7.24).
    struct LseekOut [8] {
        /// The offset found, in bytes.
        offset: u64,
    }

    /// `struct fuse_copy_file_range_in`: COPY_FILE_RANGE (7.28) and COPY_FILE_RANGE_64 (7.45); the head names the source.
    struct CopyFileRangeIn [56] {
        /// Handle of the source.
        fh_in: u64,
        /// Where to read, in bytes.
        off_in: u64,
        /// Node of the target.
        nodeid_out: u64,
        /// Handle of the target.
        fh_out: u64,
        /// Where to write, in bytes.
        off_out: u64,
        /// Length in bytes. COPY_FILE_RANGE is answered with 32 bits, so the kernel caps it there.
        len: u64,
        /// Flags of the system call; 0.
        flags: u64,
    }

    /// `struct fuse_copy_file_range_out`: answers COPY_FILE_RANGE_64 (7.45).
    struct CopyFileRangeOut [8] {
        /// Bytes copied.
        bytes_copied: u64,
    }

    /// `struct fuse_syncfs_in`: SYNCFS; sent to virtiofs and fuseblk only (7.34).
    struct SyncfsIn [8] {
        /// Zero.
        padding: u64,
    }

    /// `struct fuse_backing_map`: argument of the ioctl `FUSE_DEV_IOC_BACKING_OPEN` (7.40).
    struct BackingMap [16] {
        /// The descriptor of the lower file; `O_PATH` will do since Linux 6.12.
        fd: i32,
        /// Zero, or the ioctl answers EINVAL.
        flags: u32,
        /// Zero, or the ioctl answers EINVAL.
        padding: u64,
    }
}
