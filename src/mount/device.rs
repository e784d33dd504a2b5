//! The device that requests are read from.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::error::MountError;

const PATH: &str = "/dev/fuse";

/// Opens /dev/fuse for reading and writing, blocking, closed on exec: a second holder would keep a dead mount hanging.
pub(super) fn open() -> Result<OwnedFd, MountError> {
    openat(CWD, PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        let remedy = match errno {
            Errno::NOENT => "load the module (modprobe fuse) or make the node (mknod /dev/fuse c 10 229)",
            Errno::NODEV | Errno::NXIO => "the kernel has no FUSE; load the module (modprobe fuse)",
            Errno::ACCESS | Errno::PERM => {
                "allow this user to read and write it (chmod 666 /dev/fuse) on a mount without nodev"
            }
            _ => "see what is wrong with the device",
        };
        MountError::new(Path::new(PATH), "open the FUSE device", errno, remedy)
    })
}
