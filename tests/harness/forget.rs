//! A kernel that forgets what it knows of one mount.

use std::path::Path;

use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fspick};

/// Has the kernel drop every name of the mount at `mountpoint` that nobody uses, and with it the inodes.
///
/// A mount that is changed to what it is loses its names first (reconfigure_super(), shrink_dcache_sb()). Dropping the
/// machine's caches would have the requests of other tests counted wrong, which run beside this one.
pub fn forget_names(mountpoint: &Path) {
    let mount = fspick(
        rustix::fs::CWD,
        mountpoint,
        FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT,
    )
    .expect("fspick");
    fsconfig_reconfigure(mount).expect("have the kernel drop names");
}
