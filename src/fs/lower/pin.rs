//! From a node to the lower object itself, whatever has happened to its name.

use super::Lower;
use crate::fs::handle::File;
use crate::fs::made::is_of_its_maker;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::sys::creds::looking;
use crate::sys::lease::past_leases;
use crate::sys::object::ProcName;
use crate::sys::xattr::Target;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::sync::Arc;

/// So many seconds after a change every further one has another change time.
const SETTLED: u64 = 2;

/// A lower object that cannot be exchanged for another while this lives.
pub(crate) enum Pinned {
    /// An open file of the node.
    File(Arc<File>),
    /// The descriptor of a directory.
    Dir(Arc<OwnedFd>),
    /// An `O_PATH` descriptor, checked to be the node's inode.
    Path(OwnedFd),
}

impl Pinned {
    /// What the extended attribute calls act on.
    pub(crate) fn xattr_target(&self) -> Target<'_> {
        match self {
            Pinned::File(file) => Target::Open(file.fd.as_fd()),
            Pinned::Dir(fd) => Target::Open(fd.as_fd()),
            Pinned::Path(fd) => Target::Pinned(fd.as_fd()),
        }
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Pinned::File(file) => file.fd.as_fd(),
            Pinned::Dir(fd) => fd.as_fd(),
            Pinned::Path(fd) => fd.as_fd(),
        }
    }
}

impl Lower {
    /// The attributes of `node`: through an open file or directory if there is one, by name otherwise. One system
    /// call in the usual case.
    ///
    /// # Errors
    /// ESTALE when another object stands where the node was last found; the kernel then looks the path up again.
    pub(crate) fn stat(&self, node: &Arc<Node>) -> Result<Stat, Errno> {
        if let Some(fd) = &*node.dir() {
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
        if stat.key(node.side()) != node.key() {
            return Err(Errno::STALE);
        }
        Ok(stat)
    }

    /// Takes hold of `node`, so that what is changed is what the kernel has checked the caller's rights on.
    ///
    /// # Errors
    /// As [`Lower::stat`].
    pub(crate) fn pin(&self, node: &Arc<Node>) -> Result<Pinned, Errno> {
        if node.is_dir() {
            return self.dir_fd(node).map(Pinned::Dir);
        }
        let open = node.handles().any_file();
        if let Some(file) = open {
            return Ok(Pinned::File(file));
        }
        match self.pin_by_name(node) {
            Err(Errno::STALE) => self.pin_without_name(node),
            other => other,
        }
    }

    /// As [`Lower::pin`], of what is open or kept of `node`, whatever has its name.
    ///
    /// # Errors
    /// ESTALE when nothing is.
    pub(crate) fn pin_without_name(&self, node: &Node) -> Result<Pinned, Errno> {
        let open = node.handles().any_file();
        if let Some(file) = open {
            return Ok(Pinned::File(file));
        }
        let held = self.without_name(node);
        let handles = node.handles();
        let fd = held.as_ref().map(|fd| fd.as_fd());
        let fd = fd.or(handles.backing.anchor()).ok_or(Errno::STALE)?;
        Ok(Pinned::Path(rustix::io::fcntl_dupfd_cloexec(fd, 0)?))
    }

    fn pin_by_name(&self, node: &Node) -> Result<Pinned, Errno> {
        let (dir, name) = self.spot_of(node).map_err(gone_is_stale)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || looking(|| rustix::fs::openat(&*dir, name.as_c_str(), flags, Mode::empty()));
        let fd = self.with_relief(open).map_err(gone_is_stale)?;
        if Stat::of(fd.as_fd())?.key(node.side()) != node.key() {
            return Err(Errno::STALE);
        }
        Ok(Pinned::Path(fd))
    }

    /// True if the file `node` has no access ACL, as far as one look at it can tell: it is in the state in which it had none.
    /// The kernel asks at every open by an ordinary user, and reading the ACL of a file that is not open takes four calls.
    pub(crate) fn lacks_acl(&self, node: &Arc<Node>) -> bool {
        let known = node.no_acl();
        known != 0 && self.stat(node).is_ok_and(|now| now.changed() == known)
    }

    /// Remembers that `pinned`, which is `node`, has no access ACL: `before` is what it was before that was asked. Only a
    /// state that lies long back, by the kernel's own clock, can be told from every later one by its change time.
    pub(crate) fn note_no_acl(&self, node: &Node, pinned: &Pinned, before: &Stat) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        // Or far ahead, from before the clock was set back.
        let is_settled = before.0.stx_ctime.tv_sec.abs_diff(now.tv_sec) > SETTLED;
        if !node.is_dir() && is_settled && is_of_its_maker(pinned.as_fd()) {
            node.set_no_acl(before.changed());
        }
    }

    /// Reads where the symlink `node` leads into `target` and returns the length.
    ///
    /// What a symlink says never changes (no file system has a call for it), so it is read once, from the node's own
    /// inode, and remembered where it is short and nothing but the inode can have that identity. A reading then leaves
    /// the time of the last access alone, as `relatime` does most of the time.
    ///
    /// # Errors
    /// As [`Lower::stat`]; EINVAL for anything but a symlink.
    pub(crate) fn read_link(&self, node: &Arc<Node>, target: &mut [u8]) -> Result<usize, Errno> {
        if node.kind() != libc::S_IFLNK {
            return Err(Errno::INVAL);
        }
        if let Some(known) = node.link().target() {
            if let Some(space) = target.get_mut(..known.len()) {
                space.copy_from_slice(known);
                return Ok(known.len());
            }
        }
        let pinned = self.pin(node)?;
        let len = rustix::fs::readlinkat_raw(pinned.as_fd(), c"", &mut *target)?;
        if len <= TARGET_KEPT && !node.key().is_ambiguous() {
            node.link().keep_target(&target[..len]);
        }
        Ok(len)
    }
}

impl Lower {
    /// Opens what is pinned, with `flags` and with the rights that the thread has on: the very inode, whatever its names
    /// lead to. Where no `/proc` is mounted it is opened by its name and compared.
    ///
    /// # Errors
    /// What `open(2)` answers; EWOULDBLOCK where a lease is in the way.
    pub(crate) fn open_pinned(
        &self,
        node: &Arc<Node>,
        pinned: &Pinned,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let name = ProcName::of(pinned.as_fd());
        let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        match past_leases(|| rustix::fs::open(name.as_c_str(), flags, Mode::empty())) {
            Err(Errno::NOENT) => self.open_file(node, flags).map(|(fd, _)| fd),
            other => other,
        }
    }
}

/// The longest symlink target that is remembered, in bytes: a node must not cost much more than others.
const TARGET_KEPT: usize = 128;

/// A name that was there a moment ago and is not any more: the kernel should look again.
fn gone_is_stale(errno: Errno) -> Errno {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Errno::STALE,
        other => other,
    }
}
