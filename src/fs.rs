//! The model: nodes, handles, sides and rules over two lower directories. Nothing here knows an opcode or a reply.

pub mod asker;
pub mod attributes;
pub mod backing;
pub mod budget;
pub mod climb;
pub mod closing;
pub mod config;
pub mod config_handle;
pub mod cross;
pub mod dirs;
pub mod enforce;
pub mod forgotten;
pub mod grants;
pub mod handle;
pub mod held;
pub mod ids;
pub mod inject;
pub mod journal;
pub mod known;
pub mod listing;
pub mod locks;
pub mod made;
pub mod node;
pub mod object;
pub mod open;
pub mod rules;
pub mod staging;
pub mod stat;
pub mod tree;
pub mod virtual_file;
pub mod whereabouts;

use arc_swap::{ArcSwap, Guard};
use dirs::DirClock;
use ids::{NodeId, Side};
use journal::Journal;
use node::Nodes;
use rules::Rules;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use stat::Stat;
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A lower base directory, taken before mounting.
pub struct Base {
    /// The directory, opened for reading where that is allowed.
    pub dir: Arc<OwnedFd>,
    /// Its device number.
    pub dev: u64,
}

impl Base {
    /// Takes `fd`, which may be `O_PATH`.
    ///
    /// # Errors
    /// ENOTDIR, EACCES.
    pub fn new(fd: &OwnedFd) -> Result<Base, Errno> {
        let dir = tree::open_dir(fd.as_fd(), c".")?;
        let dev = Stat::of(dir.as_fd())?.dev();
        Ok(Base {
            dir: Arc::new(dir),
            dev,
        })
    }
}

/// What [`Settings::max_cross_copy`] is unless the command line says otherwise: 1 MiB.
pub const MAX_CROSS_COPY: u64 = 1 << 20;

/// Texts in place of files, by path.
pub type Sources = HashMap<Box<[u8]>, Arc<[u8]>>;

/// What the daemon was told at start.
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
}

/// One mounted tree.
pub struct Fs {
    /// Known nodes.
    pub nodes: Nodes,
    /// The clients' locks.
    pub locks: Arc<locks::Locks>,
    /// What the daemon was told at start.
    pub settings: Settings,
    /// The time that ordinary users' copies across sides may take.
    pub copies: cross::Share,
    /// Reads must leave access times alone, and the mounts of the sides do not see to it: files are opened so.
    pub keeps_access_times: bool,
    /// What tells the file handles of this daemon from those of an earlier one, whose node numbers were the same.
    pub generation: u32,
    /// What files give to who runs or opens them.
    pub grants: grants::Grants,
    local: Base,
    global: Base,
    /// How the kernel is told what it must not keep.
    pub notices: Arc<attributes::Notices>,
    /// Which files the kernel reads and writes itself.
    pub backing: backing::Registry,
    clock: DirClock,
    closing: closing::Closing,
    /// How many files and directories the clients have open.
    pub descriptors: budget::Descriptors,
    unnamed: held::Unnamed,
    rules: ArcSwap<Rules>,
    config: Mutex<config::Config>,
    /// Held by whoever changes the configuration, from reading sources to editing files.
    changing: Mutex<()>,
    /// The version of the rules in force.
    version: AtomicU64,
    next_handle: AtomicU64,
    config_handles: Mutex<handle::Handles>,
    journal: Journal,
    /// Files that enforcement has put others in the place of.
    replaced: enforce::Replaced,
    /// In place of the files that inject overrides name: see [`Fs::make_up_sources`].
    sources: Option<Sources>,
}

/// How many files and directories the clients may have open, as a multiple of what directories in use may hold, unless
/// [`Fs::allow_files`] says otherwise.
const OPENS: usize = 3;

impl Fs {
    /// A tree over the two base directories, without rules.
    ///
    /// # Errors
    /// What opening and looking at them answers.
    pub fn new(local: Base, global: Base, settings: Settings) -> Result<Fs, Errno> {
        let key = Stat::of(local.dir.as_fd())?.key(Side::Local);
        let root = tree::open_dir(local.dir.as_fd(), c".")?;
        crate::sys::xattr::prepare();
        let config = config::Config::new();
        Ok(Fs {
            nodes: Nodes::new(key, root),
            notices: Arc::default(),
            backing: backing::Registry::default(),
            locks: Arc::new(locks::Locks::new(settings.dir_limit)),
            closing: closing::Closing::default(),
            clock: DirClock::new(settings.dir_limit),
            descriptors: budget::Descriptors::new(settings.dir_limit * OPENS),
            unnamed: held::Unnamed::new(settings.dir_limit / 8),
            settings,
            keeps_access_times: false,
            generation: 0,
            grants: grants::Grants::default(),
            copies: cross::Share::default(),
            local,
            global,
            rules: ArcSwap::from_pointee(config.compile(1)),
            config: Mutex::new(config),
            changing: Mutex::new(()),
            version: AtomicU64::new(1),
            next_handle: AtomicU64::new(1),
            config_handles: Mutex::new(handle::Handles::default()),
            journal: Journal::default(),
            replaced: enforce::Replaced::default(),
            sources: None,
        })
    }

    /// Lets the clients have files open up to four fifths of the `files` that the process may have open, as directories give
    /// their descriptors up to files.
    pub fn allow_files(&mut self, files: usize) {
        self.descriptors = budget::Descriptors::new(files / 5 * 4);
    }

    /// The base directory of a side.
    pub fn base(&self, side: Side) -> &Base {
        match side {
            Side::Local => &self.local,
            Side::Global => &self.global,
        }
    }

    /// The rules in force. A request that asks once sees one version throughout (contract D35).
    pub fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// What enforcement has done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A number for a new handle.
    pub fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// The open handles of the configuration file.
    pub fn config_handles(&self) -> MutexGuard<'_, handle::Handles> {
        crate::mutex::lock(&self.config_handles)
    }

    /// True for the name of the configuration file in the root (contract D23).
    pub fn is_config(&self, parent: NodeId, name: &CStr) -> bool {
        parent == NodeId::ROOT && name == CONFIG_NAME
    }

    /// The inode number to show. Two lower file systems may use the same one (contract B14): a device other than the
    /// local base's is folded into the upper bits.
    pub fn ino(&self, dev: u64, ino: u64) -> u64 {
        if dev == self.local.dev {
            return ino;
        }
        let fold = dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        ino ^ (fold & 0xffff_0000_0000_0000)
    }
}

/// The name of the configuration file (contract section 2).
pub const CONFIG_NAME: &CStr = c".bedrock-config-filesystem";

/// Its inode number: no lower file system's (bit 63 is set only on numbers of a second device, with its bits folded in).
pub const CONFIG_INO: u64 = 0x6574_6366_7300_0002;
