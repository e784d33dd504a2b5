//! Backing ids: which lower files the kernel reads and writes itself.
//!
//! The kernel takes one registered file per inode at a time (`fs/fuse/iomode.c`, Linux 6.9): an open with another id,
//! or without one while an id is in use, fails with EIO, and so does an open with one while pages of the file are
//! cached. So every node decides once, when its first open comes, and every later open follows until all are closed.
//!
//! Where nobody asked for passthrough, and the daemon may register files all the same, global files have ids for their
//! mappings alone (`FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO`): reads and writes come to the daemon, and mmap(2) maps the lower
//! file itself. Each mount would have pages of its own otherwise, and programs of two strata that share memory through a
//! mapped file (SQLite's WAL mode) would not see each other's stores.
//!
//! An id costs an open and an ioctl, so a file's id stays for a moment after its last close, within a bound. It pins
//! the file's blocks; it goes when the kernel forgets the inode, which it does at once when the last name is removed,
//! and otherwise after [`IDLE`].

mod registry;

pub use registry::{Reach, Reason, Registry};

use super::Fs;
use super::ids::NodeId;
use super::ids::Side;
use super::node::Node;
use super::stat::Stat;
use crate::mutex::lock;
use crate::sys::dev;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long an id is kept after its last use, at least; at most twice that.
pub const IDLE: Duration = Duration::from_secs(1);

/// How many ids may be kept without a use.
const KEPT: usize = 512;

/// A registered lower file. Dropping it gives the id back.
struct Registered {
    id: u32,
    dev: Arc<OwnedFd>,
    count: Arc<AtomicUsize>,
    /// The descriptor that was opened to be registered. `None`: a client's handle was registered, whose description the
    /// kernel then keeps open, for writing perhaps, so such an id ends with its last open.
    anchor: Option<OwnedFd>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        // The connection may be gone already, and its ids with it.
        let _ = dev::backing_close(self.dev.as_fd(), self.id);
    }
}

/// The passthrough state of one node, kept with its handles.
#[derive(Default)]
pub struct Backing {
    registered: Option<Registered>,
    /// Opens that use the id.
    passed: u32,
    /// Opens whose reads and writes come to the daemon.
    plain: u32,
    /// In the list of ids to be looked at by [`Fs::sweep_backing`].
    listed: bool,
    /// Used since it was last looked at.
    used: bool,
}

impl Backing {
    /// No id, and nothing open.
    pub const NONE: Backing = Backing {
        registered: None,
        passed: 0,
        plain: 0,
        listed: false,
        used: false,
    };

    /// True if there is nothing to remember.
    pub fn is_idle(&self) -> bool {
        self.registered.is_none() && self.opens() == (0, 0) && !self.listed
    }

    /// The id in force.
    pub fn id(&self) -> Option<u32> {
        self.registered.as_ref().map(|r| r.id)
    }

    /// A descriptor of the file that stands for the opens that have none of their own; it may be `O_PATH`.
    pub fn anchor(&self) -> Option<BorrowedFd<'_>> {
        self.registered.as_ref()?.anchor.as_ref().map(AsFd::as_fd)
    }

    /// Opens in force: with an id, and without.
    pub fn opens(&self) -> (u32, u32) {
        (self.passed, self.plain)
    }

    /// Counts one more open with the id, if there is one.
    fn join(&mut self, reach: Reach) -> Option<Io> {
        let id = self.id()?;
        self.passed += 1;
        self.used = true;
        Some(match reach {
            Reach::Everything => Io::Passthrough(id),
            Reach::GlobalMappings => Io::Mapped(id),
        })
    }

    fn plain(&mut self) -> Io {
        self.plain += 1;
        Io::Plain
    }
}

/// What an open has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// The kernel reads and writes the lower file through this id.
    Passthrough(u32),
    /// Reads and writes come to the daemon; the kernel maps the lower file through this id.
    Mapped(u32),
    /// Reads and writes come to the daemon, and mappings are of pages of this mount.
    Plain,
}

/// What a first open offers for registration.
pub enum Candidate<'a> {
    /// A descriptor opened for nothing else.
    Anchor(OwnedFd),
    /// The descriptor of the client's handle.
    Handle(BorrowedFd<'a>),
}

impl Fs {
    /// Tries on the base directories whose files are to be registered whether they can be.
    pub fn try_out_backing(&self) {
        for side in [Side::Local, Side::Global] {
            let base = self.base(side);
            if self.backing.wants(side) {
                self.backing.try_out(base.dir.as_fd(), base.dev);
            }
        }
    }

    /// Decides how an open of `node` is served, when the node has an id in force or plain opens already; `None` if
    /// this open is the first and may be passed through: then the caller comes back with [`Fs::open_first`].
    pub fn open_like_others(&self, node: &Node) -> Option<Io> {
        let mut handles = node.handles();
        let backing = &mut handles.backing;
        match self.backing.reach_of(node) {
            Some(reach) if backing.plain == 0 => backing.join(reach),
            _ => Some(backing.plain()),
        }
    }

    /// Decides how an append-only file is opened: plainly. A client that has one open for reading and appending could
    /// overwrite it through a shared mapping of the lower file, which mmap(2) refuses natively only because it sees the
    /// attribute on the inode (`do_mmap`, mm/mmap.c), and on that of the mount there is none. Only while the file is open
    /// with an id, from before it got the attribute, this open has to follow.
    pub fn open_append_only(&self, node: &Node) -> Io {
        let mut handles = node.handles();
        let backing = &mut handles.backing;
        if backing.passed > 0
            && let Some(reach) = self.backing.reach_of(node)
            && let Some(io) = backing.join(reach)
        {
            return io;
        }
        let kept = backing.registered.take();
        let io = backing.plain();
        drop(handles);
        drop(kept);
        io
    }

    /// Registers `file` for the first open of `node`, unless another open was faster, which this one then follows.
    ///
    /// # Errors
    /// EBADF when the kernel wants a descriptor that is really open ([`Fs::pins_for_backing`] tells so from then on).
    /// Every other failure makes the open a plain one.
    pub fn open_first(&self, node: &Node, file: Candidate<'_>) -> Result<Io, Errno> {
        let mut handles = node.handles();
        let backing = &mut handles.backing;
        let Some(reach) = self.backing.reach_of(node).filter(|_| backing.plain == 0) else {
            return Ok(backing.plain());
        };
        if let Some(io) = backing.join(reach) {
            return Ok(io);
        }
        let pinned = matches!(file, Candidate::Anchor(_));
        match self.backing.register(file, node.key.dev) {
            Ok(registered) => {
                backing.registered = Some(registered);
                Ok(backing.join(reach).unwrap_or(Io::Plain))
            }
            Err(Errno::BADF)
                if pinned && !self.backing.wants_open.swap(true, Ordering::Relaxed) =>
            {
                Err(Errno::BADF)
            }
            Err(_) => Ok(backing.plain()),
        }
    }

    /// True if an `O_PATH` descriptor is enough to register a file (Linux 6.12).
    pub fn pins_for_backing(&self) -> bool {
        !self.backing.wants_open.load(Ordering::Relaxed)
    }

    /// Ends one open of `node`. The last one with an id leaves it for the next open to come, within a bound.
    pub fn end_open(&self, node: &Node, passed: bool) {
        let mut ended = None;
        {
            let mut handles = node.handles();
            let backing = &mut handles.backing;
            if !passed {
                backing.plain = backing.plain.saturating_sub(1);
                return;
            }
            backing.passed = backing.passed.saturating_sub(1);
            if backing.passed > 0 {
                return;
            }
            if backing.anchor().is_none() {
                ended = backing.registered.take();
            } else if backing.listed {
                return;
            } else {
                backing.listed = true;
            }
        }
        if ended.is_none() {
            self.list_backing(node.id);
        }
    }

    fn list_backing(&self, id: NodeId) {
        let Some(kept) = self.backing.kept.get() else {
            return;
        };
        if let Some(displaced) = kept.force_push(id) {
            self.retire_backing(displaced, true);
        }
        if !self.backing.sweeping.swap(true, Ordering::AcqRel) {
            let _guard = lock(&self.backing.sweep.0);
            self.backing.sweep.1.notify_one();
        }
    }

    /// Gives back the id of a node that nobody has open and, unless `displaced`, nobody has used lately.
    fn retire_backing(&self, id: NodeId, displaced: bool) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let mut again = false;
        let retired = {
            let mut handles = node.handles();
            let backing = &mut handles.backing;
            let unlinked = |fd| Stat::of(fd).is_ok_and(|stat| stat.0.stx_nlink == 0);
            if backing.passed > 0 {
                // It is listed again when it is closed.
                backing.listed = false;
                None
            } else if backing.used && !displaced && !backing.anchor().is_some_and(unlinked) {
                backing.used = false;
                again = true;
                None
            } else {
                backing.listed = false;
                backing.registered.take()
            }
        };
        drop(retired);
        if again {
            self.list_backing(id);
        }
    }

    /// Gives back ids that have not been used for [`IDLE`]; returns at the end of the process only. Sleeps without a
    /// timer while no id is kept.
    pub fn sweep_backing(&self) {
        let Some(kept) = self.backing.kept.get() else {
            return;
        };
        loop {
            {
                let mut guard = lock(&self.backing.sweep.0);
                while !self.backing.sweeping.load(Ordering::Acquire) {
                    guard = self
                        .backing
                        .sweep
                        .1
                        .wait(guard)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            std::thread::sleep(IDLE);
            for _ in 0..kept.len() {
                let Some(id) = kept.pop() else { break };
                self.retire_backing(id, false);
            }
            if kept.is_empty() {
                self.backing.sweeping.store(false, Ordering::Release);
                // One that was listed in between has not woken anybody.
                if !kept.is_empty() {
                    self.backing.sweeping.store(true, Ordering::Release);
                }
            }
        }
    }
}
