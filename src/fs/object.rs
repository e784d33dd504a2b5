//! From a node to the lower object itself, whatever has happened to its name.

use super::Fs;
use super::handle::File;
use super::node::{NameBuf, Node};
use super::stat::Stat;
use crate::sys::xattr::Target;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::sync::Arc;

/// A lower object that cannot be exchanged for another while this lives. Lives on the stack for one request, so the
/// name inside costs less there than on the heap.
#[allow(clippy::large_enum_variant)]
pub enum Pinned {
    /// An open file of the node.
    File(Arc<File>),
    /// The descriptor of a directory.
    Dir(Arc<OwnedFd>),
    /// An `O_PATH` descriptor, checked to be the node's inode, and where it was found.
    Path {
        /// The object.
        fd: OwnedFd,
        /// The directory that holds it.
        dir: Arc<OwnedFd>,
        /// Its name there.
        name: NameBuf,
    },
}

impl Pinned {
    /// What the extended attribute calls act on.
    pub fn xattr_target(&self) -> Target<'_> {
        match self {
            Pinned::File(file) => Target::Open(file.fd.as_fd()),
            Pinned::Dir(fd) => Target::Open(fd.as_fd()),
            Pinned::Path { fd, dir, name } => Target::Pinned {
                fd: fd.as_fd(),
                dir: dir.as_fd(),
                name: name.as_c_str(),
            },
        }
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Pinned::File(file) => file.fd.as_fd(),
            Pinned::Dir(fd) => fd.as_fd(),
            Pinned::Path { fd, .. } => fd.as_fd(),
        }
    }
}

impl Fs {
    /// The attributes of `node`: through an open file or directory if there is one, by name otherwise. One system
    /// call in the usual case.
    ///
    /// # Errors
    /// ESTALE when another object stands where the node was last found; the kernel then looks the path up again.
    pub fn stat(&self, node: &Arc<Node>) -> Result<Stat, Errno> {
        if let Some(fd) = &*node.dir.load() {
            return Stat::of(fd.as_fd());
        }
        let open = node.handles().any_file();
        if let Some(file) = open {
            return Stat::of(file.fd.as_fd());
        }
        if node.is_dir() {
            return Stat::of(self.dir_fd(node)?.as_fd());
        }
        let (spot, name) = self.spot_of(node)?;
        let stat = Stat::at(spot.dir(), name.as_c_str()).map_err(gone_is_stale)?;
        if stat.key(node.side()) != node.key {
            return Err(Errno::STALE);
        }
        Ok(stat)
    }

    /// Takes hold of `node`, so that what is changed is what the kernel has checked the caller's rights on.
    ///
    /// # Errors
    /// As [`Fs::stat`].
    pub fn pin(&self, node: &Arc<Node>) -> Result<Pinned, Errno> {
        if node.is_dir() {
            return self.dir_fd(node).map(Pinned::Dir);
        }
        let open = node.handles().any_file();
        if let Some(file) = open {
            return Ok(Pinned::File(file));
        }
        let (spot, name) = self.spot_of(node)?;
        let fd = rustix::fs::openat(
            &*spot.dir,
            name.as_c_str(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(gone_is_stale)?;
        if Stat::of(fd.as_fd())?.key(node.side()) != node.key {
            return Err(Errno::STALE);
        }
        Ok(Pinned::Path {
            fd,
            dir: spot.dir,
            name,
        })
    }

    /// Opens the regular file `node` with `flags` of its own, checked to be the node's inode. `O_TRUNC` and `O_CREAT`
    /// must not be among them: nothing may happen to the file before the check.
    ///
    /// # Errors
    /// As [`Fs::stat`], and what `openat(2)` answers (EPERM for an immutable file, EROFS, ETXTBSY, ENFILE).
    pub fn open_file(&self, node: &Arc<Node>, flags: OFlags) -> Result<(OwnedFd, Stat), Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let (spot, name) = match self.spot_of(node) {
            Ok(found) => found,
            Err(errno) => return self.reopen_open_file(node, flags).ok_or(errno),
        };
        let opened = rustix::fs::openat(&*spot.dir, name.as_c_str(), flags, Mode::empty());
        let fd = match opened {
            Err(Errno::NOENT | Errno::LOOP) => {
                return self.reopen_open_file(node, flags).ok_or(Errno::STALE);
            }
            other => other?,
        };
        let stat = Stat::of(fd.as_fd())?;
        if stat.key(node.side()) != node.key {
            return self.reopen_open_file(node, flags).ok_or(Errno::STALE);
        }
        Ok((fd, stat))
    }

    /// Opens an unlinked or replaced file through one of its open handles (`/proc/PID/fd` of a client does that).
    fn reopen_open_file(&self, node: &Node, flags: OFlags) -> Option<(OwnedFd, Stat)> {
        let open = node.handles().any_file()?;
        let name = crate::sys::object::ProcName::of(open.fd.as_fd());
        let flags = flags - OFlags::NOFOLLOW;
        let fd = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).ok()?;
        let stat = Stat::of(fd.as_fd()).ok()?;
        (stat.key(node.side()) == node.key).then_some((fd, stat))
    }
}

/// A name that was there a moment ago and is not any more: the kernel should look again.
fn gone_is_stale(errno: Errno) -> Errno {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Errno::STALE,
        other => other,
    }
}
