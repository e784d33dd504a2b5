//! The inode flags of chattr(1) and lsattr(1), and the wider attributes of project quotas (`include/uapi/linux/fs.h`).
#![allow(unsafe_code)]

use rustix::fd::AsFd;
use rustix::io;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

/// `FS_IOC_GETFLAGS`. Declared with `long`, so that its number differs between 32 and 64 bits, but the argument is an
/// int on every kernel.
pub(crate) const GETFLAGS: Opcode = opcode::read::<libc::c_long>(b'f', 1);
/// `FS_IOC_SETFLAGS`, likewise.
pub(crate) const SETFLAGS: Opcode = opcode::write::<libc::c_long>(b'f', 2);
/// `FS_IOC_FSGETXATTR`.
pub(crate) const FSGETXATTR: Opcode = opcode::read::<Fsxattr>(b'X', 31);
/// `FS_IOC_FSSETXATTR`.
pub(crate) const FSSETXATTR: Opcode = opcode::write::<Fsxattr>(b'X', 32);

/// `struct fsxattr`, 28 bytes, as it stands in memory and on the wire.
pub(crate) type Fsxattr = [u32; 7];

/// The inode flags, `FS_*_FL`.
///
/// # Errors
/// ENOTTY where the file system has none.
pub fn get_flags(fd: impl AsFd) -> io::Result<u32> {
    let mut flags: u32 = 0;
    // SAFETY: the kernel writes one 32-bit integer (`put_user` to an int pointer in `ioctl_getflags`).
    unsafe { ioctl(fd, Updater::<GETFLAGS, u32>::new(&mut flags))? };
    Ok(flags)
}

/// Sets the inode flags.
///
/// # Errors
/// ENOTTY, EPERM, EOPNOTSUPP, as the file system decides.
pub fn set_flags(fd: impl AsFd, flags: u32) -> io::Result<()> {
    // SAFETY: the kernel reads one 32-bit integer (`get_user` from an int pointer in `ioctl_setflags`).
    unsafe { ioctl(fd, Setter::<SETFLAGS, u32>::new(flags)) }
}

/// The wider attributes.
///
/// # Errors
/// ENOTTY where the file system has none.
pub fn get_xattr(fd: impl AsFd) -> io::Result<Fsxattr> {
    // SAFETY: the kernel writes one `struct fsxattr`, which is seven 32-bit words.
    unsafe { ioctl(fd, Getter::<FSGETXATTR, Fsxattr>::new()) }
}

/// Sets the wider attributes.
///
/// # Errors
/// ENOTTY, EPERM, EINVAL, as the file system decides.
pub fn set_xattr(fd: impl AsFd, attributes: Fsxattr) -> io::Result<()> {
    // SAFETY: the kernel reads one `struct fsxattr`, which is seven 32-bit words.
    unsafe { ioctl(fd, Setter::<FSSETXATTR, Fsxattr>::new(attributes)) }
}
