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
        /// The directory that holds it and its name there; `None` for an open file that has no name any more.
        at: Option<(Arc<OwnedFd>, NameBuf)>,
    },
}

impl Pinned {
    /// What the extended attribute calls act on.
    pub fn xattr_target(&self) -> Target<'_> {
        match self {
            Pinned::File(file) => Target::Open(file.fd.as_fd()),
            Pinned::Dir(fd) => Target::Open(fd.as_fd()),
            Pinned::Path { fd, at } => Target::Pinned {
                fd: fd.as_fd(),
                at: at
                    .as_ref()
                    .map(|(dir, name)| (dir.as_fd(), name.as_c_str())),
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
        {
            let handles = node.handles();
            if let Some(file) = handles.any_file() {
                drop(handles);
                return Stat::of(file.fd.as_fd());
            }
            if let Some(fd) = handles.backing.anchor() {
                return Stat::of(fd);
            }
        }
        if node.is_dir() {
            return Stat::of(self.dir_fd(node)?.as_fd());
        }
        match self.stat_by_name(node) {
            Err(Errno::STALE) => {
                let fd = self.without_name(node).ok_or(Errno::STALE)?;
                Stat::of(fd.as_fd())
            }
            other => other,
        }
    }

    fn stat_by_name(&self, node: &Node) -> Result<Stat, Errno> {
        let (dir, name) = self.spot_of(node).map_err(gone_is_stale)?;
        let stat = Stat::at(dir.as_fd(), name.as_c_str()).map_err(gone_is_stale)?;
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
        match self.pin_by_name(node) {
            Err(Errno::STALE) => {
                let held = self.without_name(node);
                let handles = node.handles();
                let fd = held.as_ref().map(|fd| fd.as_fd());
                let fd = fd.or(handles.backing.anchor()).ok_or(Errno::STALE)?;
                Ok(Pinned::Path {
                    fd: rustix::io::fcntl_dupfd_cloexec(fd, 0)?,
                    at: None,
                })
            }
            other => other,
        }
    }

    fn pin_by_name(&self, node: &Node) -> Result<Pinned, Errno> {
        let (dir, name) = self.spot_of(node).map_err(gone_is_stale)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&*dir, name.as_c_str(), flags, Mode::empty());
        let fd = self.with_relief(open).map_err(gone_is_stale)?;
        if Stat::of(fd.as_fd())?.key(node.side()) != node.key {
            return Err(Errno::STALE);
        }
        Ok(Pinned::Path {
            fd,
            at: Some((dir, name)),
        })
    }
}

/// A name that was there a moment ago and is not any more: the kernel should look again.
fn gone_is_stale(errno: Errno) -> Errno {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Errno::STALE,
        other => other,
    }
}
