//! What is attached at the mountpoint: not the FUSE root but a directory in it.
//!
//! The kernel makes the FUSE root's inode before INIT has agreed on access control lists, and never keeps that inode's
//! (`fuse_init_inode`, ACL_DONT_CACHE): every path walk of an ordinary user would begin with a request for it. An inode that
//! was looked up has none of this.

use super::mountinfo::Identity;
use super::{Attached, Pending};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::UnshareFlags;
use std::ffi::CStr;

/// Where a mount can be put for a moment in a namespace that nobody else sees: the first of these that is a mountpoint.
const STAGES: [&CStr; 4] = [c"/dev", c"/proc", c"/sys", c"/"];

impl Pending {
    /// Has the directory `name` of the FUSE root be what is attached. `serve` is called in this thread meanwhile: it has to
    /// answer what the kernel asks on the way there, until the descriptor that it is given is ready to be read (a hang-up).
    ///
    /// # Errors
    /// The FUSE root is attached as before: the mount is visible already (EBUSY), or the kernel cannot do it (before Linux
    /// 5.2), or may not.
    pub fn go_below(&mut self, name: &CStr, serve: impl FnOnce(BorrowedFd<'_>)) -> Result<()> {
        let (Some((root, _)), Some(attached)) = (&self.detached, &self.attached) else {
            return Err(Errno::BUSY);
        };
        let (done, end) = pipe_with(PipeFlags::CLOEXEC)?;
        let below = std::thread::scope(|scope| {
            let way = scope.spawn(move || {
                let below = below(root, name);
                drop(end);
                below
            });
            serve(done.as_fd());
            way.join().unwrap_or(Err(Errno::IO))
        })?;
        let attached = Attached {
            identity: Identity::of(&below, "")?,
            ..attached.clone()
        };
        self.attached = Some(attached);
        if let Some((mount, _)) = &mut self.detached {
            *mount = below;
        }
        Ok(())
    }
}

/// A mount of the directory `name` of the detached mount `root`. Call it in a thread of its own, which is not to do anything
/// after that.
fn below(root: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    match copy(root, name) {
        // Before Linux 6.15 only what is mounted in the caller's namespace is copied.
        Err(Errno::INVAL) => {
            alone()?;
            let stage = STAGES.iter().find(|stage| is_own(stage));
            let stage = stage.ok_or(Errno::INVAL)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(root, "", rustix::fs::CWD, *stage, flags)?;
            copy(root, name)
        }
        made => made,
    }
}

fn copy(root: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(root, name, flags)
}

/// Has what is mounted at `stage`, if there is such a mount, tell no other namespace what is mounted on it.
fn is_own(stage: &CStr) -> bool {
    mount_change(stage, MountPropagationFlags::PRIVATE).is_ok()
}

/// Gives this thread a mount namespace of its own, which goes when it ends.
fn alone() -> Result<()> {
    // SAFETY: the descriptors stay shared with the other threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}
