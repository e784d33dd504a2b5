//! Attributes: what GETATTR, SETATTR, STATX, LOOKUP and STATFS carry.

use super::wire;

wire! {
    /// `struct fuse_attr`: the attributes of an inode.
    struct Attr [88] {
        /// Inode number as `stat(2)` shows it; independent of the node id.
        ino: u64,
        /// Size in bytes.
        size: u64,
        /// Allocated space in units of 512 bytes.
        blocks: u64,
        /// Time of last access, seconds since the epoch (a signed number in an unsigned field).
        atime: u64,
        /// Time of last modification, seconds since the epoch.
        mtime: u64,
        /// Time of last status change, seconds since the epoch.
        ctime: u64,
        /// Nanoseconds of `atime`.
        atimensec: u32,
        /// Nanoseconds of `mtime`.
        mtimensec: u32,
        /// Nanoseconds of `ctime`.
        ctimensec: u32,
        /// File type and permission bits. A type that differs from the node's known one makes the kernel treat it as stale (EIO).
        mode: u32,
        /// Number of hard links.
        nlink: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Device number of a device node, in the kernel's `new_encode_dev` form: minor bits 0-7 and 20-31, major bits 8-19.
        rdev: u32,
        /// Preferred I/O size in bytes; 0 lets the kernel choose (7.9).
        blksize: u32,
        /// [`AttrFlags`](crate::flags::AttrFlags) (7.32).
        flags: u32,
    }

    /// `struct fuse_attr_out`: answers GETATTR and SETATTR.
    struct AttrOut [104] {
        /// How long the attributes may be cached, seconds.
        attr_valid: u64,
        /// Nanoseconds of `attr_valid`; the kernel rounds the sum up to a tick.
        attr_valid_nsec: u32,
        /// Zero.
        dummy: u32,
        /// The attributes.
        attr: Attr,
    }

    /// `struct fuse_getattr_in`: asks for attributes (7.9).
    struct GetattrIn [16] {
        /// [`GetattrFlags`](crate::flags::GetattrFlags).
        getattr_flags: u32,
        /// Zero.
        dummy: u32,
        /// The handle, valid with `GetattrFlags::FH`.
        fh: u64,
    }

    /// `struct fuse_setattr_in`: changes the attributes named in `valid`.
    struct SetattrIn [88] {
        /// [`SetattrValid`](crate::flags::SetattrValid): which fields below count.
        valid: u32,
        /// Zero.
        padding: u32,
        /// The handle, valid with `SetattrValid::FH`.
        fh: u64,
        /// New size in bytes.
        size: u64,
        /// Owner of POSIX locks that may be in the way, valid with `SetattrValid::LOCKOWNER`.
        lock_owner: u64,
        /// New access time, seconds.
        atime: u64,
        /// New modification time, seconds.
        mtime: u64,
        /// New status change time, seconds; only sent with the writeback cache.
        ctime: u64,
        /// Nanoseconds of `atime`.
        atimensec: u32,
        /// Nanoseconds of `mtime`.
        mtimensec: u32,
        /// Nanoseconds of `ctime`.
        ctimensec: u32,
        /// New permission bits, file type included.
        mode: u32,
        /// Zero.
        unused4: u32,
        /// New owner.
        uid: u32,
        /// New group.
        gid: u32,
        /// Zero.
        unused5: u32,
    }

    /// `struct fuse_sx_time`: a time of [`Statx`], laid out as `struct statx_timestamp`.
    struct SxTime [16] {
        /// Seconds since the epoch.
        tv_sec: i64,
        /// Nanoseconds.
        tv_nsec: u32,
        /// Zero.
        __reserved: i32,
    }

    /// `struct fuse_statx`: laid out bit for bit as `struct statx` (7.39).
    struct Statx [256] {
        /// `STATX_*` bits of the fields that are filled in.
        mask: u32,
        /// Preferred I/O size in bytes.
        blksize: u32,
        /// `STATX_ATTR_*` bits that are set.
        attributes: u64,
        /// Number of hard links.
        nlink: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// File type and permission bits.
        mode: u16,
        /// Zero.
        __spare0: [u16; 1],
        /// Inode number.
        ino: u64,
        /// Size in bytes.
        size: u64,
        /// Allocated space in units of 512 bytes.
        blocks: u64,
        /// `STATX_ATTR_*` bits that `attributes` can express.
        attributes_mask: u64,
        /// Time of last access.
        atime: SxTime,
        /// Time of birth.
        btime: SxTime,
        /// Time of last status change.
        ctime: SxTime,
        /// Time of last modification.
        mtime: SxTime,
        /// Major number of a device node.
        rdev_major: u32,
        /// Minor number of a device node.
        rdev_minor: u32,
        /// Major number of the file system's device; the kernel ignores it.
        dev_major: u32,
        /// Minor number of the file system's device; the kernel ignores it.
        dev_minor: u32,
        /// Zero.
        __spare2: [u64; 14],
    }

    /// `struct fuse_statx_in`: asks for extended attributes of an inode, sent when the birth time is wanted (7.39).
    struct StatxIn [24] {
        /// [`GetattrFlags`](crate::flags::GetattrFlags).
        getattr_flags: u32,
        /// Zero.
        reserved: u32,
        /// The handle, valid with `GetattrFlags::FH`.
        fh: u64,
        /// `AT_STATX_*` bits of the call.
        sx_flags: u32,
        /// `STATX_*` bits that the caller wants.
        sx_mask: u32,
    }

    /// `struct fuse_statx_out`: answers STATX (7.39).
    struct StatxOut [288] {
        /// How long the attributes may be cached, seconds.
        attr_valid: u64,
        /// Nanoseconds of `attr_valid`.
        attr_valid_nsec: u32,
        /// Zero.
        flags: u32,
        /// Zero.
        spare: [u64; 2],
        /// The attributes.
        stat: Statx,
    }

    /// `struct fuse_kstatfs`: figures of a file system.
    struct Kstatfs [80] {
        /// Size in units of `frsize`.
        blocks: u64,
        /// Free space in units of `frsize`.
        bfree: u64,
        /// Free space for unprivileged users in units of `frsize`.
        bavail: u64,
        /// Number of inodes.
        files: u64,
        /// Number of free inodes.
        ffree: u64,
        /// Preferred I/O size in bytes.
        bsize: u32,
        /// Longest name in bytes.
        namelen: u32,
        /// Fragment size in bytes.
        frsize: u32,
        /// Zero.
        padding: u32,
        /// Zero.
        spare: [u32; 6],
    }

    /// `struct fuse_statfs_out`: answers STATFS.
    struct StatfsOut [80] {
        /// The figures.
        st: Kstatfs,
    }

    /// `struct fuse_access_in`: asks whether the caller may; never sent when the kernel checks permissions itself.
    struct AccessIn [8] {
        /// `R_OK`, `W_OK`, `X_OK` bits; 0 for existence. `MAY_CHDIR` (0x40) and other kernel bits are masked out.
        mask: u32,
        /// Zero.
        padding: u32,
    }
}
