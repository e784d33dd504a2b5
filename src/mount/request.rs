//! What is to be mounted, and where: plain values, filled in by the command line and read by the ways of mounting.

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

/// How a mount is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// `Direct` for uid 0, `Fusermount3` for everybody else.
    #[default]
    Auto,
    /// With the kernel's own calls; needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace.
    Direct,
    /// Through the set-uid program `fusermount3`, which checks what an ordinary user may do.
    Fusermount3,
}

impl Method {
    /// The way that `Auto` stands for (contract D22).
    #[must_use]
    pub(crate) fn settled(self) -> Self {
        match self {
            Self::Auto if geteuid().is_root() => Self::Direct,
            Self::Auto => Self::Fusermount3,
            forced => forced,
        }
    }

    /// Root unmounts by itself what fusermount3 has mounted for it: by then it executes nothing any more.
    pub(super) fn unmounts_by_helper(self) -> bool {
        self == Self::Fusermount3 && !geteuid().is_root()
    }
}

/// The calls that a direct mount uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// fsopen(2) and its companions, and mount(2) only where the kernel lacks them (before Linux 5.2) or a system call
    /// filter hides them.
    #[default]
    Newest,
    /// mount(2) alone. It makes the mount visible before anything answers on it.
    Mount2,
}

/// When reading updates a file's access time (a property of the mount, `MOUNT_ATTR__ATIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atime {
    /// At a read after a change, or a day after the last update.
    Relatime,
    /// Never.
    Noatime,
    /// At every read.
    Strictatime,
}

/// One mount to be made. The type is always `fuse.etcfs`, and default_permissions always holds (contract D12, D13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    /// Where, as the user wrote it.
    pub mountpoint: PathBuf,
    /// How.
    pub way: Method,
    /// The calls of a direct mount.
    pub calls: Calls,
    /// The source that the mount table shows.
    pub source: OsString,
    /// Other users than the one who mounts may use the mount.
    pub allow_other: bool,
    /// Nothing can be changed through the mount.
    pub read_only: bool,
    /// Nothing on the mount can be executed.
    pub noexec: bool,
    /// Programs get the ids and capabilities that their files give. For root only.
    pub suid: bool,
    /// Devices can be opened. For root only.
    pub dev: bool,
    /// Writes are synchronous.
    pub sync: bool,
    /// Directory changes are synchronous.
    pub dirsync: bool,
    /// When files' access times change. None: as on the mounts beneath, and the mount shows the kernel's default.
    pub atime: Option<Atime>,
    /// Directories' access times do not change.
    pub nodiratime: bool,
    /// The largest READ request in bytes; none: as large as the kernel likes. The kernel raises it to 4096.
    pub max_read: Option<u32>,
}

impl Default for MountRequest {
    fn default() -> Self {
        Self {
            mountpoint: PathBuf::new(),
            way: Method::Auto,
            calls: Calls::Newest,
            source: OsString::from("etcfs"),
            allow_other: false,
            read_only: false,
            noexec: false,
            suid: false,
            dev: false,
            sync: false,
            dirsync: false,
            atime: None,
            nodiratime: false,
            max_read: None,
        }
    }
}
