//! INIT: the first request of a connection.

use super::wire;

wire! {
    /// `struct fuse_init_in`: the kernel's offer (7.36). Older kernels send [`InitInCompat`].
    struct InitIn [64] {
        /// Protocol major version.
        major: u32,
        /// Protocol minor version.
        minor: u32,
        /// The largest readahead that the kernel would do, in bytes.
        max_readahead: u32,
        /// Bits 0 to 31 of [`InitFlags`](crate::flags::InitFlags).
        flags: u32,
        /// Bits 32 to 63, valid with `InitFlags::INIT_EXT`.
        flags2: u32,
        /// Zero.
        unused: [u32; 11],
    }

    /// `struct fuse_init_in` as it was before 7.36.
    struct InitInCompat [16] {
        /// Protocol major version.
        major: u32,
        /// Protocol minor version.
        minor: u32,
        /// The largest readahead that the kernel would do, in bytes.
        max_readahead: u32,
        /// Bits 0 to 31 of [`InitFlags`](crate::flags::InitFlags).
        flags: u32,
    }

    /// `struct fuse_init_out`: answers INIT. Any shorter prefix is accepted and read as if zeros followed.
    struct InitOut [64] {
        /// Protocol major version; anything but 7 fails the connection.
        major: u32,
        /// Protocol minor version; the kernel takes it literally and adapts the sizes of its structs below 9.
        minor: u32,
        /// The largest readahead in bytes; the kernel takes the smaller of its own and this.
        max_readahead: u32,
        /// Bits 0 to 31 of [`InitFlags`](crate::flags::InitFlags).
        flags: u32,
        /// Most background requests at a time; 0 for the kernel's 12.
        max_background: u16,
        /// Background requests from which the device counts as congested; 0 for three quarters of `max_background`.
        congestion_threshold: u16,
        /// Most bytes of data in one WRITE; the kernel raises it to 4096.
        max_write: u32,
        /// Granularity of times in nanoseconds (7.23).
        time_gran: u32,
        /// Most pages in one request, valid with `InitFlags::MAX_PAGES` (7.28).
        max_pages: u16,
        /// Binary logarithm of the alignment of DAX mappings, valid with `InitFlags::MAP_ALIGNMENT` (7.31).
        map_alignment: u16,
        /// Bits 32 to 63, valid with `InitFlags::INIT_EXT` (7.36).
        flags2: u32,
        /// Stacking depth, 1 or 2, valid with `InitFlags::PASSTHROUGH` (7.40).
        max_stack_depth: u32,
        /// Seconds after which an unanswered request aborts the whole connection, valid with `InitFlags::REQUEST_TIMEOUT` (7.43).
        request_timeout: u16,
        /// Zero.
        unused: [u16; 11],
    }

    /// `struct cuse_init_in`: INIT of a character device (7.12).
    struct CuseInitIn [16] {
        /// Protocol major version.
        major: u32,
        /// Protocol minor version.
        minor: u32,
        /// Zero.
        unused: u32,
        /// `CUSE_UNRESTRICTED_IOCTL` is bit 0.
        flags: u32,
    }

    /// `struct cuse_init_out`: answers CUSE_INIT; the device's description follows (7.12).
    struct CuseInitOut [72] {
        /// Protocol major version.
        major: u32,
        /// Protocol minor version.
        minor: u32,
        /// Zero.
        unused: u32,
        /// `CUSE_UNRESTRICTED_IOCTL` is bit 0.
        flags: u32,
        /// Most bytes in one READ.
        max_read: u32,
        /// Most bytes in one WRITE.
        max_write: u32,
        /// Major number of the device.
        dev_major: u32,
        /// Minor number of the device.
        dev_minor: u32,
        /// Zero.
        spare: [u32; 10],
    }
}
