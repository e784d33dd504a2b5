//! Explaining: what stands at a path, and on which side.

use super::Fs;
use super::ids::Side;
use super::node::Node;
use super::rules::{Found, Rules};
use super::stat::Stat;
use crate::sys::creds::looking;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

/// The side that `rules` put a path on, of which they say `found`; `exact`: only listed names are global.
pub fn side_of(found: &Found<'_>, rules: &Rules, exact: bool) -> Side {
    let by_itself = found.exact && rules.is_global(found.place);
    if exact && !by_itself {
        Side::Local
    } else {
        found.side
    }
}

impl Fs {
    /// The side that the rules put a path on.
    pub fn side_of(&self, found: &Found<'_>) -> Side {
        side_of(found, &self.rules(), self.settings.exact_globals)
    }

    /// What stands at `path` (below the mount, without a leading slash) on `side`, and its node if it is known. Follows
    /// no symlink and asks the lower file system, not the mount.
    ///
    /// # Errors
    /// ENOENT, ELOOP (a symlink above the last component), ENOSYS before Linux 5.6.
    pub fn object_at(&self, side: Side, path: &CStr) -> Result<(Stat, Option<Arc<Node>>), Errno> {
        let base = self.base(side).dir.as_fd();
        if path.is_empty() {
            let root = Some(self.nodes.root().clone());
            return Ok((Stat::of(base)?, root));
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = looking(|| rustix::fs::openat2(base, path, flags, Mode::empty(), how))?;
        let stat = Stat::of(fd.as_fd())?;
        let node = self.nodes.find(&stat.key(side));
        Ok((stat, node))
    }
}
