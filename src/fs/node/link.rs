//! Where a node was last found, and what is remembered of its inode, wherever it is.

use crate::fs::ids::NodeId;
use crate::ledger::node::{LONGEST_NAME, NodeTable};
use crate::sys::file_handle::FileHandle;
use std::ffi::CStr;
use std::sync::MutexGuard;

/// Where a symlink leads. In one word, since of most nodes nothing is known.
pub(super) type Target = Box<Box<[u8]>>;

/// Where a node was last found, locked.
pub(crate) struct Link<'a> {
    target: MutexGuard<'a, Option<Target>>,
    table: &'static NodeTable,
    slot: u32,
}

impl<'a> Link<'a> {
    /// That of the node with the record `slot`.
    pub(super) fn new(
        target: MutexGuard<'a, Option<Target>>,
        table: &'static NodeTable,
        slot: u32,
    ) -> Link<'a> {
        Link {
            target,
            table,
            slot,
        }
    }

    /// The directory; for the root, itself.
    pub(crate) fn parent(&self) -> NodeId {
        NodeId(self.table.parent(self.slot))
    }

    /// Its name there.
    pub(crate) fn name(&self) -> NameBuf {
        NameBuf::filled(|bytes| self.table.name(self.slot, bytes))
    }

    /// True if that is where it says.
    pub(crate) fn is(&self, parent: NodeId, name: &CStr) -> bool {
        self.parent() == parent && self.table.is_named(self.slot, name.to_bytes())
    }

    /// True if it has no name.
    pub(crate) fn is_nameless(&self) -> bool {
        self.table.is_named(self.slot, b"")
    }

    /// Says another place.
    pub(crate) fn set(&mut self, parent: NodeId, name: &CStr) {
        self.table.set_name(self.slot, parent.0, cut(name));
    }

    /// Says another directory.
    pub(crate) fn set_parent(&mut self, parent: NodeId) {
        self.table.set_parent(self.slot, parent.0);
    }

    /// The way back to the inode when its name leads elsewhere. Directories have one from the first lookup on.
    pub(crate) fn handle(&self) -> Option<FileHandle> {
        FileHandle::filled(|bytes| self.table.handle(self.slot, bytes))
    }

    /// True if there is one.
    pub(crate) fn has_handle(&self) -> bool {
        self.table.has_handle(self.slot)
    }

    /// Remembers the way back.
    pub(crate) fn keep_handle(&mut self, handle: &FileHandle) {
        if self.handle().as_ref() != Some(handle) {
            let (kind, bytes) = handle.parts();
            self.table.keep_handle(self.slot, kind, bytes);
        }
    }

    /// Where the symlink leads, if it has been read.
    pub(crate) fn target(&self) -> Option<&[u8]> {
        Some(self.target.as_deref()?)
    }

    /// Forgets everything of the inode but the way back to it.
    pub(crate) fn forget_all_but(&mut self, back: Option<&FileHandle>) {
        *self.target = None;
        match back {
            Some(handle) => self.keep_handle(handle),
            None if self.has_handle() => self.table.drop_handle(self.slot),
            None => {}
        }
    }

    /// Remembers where the symlink leads.
    pub(crate) fn keep_target(&mut self, target: &[u8]) {
        *self.target = Some(Box::new(target.into()));
    }
}

/// The bytes of a name; longer ones cannot come from the kernel (`FUSE_NAME_MAX` is larger, lower names are not) and are cut.
pub(super) fn cut(name: &CStr) -> &[u8] {
    let name = name.to_bytes();
    &name[..name.len().min(LONGEST_NAME)]
}

/// A name as it stands in a [`Link`], copied out so that the lock is not held across a system call. 256 bytes on the
/// stack: a file name has at most 255.
pub(crate) struct NameBuf {
    bytes: [u8; LONGEST_NAME + 1],
    len: usize,
}

impl NameBuf {
    /// The name that `fill` writes, which returns its length.
    fn filled(fill: impl FnOnce(&mut [u8]) -> usize) -> NameBuf {
        let mut bytes = [0; LONGEST_NAME + 1];
        let len = fill(&mut bytes[..LONGEST_NAME]);
        NameBuf { bytes, len }
    }

    /// The name.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.bytes[..=self.len]).unwrap_or(c"")
    }
}
