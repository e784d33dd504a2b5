//! Access times of the files beneath. On a FUSE inode the kernel never changes one (`S_NOATIME`, fs/fuse/inode.c): a read
//! changes the lower file's, as the lower mount has it. So where the mount is to have it otherwise, the sides are served
//! through copies of their mounts with its flags: a read is then one through such a mount, by whichever way it comes
//! (passthrough, a file handle, a descriptor opened again).

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::{Errno, Result};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::request::{Atime, MountRequest};

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[repr(C)]
#[derive(Debug, PartialEq, Eq)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_NOATIME`, `_STRICTATIME`, `__ATIME` and `_NODIRATIME`; `_RELATIME` is 0.
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const ALL_ATIME: u64 = 0x70;
const NODIRATIME: u64 = 0x80;

/// `AT_RECURSIVE`, for what is mounted within a side.
const RECURSIVE: libc::c_int = 0x8000;
/// `MS_PRIVATE`, which the C library has as wide as a pointer.
const PRIVATE: u64 = 1 << 18;

impl MountRequest {
    /// Whether reads must leave every access time alone: a read-only mount does, as a read-only native one.
    #[must_use]
    pub(crate) fn keeps_access_times(&self) -> bool {
        self.read_only || self.atime == Some(Atime::Noatime)
    }

    /// What the copies of the sides' mounts get; none: the sides are as they are.
    fn times(&self) -> Option<MountAttr> {
        let atime = match self.atime {
            _ if self.keeps_access_times() => Some(NOATIME),
            Some(Atime::Strictatime) => Some(STRICTATIME),
            Some(_) => Some(0),
            None => None,
        };
        let nodiratime = if self.nodiratime { NODIRATIME } else { 0 };
        (atime.is_some() || self.nodiratime).then_some(MountAttr {
            attr_set: atime.unwrap_or(0) | nodiratime,
            attr_clr: atime.map_or(0, |_| ALL_ATIME),
            // What is mounted on the mountpoint later, this daemon's own mount first, must not appear on the copy.
            propagation: PRIVATE,
            userns_fd: 0,
        })
    }
}

/// The directory `dir` on a mount whose access times are as `request` says; `dir` itself where they are so already.
///
/// # Errors
/// ENOSYS before Linux 5.12; EPERM without CAP_SYS_ADMIN, and in a user namespace for flags that its mounts have inherited.
pub(super) fn with_times_of(request: &MountRequest, dir: OwnedFd) -> Result<OwnedFd> {
    let Some(attr) = request.times() else {
        return Ok(dir);
    };
    let usual = |flags: StatVfsMountFlags| {
        let others = StatVfsMountFlags::NOATIME | StatVfsMountFlags::NODIRATIME;
        flags.contains(StatVfsMountFlags::RELATIME) && !flags.intersects(others)
    };
    if attr.attr_set == 0 && fstatvfs(&dir).is_ok_and(|fs| usual(fs.f_flag)) {
        return Ok(dir);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let copy = open_tree(&dir, "", flags)?;
    mount_setattr(&copy, &attr)?;
    Ok(copy)
}

/// `mount_setattr(2)`, Linux 5.12, on a mount and all that is mounted on it.
fn mount_setattr(mount: &OwnedFd, attr: &MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | RECURSIVE;
    // SAFETY: the path and the struct, of the size that is told, live until the call returns; the kernel keeps neither.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if rc == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_get_what_is_asked_for_and_nothing_where_nothing_is() {
        let times = |atime, read_only, nodiratime| {
            let request = MountRequest {
                atime,
                read_only,
                nodiratime,
                ..MountRequest::default()
            };
            request.times().map(|attr| (attr.attr_set, attr.attr_clr))
        };
        assert_eq!(times(None, false, false), None);
        assert_eq!(times(None, false, true), Some((NODIRATIME, 0)));
        assert_eq!(times(None, true, false), Some((NOATIME, ALL_ATIME)));
        let relatime = Some(Atime::Relatime);
        assert_eq!(times(relatime, false, false), Some((0, ALL_ATIME)));
        assert_eq!(times(relatime, true, false), Some((NOATIME, ALL_ATIME)));
        let strict = Some(Atime::Strictatime);
        let both = Some((STRICTATIME | NODIRATIME, ALL_ATIME));
        assert_eq!(times(strict, false, true), both);
    }
}
