//! The ioctls of `/dev/fuse`.
#![allow(unsafe_code)]

use super::object::last_errno;
use etcfs_proto::abi::BackingMap;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io;
use rustix::ioctl::{Setter, ioctl, opcode};

/// Registers the file behind `lower` for passthrough and returns its backing id (`FUSE_DEV_IOC_BACKING_OPEN`).
///
/// The kernel keeps a reference to the open file description of `lower`, and later re-opens its path with each
/// client's flags under the credentials of the thread that called this, without any permission check.
///
/// # Errors
/// EPERM (no passthrough agreed, or no CAP_SYS_ADMIN in the initial user namespace), ELOOP (the lower file system is
/// itself stacked too deep), EBADF (an O_PATH descriptor before Linux 6.12), EINVAL or EISDIR (not a regular file).
pub(crate) fn backing_open(dev: BorrowedFd<'_>, lower: BorrowedFd<'_>) -> io::Result<u32> {
    const OPCODE: rustix::ioctl::Opcode = opcode::write::<BackingMap>(229, 1);
    let map = BackingMap {
        fd: lower.as_raw_fd(),
        flags: 0,
        padding: 0,
    };
    // SAFETY: the request reads exactly the 16 bytes of `map`, which live until the call returns; the positive return
    // value is the backing id.
    let id = unsafe { libc::ioctl(dev.as_raw_fd(), OPCODE as _, &raw const map) };
    if id < 0 {
        return Err(last_errno());
    }
    Ok(id as u32)
}

/// Gives a backing id back (`FUSE_DEV_IOC_BACKING_CLOSE`). Files already open through it go on working.
///
/// # Errors
/// ENOENT when the connection has no such id.
pub(crate) fn backing_close(dev: BorrowedFd<'_>, id: u32) -> io::Result<()> {
    const OPCODE: rustix::ioctl::Opcode = opcode::write::<u32>(229, 2);
    // SAFETY: the request reads one u32.
    unsafe { ioctl(dev, Setter::<OPCODE, u32>::new(id)) }
}
