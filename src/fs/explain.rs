//! Explaining: what stands at a path, and on which side.

use super::ids::{NodeId, Side};
use super::lower::Lower;
use super::node::Node;
use super::settings::Settings;
use super::stat::Stat;
use crate::sys::creds::looking;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

/// What tells where things are.
pub(crate) struct Explainer {
    lower: Arc<Lower>,
    stratum: Box<[u8]>,
    mountpoint: Box<[u8]>,
}

impl Explainer {
    /// Of `lower`, mounted as `settings` say.
    pub(crate) fn new(lower: Arc<Lower>, settings: &Settings) -> Explainer {
        Explainer {
            lower,
            stratum: settings.stratum.clone(),
            mountpoint: settings.mountpoint.clone(),
        }
    }

    /// `user.bedrock.stratum` of a node: `global`, or the stratum's name (contract D36).
    ///
    /// # Errors
    /// ESTALE for a node that is not known.
    pub(crate) fn stratum_of(&self, id: NodeId) -> Result<Vec<u8>, Errno> {
        if id != NodeId::CONFIG {
            let node = self.lower.nodes.get(id).ok_or(Errno::STALE)?;
            if node.side() == Side::Local {
                return Ok(self.stratum.to_vec());
            }
        }
        Ok(b"global".to_vec())
    }

    /// `user.bedrock.localpath` of a node: the mount point and the path below it; the root has a slash at its end, and
    /// the configuration file is `/` (contract D36). `look` looks at a name in a directory with the rights of whoever is to
    /// be told.
    ///
    /// # Errors
    /// As [`Lower::walked_path`].
    pub(crate) fn localpath_of(
        &self,
        id: NodeId,
        look: impl Fn(BorrowedFd<'_>, &CStr) -> Result<Stat, Errno>,
    ) -> Result<Vec<u8>, Errno> {
        if id == NodeId::CONFIG {
            return Ok(b"/".to_vec());
        }
        let mut path = self.mountpoint.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(&self.lower.walked_path(id, look)?);
        Ok(path)
    }

    /// What stands at `path` (below the mount, without a leading slash) on `side`, and its node if it is known. Follows
    /// no symlink and asks the lower file system, not the mount.
    ///
    /// # Errors
    /// ENOENT, ELOOP (a symlink above the last component), ENOSYS before Linux 5.6.
    pub(crate) fn object_at(
        &self,
        side: Side,
        path: &CStr,
    ) -> Result<(Stat, Option<Arc<Node>>), Errno> {
        let base = self.lower.base(side).dir.as_fd();
        if path.is_empty() {
            let root = Some(self.lower.nodes.root().clone());
            return Ok((Stat::of(base)?, root));
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = looking(|| rustix::fs::openat2(base, path, flags, Mode::empty(), how))?;
        let stat = Stat::of(fd.as_fd())?;
        let node = self.lower.nodes.find(&stat.key(side));
        Ok((stat, node))
    }
}
