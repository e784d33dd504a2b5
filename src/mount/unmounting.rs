//! Taking a mount away.

use std::path::Path;

use rustix::mount::UnmountFlags;

use super::error::MountError;
use super::helper;
use super::request::Method;

/// Lazily unmounts what is on top at a mountpoint.
pub(super) fn take_away(at: &Path, way: Method) -> Result<(), MountError> {
    if way.unmounts_by_helper() {
        return helper::unmount(at);
    }
    unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW, at)
}

/// Unmounts what `path` leads to, which the user knows as `at`.
pub(super) fn unmount(path: &Path, flags: UnmountFlags, at: &Path) -> Result<(), MountError> {
    rustix::mount::unmount(path, flags).map_err(|errno| {
        let remedy = "unmount it by hand, as root (umount -l)";
        MountError::new(at, "unmount", errno, remedy)
    })
}
