//! Interrupts, block maps, ioctls, polling and DAX mappings.

use super::wire;

wire! {
    /// `struct fuse_interrupt_in`: the caller of another request was interrupted; answered only with EAGAIN or ENOSYS (7.7).
    struct InterruptIn [8] {
        /// The `unique` of the other request.
        unique: u64,
    }

    /// `struct fuse_bmap_in`: asks for a block of a file; fuseblk only (7.8).
    struct BmapIn [16] {
        /// Number of the block in the file.
        block: u64,
        /// Block size in bytes.
        blocksize: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_bmap_out`: answers BMAP (7.8).
    struct BmapOut [8] {
        /// Number of the block on the device.
        block: u64,
    }

    /// `struct fuse_ioctl_in`: `in_size` bytes of data follow (7.11).
    struct IoctlIn [32] {
        /// The handle.
        fh: u64,
        /// [`IoctlFlags`](crate::flags::IoctlFlags).
        flags: u32,
        /// The command.
        cmd: u32,
        /// The argument: an address in the caller.
        arg: u64,
        /// Length of the data in bytes.
        in_size: u32,
        /// Most bytes of data to answer.
        out_size: u32,
    }

    /// `struct fuse_ioctl_iovec`: a range of the caller's memory, wanted by a retry (7.16).
    struct IoctlIovec [16] {
        /// Address in the caller.
        base: u64,
        /// Length in bytes.
        len: u64,
    }

    /// `struct fuse_ioctl_out`: answers IOCTL; data or [`IoctlIovec`]s follow (7.11).
    struct IoctlOut [16] {
        /// What the system call returns.
        result: i32,
        /// [`IoctlFlags`](crate::flags::IoctlFlags); only `RETRY` means something here.
        flags: u32,
        /// How many ranges to read follow.
        in_iovs: u32,
        /// How many ranges to write follow.
        out_iovs: u32,
    }

    /// `struct fuse_poll_in`: asks which events are there (7.11).
    struct PollIn [24] {
        /// The handle.
        fh: u64,
        /// What a POLL notice must name to wake the caller.
        kh: u64,
        /// [`PollFlags`](crate::flags::PollFlags).
        flags: u32,
        /// `EPOLL*` bits that the caller waits for (7.21).
        events: u32,
    }

    /// `struct fuse_poll_out`: answers POLL (7.11).
    struct PollOut [8] {
        /// `EPOLL*` bits that are there.
        revents: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_setupmapping_in`: maps a part of a file into the DAX window; virtiofs only (7.31).
    struct SetupmappingIn [40] {
        /// The handle.
        fh: u64,
        /// Begin in the file, in bytes.
        foffset: u64,
        /// Length in bytes.
        len: u64,
        /// [`SetupmappingFlags`](crate::flags::SetupmappingFlags).
        flags: u64,
        /// Begin in the window, in bytes.
        moffset: u64,
    }

    /// `struct fuse_removemapping_in`: `count` [`RemovemappingOne`] follow; virtiofs only (7.31).
    struct RemovemappingIn [4] {
        /// How many items follow.
        count: u32,
    }

    /// `struct fuse_removemapping_one`: a range to unmap from the DAX window (7.31).
    struct RemovemappingOne [16] {
        /// Begin in the window, in bytes.
        moffset: u64,
        /// Length in bytes.
        len: u64,
    }
}
