//! Which files enforcement has replaced lately.
//!
//! The kernel looks a name up first and opens what it has found then. A client that opens a file for writing which has
//! just been replaced would write to a file without a name; it must look again.

use crate::fs::ids::Key;
use crate::mutex::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many are remembered. A file is of interest from its replacement to the end of the opens under way then, and an
/// override is applied once a second at most.
const MOST: usize = 256;

/// The files.
#[derive(Debug, Default)]
pub struct Replaced {
    any: AtomicBool,
    files: Mutex<VecDeque<Key>>,
}

impl Replaced {
    /// Notes that `file` is about to be replaced.
    pub fn note(&self, file: Key) {
        let mut files = lock(&self.files);
        if files.contains(&file) {
            return;
        }
        if files.len() >= MOST {
            files.pop_front();
        }
        files.push_back(file);
        self.any.store(true, Ordering::Release);
    }

    /// True if `file` has been replaced, or almost. No lock as long as nothing ever was.
    pub fn has(&self, file: &Key) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.files).contains(file)
    }
}
