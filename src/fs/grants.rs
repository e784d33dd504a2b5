//! Set-id programs and devices, where root has the mount without nosuid or nodev.
//!
//! The kernel takes the ids that a program gives from what it was told of the file a moment ago, and its text from the file
//! as it is; and what is mounted within a side may be some user's own file system, with whatever set-id files and devices
//! that user makes up. A native mount has neither trouble, so here both are refused: ids and devices count on the two file
//! systems of the sides only, and what somebody could write who would gain by it is not run.

use super::node::Node;
use super::settings::Settings;
use super::stat::Stat;
use crate::sys::xattr::{self, Target};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;
const OTHERS_WRITE: u32 = libc::S_IWGRP | libc::S_IWOTH;

/// What the mount lets files give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grants {
    /// Ids and capabilities to who runs them.
    suid: bool,
    /// Devices to who opens them.
    dev: bool,
    /// The file systems whose files do.
    sides: [u64; 2],
}

/// What is shown of an object's mode and device number.
pub(crate) struct ShownObject {
    /// Type and permission bits.
    pub(crate) mode: u32,
    /// Major and minor number.
    pub(crate) rdev: (u32, u32),
}

impl Grants {
    /// What `settings` say, for files of the file systems `sides`.
    pub(crate) fn new(settings: &Settings, sides: [u64; 2]) -> Grants {
        Grants {
            suid: settings.suid,
            dev: settings.dev,
            sides,
        }
    }

    fn are_of(&self, dev: u64) -> bool {
        self.sides.contains(&dev)
    }

    /// What clients are shown of `stat`. A set-id bit or a device of another file system within a side is not shown where it
    /// would count.
    pub(crate) fn shown(&self, stat: &Stat) -> ShownObject {
        let mut shown = ShownObject {
            mode: stat.0.stx_mode.into(),
            rdev: (stat.0.stx_rdev_major, stat.0.stx_rdev_minor),
        };
        if (self.suid || self.dev) && !self.are_of(stat.dev()) {
            if self.suid && !stat.is_dir() {
                shown.mode &= !SET_IDS;
            }
            if self.dev {
                shown.rdev = (0, 0);
            }
        }
        shown
    }

    /// As [`Grants::shown`], for attributes that the kernel keeps: what ids it is told that `node` gives is remembered.
    pub(crate) fn shown_of(&self, node: &Node, stat: &Stat) -> ShownObject {
        let shown = self.shown(stat);
        if self.suid {
            let ids = ids_of(&shown, stat);
            node.told_ids().store(ids, Ordering::Relaxed);
        }
        shown
    }

    /// Whether the file `node` gives capabilities to who runs it, if it has some.
    pub(crate) fn gives_capabilities(&self, node: &Node) -> bool {
        !self.suid || self.are_of(node.dev())
    }

    /// Checks that the ids which the program `fd`, which is `node`, gives are its own.
    ///
    /// # Errors
    /// EACCES; ESTALE when the kernel should look again.
    pub(crate) fn gives_its_own(
        &self,
        node: &Node,
        fd: BorrowedFd<'_>,
        stat: &Stat,
    ) -> Result<(), Errno> {
        if !self.suid {
            return Ok(());
        }
        let shown = self.shown(stat);
        let ids = ids_of(&shown, stat);
        // It stays so until the kernel has been told otherwise: by a path it looks again now, through a pin it does not.
        if node.told_ids().load(Ordering::Relaxed) != ids {
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
fn ids_of(shown: &ShownObject, stat: &Stat) -> u16 {
    let bits = shown.mode & SET_IDS;
    if bits == 0 || !stat.is_file() {
        return 0;
    }
    let ids = u64::from(stat.0.stx_uid) << 32 | u64::from(stat.0.stx_gid);
    let mixed = (ids ^ u64::from(bits) << 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as u16 | 1
}
