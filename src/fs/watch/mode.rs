//! The mode itself: what it holds, and how it is switched on.

use super::again::Again;
use super::counts::WatchCounts;
use super::dirs::WatchedDirs;
use crate::fs::ids::NodeId;
use crate::fs::kernel::Kernel;
use crate::fs::lower::Lower;
use crate::ledger::kept::KeptRecord;
use crate::ledger::table::Table;
use crate::ledger::{Ledger, Region};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};

/// What the kernel keeps, if it is to keep anything.
pub(crate) struct CacheWatch {
    on: OnceLock<On>,
    off: OnceLock<String>,
    table: &'static Table<KeptRecord>,
}

/// The mode, once it is on.
pub(crate) struct On {
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) lower: Arc<Lower>,
    pub(super) inotify: OwnedFd,
    /// Says when something was mounted or unmounted.
    pub(super) mounts: OwnedFd,
    /// Wakes the thread that reads events.
    pub(super) wake: OwnedFd,
    pub(super) table: &'static Table<KeptRecord>,
    /// Records of what a predecessor has had the kernel keep. Those that are added from here on are not among them.
    pub(super) left: Mutex<Vec<u32>>,
    pub(super) dirs: Mutex<WatchedDirs>,
    /// How many directories may be watched.
    pub(super) most: AtomicUsize,
    /// Grows with every batch of events, and with every watch: see [`super::keep::WatchLease`].
    pub(super) seq: AtomicU64,
    /// By device: whether changes there are told of.
    pub(super) places: Mutex<HashMap<u64, bool>>,
    pub(super) asked: Mutex<DropOrders>,
    pub(super) lead: Mutex<Again>,
    /// Threads that wait for their turn, and all.
    pub(super) waiting: AtomicUsize,
    pub(super) threads: AtomicUsize,
    /// A watch could not be had.
    pub(super) failed: AtomicBool,
    pub(crate) counts: WatchCounts,
}

/// What others have asked the reading thread for.
#[derive(Default)]
pub(super) struct DropOrders {
    /// To let go of everything.
    pub(super) all: bool,
    /// To make room for other directories.
    pub(super) room: bool,
    /// To let go of names.
    pub(super) names: Vec<(NodeId, Box<[u8]>)>,
    /// To let go of the pages of symlinks that were born a moment ago.
    pub(super) links: Vec<NodeId>,
    /// To let go again of what others have let go of.
    pub(super) again: Again,
}

impl CacheWatch {
    /// The mode over what a predecessor has left in `ledger`. Nothing is kept before [`CacheWatch::enable`].
    pub(crate) fn over(ledger: &'static Ledger) -> CacheWatch {
        CacheWatch {
            on: OnceLock::new(),
            off: OnceLock::new(),
            table: Box::leak(Box::new(ledger.table(Region::Kept))),
        }
    }

    /// The mode, if it is on.
    pub(crate) fn on(&self) -> Option<&On> {
        self.on.get()
    }

    /// Why it is not on, if it was asked for.
    pub(crate) fn why_off(&self) -> Option<&str> {
        self.off.get().map(String::as_str)
    }

    /// Switches the mode on, with at most `most` watches, before anything is answered.
    ///
    /// # Errors
    /// Why that cannot be, in words; [`CacheWatch::why_off`] says the same from then on.
    pub(crate) fn enable(
        &self,
        kernel: Arc<dyn Kernel>,
        lower: Arc<Lower>,
        most: usize,
    ) -> Result<(), String> {
        let on = WatchDescriptors::open().map(|had| On {
            kernel,
            lower,
            inotify: had.inotify,
            mounts: had.mounts,
            wake: had.wake,
            table: self.table,
            left: Mutex::new(self.table.used().map(|(number, _)| number).collect()),
            dirs: Mutex::default(),
            most: AtomicUsize::new(most),
            seq: AtomicU64::new(1),
            places: Mutex::default(),
            asked: Mutex::default(),
            lead: Mutex::default(),
            waiting: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            counts: WatchCounts::default(),
        });
        match on {
            Ok(on) => {
                let _ = self.on.set(on);
                Ok(())
            }
            Err(why) => {
                self.say_off(why.clone());
                Err(why)
            }
        }
    }

    /// Says why the mode is not on.
    pub(crate) fn say_off(&self, why: String) {
        let _ = self.off.set(why);
    }

    /// Whether this process could watch anything, before the kernel is told that it will.
    ///
    /// # Errors
    /// Why not, in words.
    pub(crate) fn can_be_had() -> Result<(), String> {
        WatchDescriptors::open().map(drop)
    }
}

/// What the mode needs.
struct WatchDescriptors {
    inotify: OwnedFd,
    mounts: OwnedFd,
    wake: OwnedFd,
}

impl WatchDescriptors {
    fn open() -> Result<WatchDescriptors, String> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).map_err(|errno| match errno {
            Errno::MFILE => format!(
                "no inotify instance can be had ({errno}): raise the sysctl fs.inotify.max_user_instances"
            ),
            errno => format!("no inotify instance can be had ({errno})"),
        })?;
        let path = c"/proc/self/mountinfo";
        let mounts = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mounts = mounts.map_err(|errno| {
            format!("/proc/self/mountinfo cannot be opened ({errno}): mount /proc before the start")
        })?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(WatchDescriptors {
            inotify,
            mounts,
            wake: wake.map_err(|errno| format!("eventfd: {errno}"))?,
        })
    }
}

impl On {
    /// Has the reading thread do what it is asked for.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}
