//! Lower file systems to serve from.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::MountFlags;

use super::Env;

/// What the lower directories lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// A tmpfs: fast, with birth times, user xattrs and O_TMPFILE.
    Tmpfs,
    /// A ramfs: without birth times, sizes or O_TMPFILE.
    Ramfs,
    /// An overlayfs whose layers lie on the scratch tmpfs.
    Overlay,
    /// ext4 in an image file on a loop device, 512 MiB, 4 KiB blocks, with ACLs.
    Ext4,
    /// The same with inodes of 128 bytes, which have no birth time.
    Ext4Small,
    /// A directory of the disk that holds the build.
    Disk,
}

impl Lower {
    /// Mounts this kind at `at`. An error text says what the machine lacks.
    pub fn mount(self, env: &Env, at: &Path) -> Result<(), String> {
        match self {
            Self::Tmpfs => {
                rustix::mount::mount("lower", at, "tmpfs", MountFlags::empty(), c"mode=0755")
                    .map_err(|e| format!("mount a tmpfs at {}: {e}", at.display()))
            }
            Self::Ramfs => {
                rustix::mount::mount("lower", at, "ramfs", MountFlags::empty(), c"mode=0755")
                    .map_err(|e| format!("mount a ramfs at {}: {e}", at.display()))
            }
            Self::Overlay => {
                let dirs = ["lowerdir", "upperdir", "workdir"];
                let data = dirs.map(|dir| format!("{dir}={}", env.dir(dir).display()));
                let data = std::ffi::CString::new(data.join(",")).expect("paths without NUL");
                rustix::mount::mount("lower", at, "overlay", MountFlags::empty(), data.as_c_str())
                    .map_err(|e| format!("mount an overlayfs at {}: {e}", at.display()))
            }
            Self::Ext4 | Self::Ext4Small => {
                let image = env.scratch().join("ext4.img");
                let file = std::fs::File::create(&image)
                    .map_err(|e| format!("create {}: {e}", image.display()))?;
                file.set_len(512 << 20)
                    .map_err(|e| format!("size {}: {e}", image.display()))?;
                let options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
                let inode_size = if self == Self::Ext4 { "256" } else { "128" };
                run(Command::new("mkfs.ext4")
                    .args(["-q", "-F", "-I", inode_size, "-E", options])
                    .arg(&image))?;
                // mount(8) sets the loop device to go with the mount, so nothing is left when the namespace ends.
                run(Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(at))
            }
            Self::Disk => {
                let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                    .join(format!("lower-{}", std::process::id()));
                std::fs::create_dir_all(&dir)
                    .map_err(|e| format!("mkdir {}: {e}", dir.display()))?;
                env.remove_at_end(&dir);
                rustix::mount::mount_bind(&dir, at)
                    .map_err(|e| format!("bind {} to {}: {e}", dir.display(), at.display()))
            }
        }
    }
}

/// Runs a program; its error text is its command line with what it said.
pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.trim()))
}
