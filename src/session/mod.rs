//! One connection to the kernel: the handshake, the workers, and exactly one answer to every request.
//!
//! Knows descriptors and threads, never a path.

mod aside;
mod attend;
#[cfg(test)]
mod fake;
mod handshake;
mod interrupts;
pub mod meter;
mod observe;
mod panics;
mod serve;
mod turns;
mod waiters;
mod worker;

pub use attend::Way;
pub use handshake::{HandshakeError, handshake};
pub use observe::{Observer, Observers, Times};
pub use serve::{Outcome, serve};
pub use waiters::{MAX_LOCK_WAITERS, Waiters};
pub use worker::Buffer;

use crate::fs::Fs;
use aside::Pool;
use etcfs_proto::init::Agreed;
use interrupts::Interrupts;
use meter::{InFlight, Meters, Waker};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use rustix::thread::CpuSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use turns::Turns;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The file system was unmounted, and its last user is gone.
    Unmounted,
    /// The connection was aborted (`/sys/fs/fuse/connections`, or `umount -f`).
    Aborted,
    /// The device could not be read any more.
    Failed(io::Errno),
}

/// A connection that has been agreed on, and what it serves.
pub struct Session {
    dev: Arc<OwnedFd>,
    /// The tree.
    pub fs: Fs,
    /// What INIT agreed on.
    pub agreed: Agreed,
    /// Who watches the traffic.
    pub observers: Observers,
    pool: Pool,
    /// What the threads count.
    pub meters: Meters,
    /// Wakes the watchdog.
    pub waker: Waker,
    interrupts: Interrupts,
    /// Requests that wait for a lock.
    pub waiters: Arc<Waiters>,
    running: AtomicUsize,
    ended: OwnedFd,
}

impl Session {
    /// A session over `dev`, whose INIT has been answered.
    ///
    /// # Errors
    /// What `eventfd(2)` answers.
    pub fn new(
        dev: OwnedFd,
        fs: Fs,
        agreed: Agreed,
        observer: Option<Arc<dyn Observer>>,
    ) -> io::Result<Arc<Session>> {
        panics::install();
        let observers = Observers::default();
        if let Some(observer) = observer {
            observers.add(observer);
        }
        Ok(Arc::new(Session {
            dev: Arc::new(dev),
            fs,
            agreed,
            observers,
            pool: Pool::default(),
            meters: Meters::default(),
            waker: Waker::default(),
            interrupts: Interrupts::default(),
            waiters: Arc::default(),
            running: AtomicUsize::new(0),
            ended: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    /// The device.
    pub fn dev(&self) -> BorrowedFd<'_> {
        self.dev.as_fd()
    }

    /// Lets the kernel read and write lower files itself, if INIT agreed on that; tries it on both base directories,
    /// so that what speaks against it is said now.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn pass_through(self: &Arc<Session>) -> std::io::Result<()> {
        let backing = &self.fs.backing;
        if !self.agreed.passthrough {
            backing.refuse(
                None,
                ": the kernel does not offer it (Linux 6.9 or newer does)",
            );
            return Ok(());
        }
        backing.enable(self.dev.clone(), self.agreed.max_stack_depth);
        self.fs.try_out_backing();
        let session = self.clone();
        std::thread::Builder::new()
            .name("etcfs-sweep".into())
            .stack_size(64 * 1024)
            .spawn(move || session.fs.sweep_backing())
            .map(drop)
    }

    /// What is being worked on, and what has waited longest for a thread. Requests that wait for a lock are not among them.
    pub fn in_flight(&self) -> Vec<InFlight> {
        let mut requests = self.meters.in_flight();
        requests.extend(self.pool.oldest_waiting());
        requests
    }

    /// Readable once no worker runs any more.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Starts `threads` workers, by default one for each CPU that the process may use, pinned to it, so that a request can
    /// be answered on the CPU of its client. All of them read the one descriptor; a clone of it would die with its
    /// thread's requests.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(self: &Arc<Session>, threads: Option<usize>) -> std::io::Result<()> {
        let cpus = allowed_cpus();
        let count = threads.unwrap_or(cpus.len()).max(1);
        let cpu = |index: usize| cpus.get(index % cpus.len().max(1)).copied();
        let turns = Turns::new((0..count).map(cpu));
        self.running.fetch_add(count, Ordering::AcqRel);
        for index in 0..count {
            let session = self.clone();
            let (turns, cpu) = (turns.clone(), cpu(index));
            let started = std::thread::Builder::new()
                .name(format!("etcfs-{index}"))
                .stack_size(256 * 1024)
                .spawn(move || {
                    let ended = worker::run(&session, cpu, turns.of(index));
                    turns.end();
                    session.worker_ended(ended);
                });
            if let Err(error) = started {
                self.running.fetch_sub(count - index, Ordering::AcqRel);
                return Err(error);
            }
        }
        std::thread::Builder::new()
            .name("etcfs-turns".into())
            .stack_size(64 * 1024)
            .spawn(move || turns.follow())
            .map(drop)
    }

    fn worker_ended(&self, why: Ended) {
        if let Ended::Failed(errno) = why {
            crate::log::error(format_args!("reading /dev/fuse: {errno}; this worker ends"));
        }
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = io::write(&self.ended, &1_u64.to_ne_bytes());
        }
    }
}

/// The CPUs that this process may run on.
fn allowed_cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}
