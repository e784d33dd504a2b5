//! Who was sent back to look a name up again.
//!
//! The kernel looks a name up and then acts on what it has found. Where that has lost the name meanwhile and is gone, the
//! answer is ESTALE, upon which the kernel does both once more (`retry_estale`, include/linux/namei.h), and once only: a
//! name that others rename over all the time would fail an open(2) which natively never fails. So what is found for
//! somebody who was sent back is held by a descriptor, and can be opened whatever becomes of its name.

use crate::mutex::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many are remembered.
const MOST: usize = 64;

/// How long. Whoever was sent back asks for the directories on the way first, and for the name at once after that.
const SOON: Duration = Duration::from_secs(1);

/// The threads, by the number that their requests bear, and until when.
#[derive(Debug, Default)]
pub(crate) struct SentBack {
    any: AtomicBool,
    threads: Mutex<VecDeque<(u32, Instant)>>,
}

impl SentBack {
    /// Notes that this thread's request was answered ESTALE.
    pub(crate) fn note(&self, thread: u32) {
        let mut threads = lock(&self.threads);
        threads.retain(|(sent, _)| *sent != thread);
        if threads.len() == MOST {
            threads.pop_front();
        }
        threads.push_back((thread, Instant::now() + SOON));
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether this thread was sent back a moment ago. One load as long as nobody was.
    pub(crate) fn has(&self, thread: u32) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut threads = lock(&self.threads);
        let now = Instant::now();
        threads.retain(|(_, until)| now < *until);
        self.any.store(!threads.is_empty(), Ordering::Relaxed);
        threads.iter().any(|(sent, _)| *sent == thread)
    }
}
