//! Which files enforcement has replaced lately.
//!
//! The kernel looks a name up first and opens what it has found then. A client that opens a file for writing which has
//! just been replaced would write to a file without a name; it must look again. The kernel does so once: whoever has been
//! sent to look again finds a file that stays for a while.

use crate::fs::ids::Key;
use crate::mutex::lock;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many are remembered. A file is of interest from its replacement to the end of the opens under way then, and an
/// override is applied once a second at most.
const MOST: usize = 256;

/// How long a name's file is not replaced after a client was sent to look again. Who may write to a file can keep
/// enforcement from it in any case, by keeping it open.
const STAYS: Duration = Duration::from_millis(100);

/// A file that has lost its name, or is about to.
#[derive(Debug)]
struct Nameless {
    file: Key,
    /// The directory that the name was in.
    dir: Key,
    name: Box<CStr>,
    /// When a client was last sent to look again.
    asked: Option<Instant>,
}

/// The files.
#[derive(Debug, Default)]
pub(crate) struct ReplacedFiles {
    any: AtomicBool,
    files: Mutex<VecDeque<Nameless>>,
    /// The names whose files are being edited at this moment.
    edited: Mutex<Vec<(Key, Box<CStr>)>>,
}

/// While it lives, nobody else in this daemon edits the file of a name.
pub(crate) struct Editing<'a> {
    replaced: &'a ReplacedFiles,
    at: (Key, Box<CStr>),
}

impl Drop for Editing<'_> {
    fn drop(&mut self) {
        lock(&self.replaced.edited).retain(|at| *at != self.at);
    }
}

impl ReplacedFiles {
    /// Begins an edit of the file `name` in the directory `dir`; `None` while there is another one, such as that of an
    /// override which a request has found before it was superseded. Each would take the other's file for the old one.
    pub(crate) fn begin(&self, dir: Key, name: &CStr) -> Option<Editing<'_>> {
        let at = (dir, name.into());
        let mut edited = lock(&self.edited);
        if edited.contains(&at) {
            return None;
        }
        edited.push(at.clone());
        Some(Editing { replaced: self, at })
    }

    /// Notes that `file` is about to lose `name` in the directory `dir`.
    pub(crate) fn note(&self, file: Key, dir: Key, name: &CStr) {
        let mut files = lock(&self.files);
        if files.iter().any(|gone| gone.file == file) {
            return;
        }
        if files.len() >= MOST {
            files.pop_front();
        }
        let name = name.into();
        let asked = None;
        files.push_back(Nameless {
            file,
            dir,
            name,
            asked,
        });
        self.any.store(true, Ordering::Release);
    }

    /// True if `file` has been replaced, or almost. No lock as long as nothing ever was.
    pub(crate) fn has(&self, file: &Key) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.files).iter().any(|gone| gone.file == *file)
    }

    /// Notes that a client is sent to look again for what was `file`.
    pub(crate) fn ask_again(&self, file: &Key) {
        let mut files = lock(&self.files);
        for gone in files.iter_mut().filter(|gone| gone.file == *file) {
            gone.asked = Some(Instant::now());
        }
    }

    /// True if a client that was sent to look again for `name` in `dir` may be about to open what it has found.
    pub(crate) fn is_awaited(&self, dir: &Key, name: &CStr) -> bool {
        self.any.load(Ordering::Acquire)
            && lock(&self.files).iter().any(|gone| {
                let lately = gone.asked.is_some_and(|asked| asked.elapsed() < STAYS);
                lately && gone.dir == *dir && *gone.name == *name
            })
    }
}
