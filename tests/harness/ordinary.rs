//! What an ordinary user needs for a mount of his own.

use super::{Bases, Env};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// `nobody`, who is in Debian's passwd: fusermount3 asks for a name.
pub const NOBODY: u32 = 65534;

/// Puts a device that everybody may use, as udev makes it, at /dev/fuse of this namespace, gives the directories to
/// [`NOBODY`], and makes a copy of the daemon where everybody may run it.
pub fn for_everybody(env: &Env, bases: &Bases) -> PathBuf {
    let device = env.scratch().join("fuse");
    let mode = Mode::from_raw_mode(0o666);
    mknodat(
        CWD,
        &device,
        FileType::CharacterDevice,
        mode,
        makedev(10, 229),
    )
    .expect("mknod");
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).expect("chmod");
    rustix::mount::mount_bind(&device, "/dev/fuse").expect("bind the device");
    for dir in [bases.local(), bases.global()] {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let program = env.scratch().join("etcfs");
    fs::copy(env!("CARGO_BIN_EXE_etcfs"), &program).expect("copy the daemon");
    program
}
