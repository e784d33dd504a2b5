//! Opening the lower file of a node, checked to be the node's inode.

use super::Lower;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::sys::creds::looking;
use crate::sys::lease::past_leases;
use crate::sys::object::ProcName;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::sync::Arc;

impl Lower {
    /// Opens the regular file `node` with `flags` of its own, checked to be the node's inode. `O_TRUNC` and `O_CREAT`
    /// must not be among them: nothing may happen to the file before the check.
    ///
    /// # Errors
    /// ESTALE when the file is not where it was last seen, and what `openat(2)` answers (EPERM for an immutable file,
    /// EROFS, ETXTBSY, ENFILE).
    pub(crate) fn open_file(
        &self,
        node: &Arc<Node>,
        flags: OFlags,
    ) -> Result<(OwnedFd, Stat), Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let writes = flags & OFlags::RWMODE != OFlags::RDONLY && !flags.contains(OFlags::PATH);
        // What is written must go to the file that enforcement has put in the place of this one: the kernel looks again.
        // A file that is open for writing is not replaced, so one that has its name at this moment keeps it.
        let is_replaced = || writes && self.replaced.has(&node.key());
        let look_again = || {
            self.replaced.ask_again(&node.key());
            Err(Errno::STALE)
        };
        let without_name = |errno| match is_replaced() {
            true => look_again(),
            false => self.reopen(node, flags).ok_or(errno),
        };
        let (dir, name) = match self.spot_of(node) {
            Ok(found) => found,
            Err(errno) => return without_name(errno),
        };
        let openat = |flags| {
            past_leases(|| {
                looking(|| rustix::fs::openat(&*dir, name.as_c_str(), flags, Mode::empty()))
            })
        };
        let opened = self.with_relief(|| self.keeping_times(flags, openat));
        let fd = match opened {
            // The name is gone, or a symlink's, a directory's or a socket's by now.
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return without_name(Errno::STALE);
            }
            // The lease of whoever replaces it: it has its name still, or another file has.
            Err(Errno::AGAIN) => return Err(Errno::AGAIN),
            // What refuses may be another object that has the name by now, such as a device (EACCES). If it is the file
            // itself, it refuses again.
            Err(errno) => return without_name(errno),
            Ok(fd) => fd,
        };
        let stat = Stat::of(fd.as_fd())?;
        if is_replaced() {
            let named = Stat::at(dir.as_fd(), name.as_c_str()).map(|named| named.key(node.side()));
            if named != Ok(node.key()) {
                return look_again();
            }
        }
        if stat.key(node.side()) != node.key() {
            return self.reopen(node, flags).ok_or(Errno::STALE);
        }
        Ok((fd, stat))
    }

    /// Opens with `flags`, so that reads change no access time where the mount has it so. Of others' files the daemon of an
    /// ordinary user cannot ask for that; they are opened all the same.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn keeping_times<T>(
        &self,
        flags: OFlags,
        open: impl Fn(OFlags) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let reads = flags & OFlags::RWMODE != OFlags::WRONLY && !flags.contains(OFlags::PATH);
        if !self.keeps_access_times || !reads {
            return open(flags);
        }
        match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            done => done,
        }
    }

    /// Opens an unlinked or replaced file that is still open, through what is held of it, which is held until that is done:
    /// the number of a descriptor that its owner lets go meanwhile leads nowhere, or to another file.
    fn reopen(&self, node: &Node, flags: OFlags) -> Option<(OwnedFd, Stat)> {
        let pinned = self.pin_without_name(node).ok()?;
        let name = ProcName::of(pinned.as_fd());
        let flags = flags - OFlags::NOFOLLOW;
        let fd = looking(|| rustix::fs::open(name.as_c_str(), flags, Mode::empty())).ok()?;
        let stat = Stat::of(fd.as_fd()).ok()?;
        (stat.key(node.side()) == node.key()).then_some((fd, stat))
    }
}
