//! The lower tree: both base directories, what is known of what lies below them, and the one way to it.
//!
//! [`resolve`] goes from a directory and a name of the mount to a lower directory and a side, [`known`] from what stands
//! there to its node, [`pin`] and [`open_file`] from a node back to the very inode, whatever its name leads to by now. What
//! that takes is kept within bounds: descriptors of directories in use ([`dir_cache`]) and of objects that have lost their
//! names ([`orphans`]).

pub mod by_number;
pub mod dir_cache;
pub mod hold;
pub mod known;
pub mod open_file;
pub mod orphans;
pub mod paths;
pub mod pin;
pub mod replaced;
pub mod resolve;
pub mod sent_back;
pub mod walk;

use super::begin::NotBegun;
use super::ids::Side;
use super::node::Nodes;
use super::rules::{Rules, Ruling, side_of};
use super::settings::Settings;
use super::stat::Stat;
use crate::ledger::Ledger;
use crate::sys::inherit::Inherited;
use arc_swap::{ArcSwap, Guard};
use dir_cache::DirClock;
use orphans::Orphans;
use replaced::ReplacedFiles;
use rustix::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use sent_back::SentBack;
use std::sync::Arc;
use walk::open_dir;

/// A lower base directory, taken before mounting.
pub struct BaseDir {
    /// The directory, opened for reading where that is allowed.
    pub(crate) dir: Arc<OwnedFd>,
    /// Its device number.
    pub(crate) dev: u64,
}

impl BaseDir {
    /// Takes `fd`, which may be `O_PATH`.
    ///
    /// # Errors
    /// ENOTDIR, EACCES.
    pub fn new(fd: &OwnedFd) -> Result<BaseDir, Errno> {
        BaseDir::of(open_dir(fd.as_fd(), c".")?)
    }

    /// Takes `dir`, which was opened by [`BaseDir::new`].
    ///
    /// # Errors
    /// What looking at it answers.
    pub(crate) fn of(dir: OwnedFd) -> Result<BaseDir, Errno> {
        let dev = Stat::of(dir.as_fd())?.dev();
        Ok(BaseDir {
            dir: Arc::new(dir),
            dev,
        })
    }

    /// Leaves its descriptor open, for whoever is told the number.
    pub(crate) fn leave(self) -> RawFd {
        let dir = Arc::try_unwrap(self.dir);
        dir.map_or(-1, IntoRawFd::into_raw_fd)
    }
}

/// The lower tree.
pub struct Lower {
    /// Known nodes.
    pub nodes: Nodes,
    /// Files that enforcement has put others in the place of.
    pub(crate) replaced: ReplacedFiles,
    /// Who was sent back to look a name up again.
    pub(crate) sent_back: SentBack,
    local: BaseDir,
    global: BaseDir,
    rules: ArcSwap<Rules>,
    exact_globals: bool,
    keeps_access_times: bool,
    clock: DirClock,
    orphans: Orphans,
}

impl Lower {
    /// The tree over the two base directories, under `rules`, with the nodes that `ledger` says are known.
    ///
    /// # Errors
    /// What opening and looking at the directories answers; what in the ledger contradicts itself.
    pub(crate) fn over(
        ledger: &'static Ledger,
        inherited: &Inherited,
        local: BaseDir,
        global: BaseDir,
        settings: &Settings,
        rules: Rules,
    ) -> Result<Lower, NotBegun> {
        let key = Stat::of(local.dir.as_fd())?.key(Side::Local);
        let root = open_dir(local.dir.as_fd(), c".")?;
        let (nodes, holding) = Nodes::over(ledger, inherited, key, root)?;
        let lower = Lower {
            nodes,
            replaced: ReplacedFiles::default(),
            sent_back: SentBack::default(),
            local,
            global,
            rules: ArcSwap::from_pointee(rules),
            exact_globals: settings.exact_globals,
            keeps_access_times: settings.keeps_access_times,
            clock: DirClock::new(settings.dir_limit),
            orphans: Orphans::new(settings.dir_limit / 8),
        };
        for node in holding {
            match node.is_dir() || node.key().is_ambiguous() {
                true => lower.clock.keep_on(&lower.nodes, node.id),
                false => lower.orphans.note(&lower.nodes, node.id),
            }
        }
        Ok(lower)
    }

    /// The base directory of a side.
    pub(crate) fn base(&self, side: Side) -> &BaseDir {
        match side {
            Side::Local => &self.local,
            Side::Global => &self.global,
        }
    }

    /// True if that is the file system of one of the two base directories.
    pub(crate) fn is_of_a_side(&self, dev: u64) -> bool {
        [self.local.dev, self.global.dev].contains(&dev)
    }

    /// The inode number to show. Two lower file systems may use the same one (contract B14): a device other than the
    /// local base's is folded into the upper bits.
    pub(crate) fn ino(&self, dev: u64, ino: u64) -> u64 {
        if dev == self.local.dev {
            return ino;
        }
        let fold = dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        ino ^ (fold & 0xffff_0000_0000_0000)
    }

    /// The rules in force. A request that asks once sees one version throughout (contract D35).
    pub(crate) fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Puts `rules` in force, and returns those that were.
    pub(crate) fn put_in_force(&self, rules: Rules) -> Arc<Rules> {
        self.rules.swap(Arc::new(rules))
    }

    /// The side that `rules`, in force or not, put a path on, of which they say `found`.
    pub(crate) fn side_of(&self, rules: &Rules, found: &Ruling<'_>) -> Side {
        side_of(found, rules, self.exact_globals)
    }
}
