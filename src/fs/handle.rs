//! Open files and directories, kept with their node.
//!
//! A handle owns a descriptor opened with the client's own flags, so that reads, writes, truncation and `fstat` act on
//! the object that was opened, whatever its name has become since.

use super::backing::Backing;
use super::config_handle::ConfigHandle;
use super::listing::ahead::Ahead;
use super::rules::{Place, Rules};
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

/// An open regular file.
pub struct File {
    /// The lower file.
    pub fd: OwnedFd,
    /// The client's flags of open(2).
    pub flags: u32,
    /// It is open with the node's backing id.
    pub registered: bool,
}

impl File {
    /// True if the descriptor can be written through.
    pub fn is_writable(&self) -> bool {
        self.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32
    }
}

/// An open directory.
pub struct Dir {
    /// The lower directory, with a position of its own.
    pub fd: OwnedFd,
    /// What a rule adds to the listing or hides from it: the rules in force at open, and the directory's place.
    pub merge: Option<(Arc<Rules>, Place)>,
    /// What was read through `fd` and may still be asked for.
    pub ahead: Mutex<Ahead>,
}

/// Everything open on one node, by handle number.
#[derive(Default)]
pub struct Handles {
    files: BTreeMap<u64, Arc<File>>,
    dirs: BTreeMap<u64, Arc<Dir>>,
    configs: BTreeMap<u64, Arc<Mutex<ConfigHandle>>>,
    /// How the node's opens are served.
    pub backing: Backing,
    /// How many of `files` are open for writing.
    writers: usize,
    /// Opens on their way for which the kernel keeps no attributes: see [`super::attributes`].
    pub opening: usize,
}

/// What stands for the handles of a node that has none.
static NONE: Handles = Handles {
    files: BTreeMap::new(),
    dirs: BTreeMap::new(),
    configs: BTreeMap::new(),
    backing: Backing::NONE,
    writers: 0,
    opening: 0,
};

/// The handles of a node, locked. They take memory from the first change on until nothing is left of them.
pub struct HandlesGuard<'a>(MutexGuard<'a, Option<Box<Handles>>>);

impl<'a> HandlesGuard<'a> {
    /// The handles behind a lock.
    pub fn new(locked: MutexGuard<'a, Option<Box<Handles>>>) -> HandlesGuard<'a> {
        HandlesGuard(locked)
    }
}

impl Deref for HandlesGuard<'_> {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for HandlesGuard<'_> {
    fn deref_mut(&mut self) -> &mut Handles {
        self.0.get_or_insert_default()
    }
}

impl Drop for HandlesGuard<'_> {
    fn drop(&mut self) {
        if self
            .0
            .as_ref()
            .is_some_and(|all| all.is_empty() && all.opening == 0 && all.backing.is_idle())
        {
            *self.0 = None;
        }
    }
}

impl Handles {
    /// The file handle `fh`.
    pub fn file(&self, fh: u64) -> Option<Arc<File>> {
        self.files.get(&fh).cloned()
    }

    /// Any open file of the node: what `fstat` and `fchmod` act on, since the kernel sends those without a handle.
    pub fn any_file(&self) -> Option<Arc<File>> {
        self.files.first_key_value().map(|(_, file)| file.clone())
    }

    /// True if a client has the file open for writing.
    pub fn any_writable(&self) -> bool {
        self.writers > 0
    }

    /// The directory handle `fh`.
    pub fn dir(&self, fh: u64) -> Option<Arc<Dir>> {
        self.dirs.get(&fh).cloned()
    }

    /// The handle `fh` of the configuration file.
    pub fn config(&self, fh: u64) -> Option<Arc<Mutex<ConfigHandle>>> {
        self.configs.get(&fh).cloned()
    }

    /// Adds an open file.
    pub fn add_file(&mut self, fh: u64, file: File) {
        self.writers += usize::from(file.is_writable());
        self.files.insert(fh, Arc::new(file));
    }

    /// Adds an open directory.
    pub fn add_dir(&mut self, fh: u64, dir: Dir) {
        self.dirs.insert(fh, Arc::new(dir));
    }

    /// Adds an open configuration file.
    pub fn add_config(&mut self, fh: u64, handle: ConfigHandle) {
        self.configs.insert(fh, Arc::new(Mutex::new(handle)));
    }

    /// Takes a file handle out; the descriptor closes when its last user is done.
    pub fn remove_file(&mut self, fh: u64) -> Option<Arc<File>> {
        let file = self.files.remove(&fh)?;
        self.writers -= usize::from(file.is_writable());
        Some(file)
    }

    /// Takes a directory handle out.
    pub fn remove_dir(&mut self, fh: u64) -> Option<Arc<Dir>> {
        self.dirs.remove(&fh)
    }

    /// Takes a handle of the configuration file out.
    pub fn remove_config(&mut self, fh: u64) -> Option<Arc<Mutex<ConfigHandle>>> {
        self.configs.remove(&fh)
    }

    /// How many handles are open.
    pub fn len(&self) -> usize {
        self.files.len() + self.dirs.len() + self.configs.len()
    }

    /// True when nothing is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
