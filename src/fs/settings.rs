//! What the daemon was told at start.

use super::ids::{BELOW, NodeId};

/// What [`Settings::max_cross_copy`] is unless the command line says otherwise: 1 MiB.
pub(crate) const MAX_CROSS_COPY: u64 = 1 << 20;

/// What the daemon was told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The stratum's name, the answer to `user.bedrock.stratum` on local paths (contract D36).
    pub stratum: Box<[u8]>,
    /// The mount point as the stratum sees it, the head of `user.bedrock.localpath`.
    pub mountpoint: Box<[u8]>,
    /// `legacy_global=exact`: a child of a global directory is local unless it is listed itself (contract D39).
    pub exact_globals: bool,
    /// How many directories may hold a descriptor.
    pub dir_limit: usize,
    /// How many bytes are copied for an ordinary user who renames a file to the other side; more is EXDEV.
    pub max_cross_copy: u64,
    /// True when the daemon may create objects in other users' names.
    pub privileged: bool,
    /// Reads must leave access times alone, and the mounts of the sides do not see to it: files are opened so.
    pub keeps_access_times: bool,
    /// What tells the file handles of this daemon from those of an earlier one, whose node numbers were the same.
    pub generation: u32,
    /// Files give ids and capabilities to who runs them.
    pub suid: bool,
    /// Files give devices to who opens them.
    pub dev: bool,
    /// What is mounted is a directory below the FUSE root ([`super::ids::BELOW`]), and not that root itself.
    pub below: bool,
    /// How many files and directories the clients may have open; `None`: three times as many as [`Settings::dir_limit`].
    pub open_limit: Option<usize>,
}

impl Settings {
    /// What the kernel calls a node.
    pub(crate) fn number_of(&self, node: NodeId) -> u64 {
        match node {
            NodeId::ROOT if self.below => BELOW,
            node => node.0,
        }
    }
}

impl Default for Settings {
    /// A mount for one user, on nothing.
    fn default() -> Settings {
        Settings {
            stratum: Box::default(),
            mountpoint: Box::default(),
            exact_globals: false,
            dir_limit: 0,
            max_cross_copy: MAX_CROSS_COPY,
            privileged: false,
            keeps_access_times: false,
            generation: 0,
            suid: false,
            dev: false,
            below: false,
            open_limit: None,
        }
    }
}
