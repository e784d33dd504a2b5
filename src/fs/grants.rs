//! Set-id programs and devices, where root has the mount without nosuid or nodev.
//!
//! The kernel takes the ids that a program gives from what it was told of the file a moment ago, and its text from the file
//! as it is; and what is mounted within a side may be some user's own file system, with whatever set-id files and devices
//! that user makes up. A native mount has neither trouble, so here both are refused: ids and devices count on the two file
//! systems of the sides only, and what somebody could write who would gain by it is not run.

use super::Fs;
use super::node::Node;
use super::stat::Stat;
use crate::sys::xattr::{self, Target};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{OFlags, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;
const OTHERS_WRITE: u32 = libc::S_IWGRP | libc::S_IWOTH;

/// What the mount lets files give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grants {
    /// Ids and capabilities to who runs them.
    pub suid: bool,
    /// Devices to who opens them.
    pub dev: bool,
}

/// What is shown of an object's mode and device number.
pub struct Shown {
    /// Type and permission bits.
    pub mode: u32,
    /// Major and minor number.
    pub rdev: (u32, u32),
}

impl Fs {
    /// What clients are shown of `stat`. A set-id bit or a device of another file system within a side is not shown where it
    /// would count.
    pub fn shown(&self, stat: &Stat) -> Shown {
        let mut shown = Shown {
            mode: stat.0.stx_mode.into(),
            rdev: (stat.0.stx_rdev_major, stat.0.stx_rdev_minor),
        };
        if self.grants != Grants::default() && !self.is_of_a_side(stat.dev()) {
            if self.grants.suid && !stat.is_dir() {
                shown.mode &= !SET_IDS;
            }
            if self.grants.dev {
                shown.rdev = (0, 0);
            }
        }
        shown
    }

    /// As [`Fs::shown`], for attributes that the kernel keeps: what ids it is told that `node` gives is remembered.
    pub fn shown_of(&self, node: &Node, stat: &Stat) -> Shown {
        let shown = self.shown(stat);
        if self.grants.suid {
            let ids = ids_of(&shown, stat);
            node.told_ids.store(ids, Ordering::Relaxed);
        }
        shown
    }

    /// Whether the file `node` gives capabilities to who runs it, if it has some.
    pub fn gives_capabilities(&self, node: &Node) -> bool {
        !self.grants.suid || self.is_of_a_side(node.key.dev)
    }

    fn is_of_a_side(&self, dev: u64) -> bool {
        [self.local.dev, self.global.dev].contains(&dev)
    }

    /// Checks what the kernel checks natively where a program lies and cannot check here: the flags of the very mount, which
    /// may lie within a base directory or have got its flags after the start; that nobody writes it; and that the ids which
    /// it gives are its own.
    ///
    /// # Errors
    /// EACCES; ETXTBSY; ESTALE when the kernel should look again; EAGAIN in a thread that never waits; what opening answers.
    pub fn may_be_run(&self, node: &Arc<Node>) -> Result<(), Errno> {
        let (fd, stat) = self.open_file(node, OFlags::RDONLY)?;
        if fstatvfs(&fd).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
            return Err(Errno::ACCESS);
        }
        self.is_not_written(node, fd.as_fd())?;
        if self.grants.suid {
            self.gives_its_own(node, fd.as_fd(), &stat)?;
        }
        Ok(())
    }

    fn gives_its_own(&self, node: &Node, fd: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
        let shown = self.shown(stat);
        let ids = ids_of(&shown, stat);
        // It stays so until the kernel has been told otherwise: by a path it looks again now, through a pin it does not.
        if node.told_ids.load(Ordering::Relaxed) != ids {
            return Err(Errno::STALE);
        }
        let by_root_alone = stat.0.stx_uid == 0 && shown.mode & OTHERS_WRITE == 0;
        let capable = || {
            self.gives_capabilities(node)
                && xattr::get(Target::Open(fd), c"security.capability", &mut []).is_ok()
        };
        let trusted = match shown.mode & SET_IDS {
            libc::S_ISUID => shown.mode & OTHERS_WRITE == 0 && (by_root_alone || !capable()),
            0 => by_root_alone || !capable(),
            _ => by_root_alone,
        };
        trusted.then_some(()).ok_or(Errno::ACCESS)
    }
}

/// A digest of the ids that a file gives; 0: none.
fn ids_of(shown: &Shown, stat: &Stat) -> u16 {
    let bits = shown.mode & SET_IDS;
    if bits == 0 || !stat.is_file() {
        return 0;
    }
    let ids = u64::from(stat.0.stx_uid) << 32 | u64::from(stat.0.stx_gid);
    let mixed = (ids ^ u64::from(bits) << 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as u16 | 1
}
