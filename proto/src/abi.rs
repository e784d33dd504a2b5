//! The structs of the FUSE protocol 7.45 (`include/uapi/linux/fuse.h` of Linux 6.18).
//!
//! Names are the kernel's in CamelCase without `fuse_`; field names are the kernel's exactly, which is why padding and
//! spare fields are public: a struct must be writable in full, and the kernel expects zeros there. Every struct is
//! `repr(C)` without implicit padding, its size is checked at compile time, and integers are in native byte order.

mod attr;
mod file;
mod head;
mod init;
mod lock;
mod misc;
mod name;
mod notify;
mod uring;

pub use attr::*;
pub use file::*;
pub use head::*;
pub use init::*;
pub use lock::*;
pub use misc::*;
pub use name::*;
pub use notify::*;
pub use uring::*;

/// The protocol major version that this crate speaks (`FUSE_KERNEL_VERSION`).
pub const KERNEL_VERSION: u32 = 7;
/// The newest protocol minor version that this crate knows (`FUSE_KERNEL_MINOR_VERSION` of Linux 6.18).
pub const KERNEL_MINOR_VERSION: u32 = 45;
/// The node id of the root directory (`FUSE_ROOT_ID`); the kernel never looks it up and never forgets it.
pub const ROOT_ID: u64 = 1;
/// The smallest buffer that the kernel accepts in a read of the device, in bytes (`FUSE_MIN_READ_BUFFER`).
pub const MIN_READ_BUFFER: usize = 8192;
/// Set in [`InHeader::unique`] of a request that was sent again after a RESEND notice (`FUSE_UNIQUE_RESEND`, 7.40). The
/// answer must carry the bit too, or the kernel does not find the request.
pub const UNIQUE_RESEND: u64 = 1 << 63;
/// Stands for a uid or gid that has no mapping, in requests of a connection that agreed on ALLOW_IDMAP
/// (`FUSE_INVALID_UIDGID`, 7.41).
pub const INVALID_UIDGID: u32 = u32::MAX;

/// Rounds a length in bytes up to the 8-byte records of directory entries and extensions (`FUSE_REC_ALIGN`).
pub const fn rec_align(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Declares wire structs: public fields, C layout, byte views in both directions, and the size checked at compile time.
macro_rules! wire {
    ($($(#[$meta:meta])* struct $name:ident [$size:literal] { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}
use wire;
