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

use super::backing::Io;
use super::backing::registered::Candidate;
use super::backing::registry::{Reach, Registry};
use super::ids::{NodeId, Side};
use super::kernel::Kernel;
use super::lower::Lower;
use super::node::Node;
use super::stat::Stat;
use crate::mutex::lock;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long an id is kept after its last use, at least; at most twice that.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// Which files the kernel reads and writes itself.
pub(crate) struct Passthrough {
    lower: Arc<Lower>,
    /// What the kernel was given, and why it was not given more.
    pub(crate) registry: Registry,
}

impl Passthrough {
    /// For files of `lower`; nothing is passed through before [`Passthrough::enable`].
    pub(crate) fn over(lower: Arc<Lower>, registry: Registry) -> Passthrough {
        Passthrough { lower, registry }
    }

    /// Lets the kernel, do with lower files itself what `reach` says; tries it on the
    /// base directories, so that what speaks against it is said now. `agreed`: the kernel's `max_stack_depth` if INIT has
    /// agreed on passthrough. False: there is nothing to sweep.
    pub(crate) fn enable(
        &self,
        kernel: Arc<dyn Kernel>,
        reach: Reach,
        agreed: Option<u32>,
    ) -> bool {
        let Some(max_stack_depth) = agreed else {
            if reach == Reach::Everything {
                self.registry.refuse(
                    None,
                    ": the kernel does not offer it (Linux 6.9 or newer does)",
                );
            }
            return false;
        };
        self.registry.enable(kernel, reach, max_stack_depth);
        self.take_up();
        self.try_out();
        true
    }

    /// Gives the nodes the ids that a predecessor has registered for them.
    fn take_up(&self) {
        for (id, registered) in self.registry.take_up() {
            // Of a node that has been forgotten it is given back.
            let Some(node) = self.lower.nodes.get(id) else {
                continue;
            };
            let is_open = {
                let mut handles = node.handles();
                let backing = &mut handles.backing;
                backing.registered = Some(registered);
                backing.listed = backing.passed == 0;
                backing.passed > 0
            };
            if !is_open {
                self.list(id);
            }
        }
    }

    /// Tries on the base directories whose files are to be registered whether they can be.
    fn try_out(&self) {
        for side in [Side::Local, Side::Global] {
            let base = self.lower.base(side);
            if self.registry.wants(side) {
                self.registry.try_out(base.dir.as_fd(), base.dev);
            }
        }
    }

    /// Decides how an open of `node` is served, when the node has an id in force or plain opens already; `None` if
    /// this open is the first and may be passed through: then the caller comes back with [`Passthrough::open_first`].
    pub(crate) fn open_like_others(&self, node: &Node) -> Option<Io> {
        let mut handles = node.handles();
        let backing = &mut handles.backing;
        match self.registry.reach_of(node.side(), node.dev()) {
            Some(reach) if backing.plain == 0 => backing.join(reach),
            _ => Some(backing.plain()),
        }
    }

    /// Decides how an append-only file is opened: plainly. A client that has one open for reading and appending could
    /// overwrite it through a shared mapping of the lower file, which mmap(2) refuses natively only because it sees the
    /// attribute on the inode (`do_mmap`, mm/mmap.c), and on that of the mount there is none. Only while the file is open
    /// with an id, from before it got the attribute, this open has to follow.
    pub(crate) fn open_append_only(&self, node: &Node) -> Io {
        let mut handles = node.handles();
        let backing = &mut handles.backing;
        if backing.passed > 0 {
            let reach = self.registry.reach_of(node.side(), node.dev());
            if let Some(io) = reach.and_then(|reach| backing.join(reach)) {
                return io;
            }
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
    /// EBADF when the kernel wants a descriptor that is really open ([`Passthrough::takes_pins`] tells so from then on).
    /// Every other failure makes the open a plain one.
    pub(crate) fn open_first(&self, node: &Node, file: Candidate<'_>) -> Result<Io, Errno> {
        let mut handles = node.handles();
        let backing = &mut handles.backing;
        let Some(reach) = self
            .registry
            .reach_of(node.side(), node.dev())
            .filter(|_| backing.plain == 0)
        else {
            return Ok(backing.plain());
        };
        if let Some(io) = backing.join(reach) {
            return Ok(io);
        }
        let pinned = matches!(file, Candidate::Anchor(_));
        match self.registry.register(node.id, file, node.dev()) {
            Ok(registered) => {
                backing.registered = Some(registered);
                Ok(backing.join(reach).unwrap_or(Io::Plain))
            }
            Err(Errno::BADF)
                if pinned && !self.registry.wants_open.swap(true, Ordering::Relaxed) =>
            {
                Err(Errno::BADF)
            }
            Err(_) => Ok(backing.plain()),
        }
    }

    /// True if an `O_PATH` descriptor is enough to register a file (Linux 6.12).
    pub(crate) fn takes_pins(&self) -> bool {
        !self.registry.wants_open.load(Ordering::Relaxed)
    }

    /// Ends one open of `node`. The last one with an id leaves it for the next open to come, within a bound.
    pub(crate) fn end_open(&self, node: &Node, passed: bool) {
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
            self.list(node.id);
        }
    }

    fn list(&self, id: NodeId) {
        let Some(kept) = self.registry.kept.get() else {
            return;
        };
        if let Some(displaced) = kept.force_push(id) {
            self.retire(displaced, true);
        }
        if !self.registry.sweeping.swap(true, Ordering::AcqRel) {
            let _guard = lock(&self.registry.sweep.0);
            self.registry.sweep.1.notify_one();
        }
    }

    /// Gives back the id of a node that nobody has open and, unless `displaced`, nobody has used lately.
    fn retire(&self, id: NodeId, displaced: bool) {
        let Some(node) = self.lower.nodes.get(id) else {
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
            self.list(id);
        }
    }

    /// Gives back ids that have not been used for [`IDLE`]; returns at the end of the process only. Sleeps without a
    /// timer while no id is kept.
    pub(crate) fn sweep(&self) {
        let Some(kept) = self.registry.kept.get() else {
            return;
        };
        loop {
            {
                let mut guard = lock(&self.registry.sweep.0);
                while !self.registry.sweeping.load(Ordering::Acquire) {
                    guard = self
                        .registry
                        .sweep
                        .1
                        .wait(guard)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            std::thread::sleep(IDLE);
            for _ in 0..kept.len() {
                let Some(id) = kept.pop() else { break };
                self.retire(id, false);
            }
            if kept.is_empty() {
                self.registry.sweeping.store(false, Ordering::Release);
                // One that was listed in between has not woken anybody.
                if !kept.is_empty() {
                    self.registry.sweeping.store(true, Ordering::Release);
                }
            }
        }
    }
}
