//! Handing lower files to the kernel, and why that is not done where it is not.

use super::left::{Left, left, left_to};
use super::registered::{Candidate, Registered};
use crate::fs::ids::NodeId;
use crate::fs::ids::Side;
use crate::fs::kernel::Kernel;
use crate::ledger::backing::{Backed, BackingRecord};
use crate::ledger::header::FirstPage;
use crate::ledger::table::{Slot, Table};
use crate::ledger::{Ledger, Region, Unreadable};
use crate::log;
use crate::mutex::lock;
use crate::sys::creds::registering;
use crate::sys::inherit::Inherited;
use crossbeam_queue::ArrayQueue;
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

/// How many ids may be kept without a use.
const KEPT: usize = 512;

/// `f_type` of procfs (`include/uapi/linux/magic.h`).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// `f_type` of the file systems that let one user use blocks which are kept from others, and know that user by its id:
/// ext2 to ext4 (`ext4_has_free_clusters`) and f2fs (`__allow_reserved_blocks`).
const RESERVING: [u64; 2] = [0xef53, 0xf2f5_2010];

/// One reason why files are served without passthrough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// The device number that it concerns; `None`: the whole mount.
    pub(crate) dev: Option<u64>,
    /// The sentence that was logged.
    pub(crate) text: String,
}

/// What the kernel does with lower files by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It reads, writes and maps all of them.
    Everything,
    /// It maps global ones.
    GlobalMappings,
}

/// What all nodes share.
pub(crate) struct Registry {
    /// What a successor will find of them.
    records: &'static Table<BackingRecord>,
    header: &'static FirstPage,
    /// What a predecessor has left, until there is a kernel.
    left: Mutex<Vec<Left>>,
    kernel: OnceLock<(Arc<dyn Kernel>, Reach)>,
    /// `max_stack_depth` as INIT agreed on it.
    depth: AtomicU32,
    pub(in crate::fs) kept: OnceLock<ArrayQueue<NodeId>>,
    ids: Arc<AtomicUsize>,
    /// The kernel refuses `O_PATH` descriptors (before Linux 6.12).
    pub(in crate::fs) wants_open: AtomicBool,
    /// Whether a file system, by its device number, keeps blocks for a user.
    reserving: Mutex<Vec<(u64, bool)>>,
    /// Something is in `reasons`.
    refused: AtomicBool,
    reasons: Mutex<Vec<Reason>>,
    /// Set while there is something to sweep.
    pub(in crate::fs) sweeping: AtomicBool,
    pub(in crate::fs) sweep: (Mutex<()>, Condvar),
}

impl Registry {
    /// With what `ledger` says was given to the kernel.
    ///
    /// # Errors
    /// What in the ledger contradicts itself.
    pub(crate) fn over(
        ledger: &'static Ledger,
        inherited: &Inherited,
    ) -> Result<Registry, Unreadable> {
        let records: &'static Table<BackingRecord> =
            Box::leak(Box::new(ledger.table(Region::Backing)));
        let left = left(records, inherited).map_err(Unreadable::Broken)?;
        Ok(Registry {
            records,
            header: ledger.header(),
            left: Mutex::new(left),
            kernel: OnceLock::new(),
            depth: AtomicU32::new(0),
            kept: OnceLock::new(),
            ids: Arc::default(),
            wants_open: AtomicBool::new(false),
            reserving: Mutex::default(),
            refused: AtomicBool::new(false),
            reasons: Mutex::default(),
            sweeping: AtomicBool::new(false),
            sweep: Default::default(),
        })
    }

    /// What a predecessor has given to the kernel, as files of this connection, which is [enabled](Registry::enable). What it
    /// was giving or giving back is given back.
    pub(in crate::fs) fn take_up(&self) -> Vec<(NodeId, Registered)> {
        let Some((kernel, _)) = self.kernel.get() else {
            return Vec::new();
        };
        let left = std::mem::take(&mut *lock(&self.left));
        left_to(&**kernel, &left, self.header);
        let given = left.into_iter().filter_map(|left| match left.backed {
            Backed::Given { id, node, .. } => {
                self.ids.fetch_add(1, Ordering::Relaxed);
                let registered = Registered {
                    id,
                    kernel: kernel.clone(),
                    count: self.ids.clone(),
                    record: Some(left.record),
                    anchor: left.anchor,
                };
                Some((NodeId(node), registered))
            }
            Backed::Asked | Backed::Ending(_) => None,
        });
        given.collect()
    }

    /// Lets files of this connection be registered, whose INIT agreed on `max_stack_depth`.
    pub(crate) fn enable(&self, kernel: Arc<dyn Kernel>, reach: Reach, max_stack_depth: u32) {
        self.depth.store(max_stack_depth, Ordering::Relaxed);
        let _ = self.kept.set(ArrayQueue::new(KEPT));
        let _ = self.kernel.set((kernel, reach));
    }

    /// True if passthrough was asked for and agreed on, and nothing has switched it off for the whole mount.
    pub(crate) fn is_on(&self) -> bool {
        self.reach() == Some(Reach::Everything)
    }

    /// What the kernel does by itself where nothing speaks against it; `None`: nothing.
    pub(crate) fn reach(&self) -> Option<Reach> {
        self.kernel
            .get()
            .filter(|_| !self.refuses(None))
            .map(|&(_, reach)| reach)
    }

    /// True if files of `side` are to be registered.
    pub(crate) fn wants(&self, side: Side) -> bool {
        match self.reach() {
            Some(Reach::Everything) => true,
            Some(Reach::GlobalMappings) => side == Side::Global,
            None => false,
        }
    }

    /// What the kernel may do by itself with files of `side` on the file system `dev`; `None`: nothing.
    pub(crate) fn reach_of(&self, side: Side, dev: u64) -> Option<Reach> {
        let may = self.wants(side) && !self.refuses(Some(dev));
        self.reach().filter(|_| may)
    }

    /// How many ids are registered.
    pub(crate) fn ids(&self) -> usize {
        self.ids.load(Ordering::Relaxed)
    }

    /// Why files are served without passthrough, as far as that has come up.
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        lock(&self.reasons).clone()
    }

    /// Says once why something is not passed through, and never tries it again.
    pub(crate) fn refuse(&self, dev: Option<u64>, text: &str) {
        let mut reasons = lock(&self.reasons);
        if reasons.iter().any(|r| r.dev == dev) {
            return;
        }
        match self.kernel.get() {
            Some((_, Reach::GlobalMappings)) => log::info(format_args!(
                "mapped global files are not shared with other strata{text}"
            )),
            _ => log::error(format_args!(
                "passthrough is off{text}; everything works without it"
            )),
        }
        reasons.push(Reason {
            dev,
            text: text.trim_start_matches(": ").to_owned(),
        });
        self.refused.store(true, Ordering::Release);
    }

    pub(in crate::fs) fn refuses(&self, dev: Option<u64>) -> bool {
        self.refused.load(Ordering::Acquire) && lock(&self.reasons).iter().any(|r| r.dev == dev)
    }

    /// Tries on a file without a name whether the kernel passes files of the file system of `dir` through, and says why
    /// if it does not, so that an administrator reads it at start and not at the first slow file.
    pub(crate) fn try_out(&self, dir: BorrowedFd<'_>, dev: u64) {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // A read-only file system has no place for one; its files are found out about as they come.
        if let Ok(fd) = rustix::fs::openat(dir, c".", flags, Mode::from_raw_mode(0o600)) {
            let _ = self.register(NodeId::NOWHERE, Candidate::Handle(fd.as_fd()), dev);
        }
    }

    /// Why the kernel answers ELOOP for `fd`: its file system's depth of stacking has reached `max_stack_depth`
    /// (`fuse_backing_open`, Linux 6.9). That of procfs counts as 2 (`proc_fill_super`), of overlayfs as one more than
    /// that of its deepest layer.
    fn why_too_deep(&self, fd: BorrowedFd<'_>) -> &'static str {
        let kind = rustix::fs::fstatfs(fd).map_or(0, |stat| stat.f_type as u64);
        match (self.depth.load(Ordering::Relaxed), kind) {
            (_, PROC_SUPER_MAGIC) => {
                " for procfs, whose files the kernel passes through at no max_stack_depth"
            }
            (0 | 1, _) => {
                " for a lower file system that is stacked itself (overlayfs): -o max_stack_depth=2 serves it, unless it lies on another stacked one"
            }
            _ => {
                " for a lower file system that is stacked more than once (overlayfs on overlayfs): max_stack_depth=2, which is in force, serves one layer"
            }
        }
    }

    /// True if the file system of `fd`, device `dev`, keeps blocks for a user.
    fn reserves(&self, fd: BorrowedFd<'_>, dev: u64) -> bool {
        let mut known = lock(&self.reserving);
        if let Some(&(_, reserves)) = known.iter().find(|(known, _)| *known == dev) {
            return reserves;
        }
        let kind = rustix::fs::fstatfs(fd).map_or(0, |stat| stat.f_type as u64);
        let reserves = RESERVING.contains(&kind);
        // File systems come and go beneath; a mount rarely meets more than a few.
        known.truncate(15);
        known.insert(0, (dev, reserves));
        reserves
    }

    pub(in crate::fs) fn register(
        &self,
        node: NodeId,
        file: Candidate<'_>,
        dev: u64,
    ) -> Result<Registered, Errno> {
        let (kernel, _) = self.kernel.get().ok_or(Errno::PERM)?;
        let fd = match &file {
            Candidate::Anchor(fd) => fd.as_fd(),
            Candidate::Handle(fd) => *fd,
        };
        let reserves = self.reserves(fd, dev);
        let record = Slot::take(self.records);
        if let Some(record) = &record {
            let anchor = matches!(file, Candidate::Anchor(_)).then(|| fd.as_raw_fd());
            record.ask(node.0, anchor);
        }
        match registering(reserves, || kernel.register(fd)) {
            Ok(id) => {
                if let Some(record) = &record {
                    record.give(id);
                }
                self.header.last_backing.fetch_max(id, Ordering::Relaxed);
                self.ids.fetch_add(1, Ordering::Relaxed);
                Ok(Registered {
                    id,
                    record,
                    kernel: kernel.clone(),
                    count: self.ids.clone(),
                    anchor: match file {
                        Candidate::Anchor(fd) => Some(fd),
                        Candidate::Handle(_) => None,
                    },
                })
            }
            Err(errno) => {
                match errno {
                    Errno::PERM => self.refuse(
                        None,
                        ": the kernel lets only CAP_SYS_ADMIN of the initial user namespace register files",
                    ),
                    Errno::LOOP => self.refuse(Some(dev), self.why_too_deep(fd)),
                    Errno::OPNOTSUPP => self.refuse(
                        Some(dev),
                        " for a lower file system whose files the kernel cannot read by itself",
                    ),
                    // EBADF is about the descriptor, ENOMEM and ENFILE about the moment, EINVAL about one odd file.
                    _ => {}
                }
                Err(errno)
            }
        }
    }
}
