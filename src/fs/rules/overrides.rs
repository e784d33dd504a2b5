//! What an override is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an override enforces.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum OverrideKind {
    /// The name is a symlink whose target is the content.
    Symlink,
    /// The name is a directory.
    Directory,
    /// The file, where it exists, holds the text of the source that the content names.
    Inject,
}

impl OverrideKind {
    /// The word for it in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            OverrideKind::Symlink => "symlink",
            OverrideKind::Directory => "directory",
            OverrideKind::Inject => "inject",
        }
    }
}

/// One override as configured.
#[derive(Debug)]
pub struct Override {
    /// What it enforces.
    pub kind: OverrideKind,
    /// The subject, relative to the root, without a leading slash.
    pub path: Box<[u8]>,
    /// The content as it was written, byte for byte (D25): a symlink's target, `x` of a directory, an inject's source.
    pub content: Box<[u8]>,
    /// The bytes of an inject's source, read when the command came (D33); empty for the other kinds.
    pub(crate) text: Arc<[u8]>,
    /// A number that no other override has ever had, by which others remember things of this one. No part of the
    /// configuration.
    pub(crate) number: u64,
}

impl Override {
    /// A number for a new override.
    pub(crate) fn next_number() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// Two overrides are equal when they are configured alike.
impl PartialEq for Override {
    fn eq(&self, other: &Override) -> bool {
        self.kind == other.kind
            && self.path == other.path
            && self.content == other.content
            && self.text == other.text
    }
}

impl Eq for Override {}
