//! Names that the kernel may keep, each with the directory that it is in: see `fs::watch`.

use super::table::{Ends, FlatRecord};
use super::words;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// The longest name that is kept, in bytes.
pub(crate) const LONGEST_KEPT: usize = 72;

/// A name that the kernel may keep; the empty one stands for what it keeps of the directory itself.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct KeptRecord {
    /// 0: not in use. Otherwise one more than the length of the name.
    state: AtomicU32,
    _unused: AtomicU32,
    dir: AtomicU64,
    node: AtomicU64,
    name: [AtomicU64; LONGEST_KEPT / 8],
}

impl FlatRecord for KeptRecord {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }
}

impl Ends for KeptRecord {
    fn end(&self) {
        self.state.store(0, Ordering::Release);
    }
}

impl KeptRecord {
    /// Says that `name`, no longer than [`LONGEST_KEPT`], is kept in the node `dir` and leads to `node`; 0: nowhere.
    pub(crate) fn begin(&self, dir: u64, name: &[u8], node: u64) {
        self.dir.store(dir, Ordering::Relaxed);
        self.node.store(node, Ordering::Relaxed);
        words::put(&self.name, name);
        self.state.store(name.len() as u32 + 1, Ordering::Release);
    }

    /// The directory, the name and where it leads.
    pub(crate) fn found(&self) -> (u64, Vec<u8>, u64) {
        let len = self.state.load(Ordering::Acquire).saturating_sub(1) as usize;
        (
            self.dir.load(Ordering::Relaxed),
            words::get(&self.name, len),
            self.node.load(Ordering::Relaxed),
        )
    }
}
