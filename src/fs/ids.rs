//! What things are called: by the kernel, and below.

use std::ffi::CStr;

/// The lower directory a name lives in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The stratum's own.
    Local,
    /// The one all strata share.
    Global,
}

/// The number by which the kernel names a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u64);

impl NodeId {
    /// The directory that is served. The kernel's name for it is this number too (`FUSE_ROOT_ID`), or [`BELOW`].
    pub(crate) const ROOT: NodeId = NodeId(1);
    /// The configuration file, which has no lower inode.
    pub(crate) const CONFIG: NodeId = NodeId(2);
    /// No node: where a directory lies of which it is not known.
    pub(crate) const NOWHERE: NodeId = NodeId(0);
    /// The first number given to a lower inode.
    pub(crate) const FIRST: u64 = 3;

    /// What the kernel means by a number.
    pub(crate) fn of(number: u64) -> NodeId {
        match number {
            BELOW => NodeId::ROOT,
            number => NodeId(number),
        }
    }
}

/// The kernel's number of the directory that is served where it is no FUSE root but lies in one
/// ([`crate::fs::settings::Settings::below`]). No other node gets it: nobody counts so far.
pub(crate) const BELOW: u64 = 1_000_000_000_000_001;

/// The name of that directory in the FUSE root, which mountinfo shows as the mount's root (field 4).
pub const BELOW_NAME: &CStr = c"etc";

/// The identity of a lower inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The side it was reached on.
    pub(crate) side: Side,
    /// Device number.
    pub(crate) dev: u64,
    /// Inode number.
    pub(crate) ino: u64,
    /// What tells a file from a later one that was given the same inode number: the time of birth, ns since 1970, or
    /// where the file system has none a digest of the file handle, or 0.
    pub(crate) generation: u64,
}

impl Key {
    /// One for tests, of the local side.
    #[cfg(test)]
    pub(crate) fn of_ino(ino: u64) -> Key {
        Key {
            side: Side::Local,
            dev: 1,
            ino,
            generation: 1,
        }
    }

    /// True where nothing tells the inode from a later one of its number, so that it has to be held.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.generation == 0
    }
}

/// The name of the configuration file in the root of the mount (contract D23).
pub const CONFIG_NAME: &CStr = c".bedrock-config-filesystem";

/// Its inode number: no lower file system's (bit 63 is set only on numbers of a second device, with its bits folded in).
pub(crate) const CONFIG_INO: u64 = 0x6574_6366_7300_0002;

/// True for the name of the configuration file in the root.
pub(crate) fn is_config(parent: NodeId, name: &CStr) -> bool {
    parent == NodeId::ROOT && name == CONFIG_NAME
}
