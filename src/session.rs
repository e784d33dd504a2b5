//! One connection to the kernel: the handshake, the workers, and exactly one answer to every request.
//!
//! Knows descriptors and threads, never a path.

mod aside;
mod attend;
mod crew;
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
use crate::fs::backing::registry::Reach;
use aside::Pool;
use crew::Crew;
use etcfs_proto::init::Agreed;
use interrupts::Interrupts;
use meter::{InFlight, Meters, Waker};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use rustix::thread::CpuSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use turns::Turns;
use worker::Place;

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
    crew: Crew,
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
        let dev = Arc::new(dev);
        fs.notices.enable(dev.clone());
        Ok(Arc::new(Session {
            dev,
            fs,
            agreed,
            observers,
            pool: Pool::default(),
            crew: Crew::default(),
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

    /// Lets the kernel do with lower files itself what `reach` says, if INIT agreed on that.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn pass_through(self: &Arc<Session>, reach: Reach) -> std::io::Result<()> {
        let agreed = self
            .agreed
            .passthrough
            .then_some(self.agreed.max_stack_depth);
        if !self.fs.passthrough.enable(self.dev.clone(), reach, agreed) {
            return Ok(());
        }
        let session = self.clone();
        std::thread::Builder::new()
            .name("etcfs-sweep".into())
            .stack_size(64 * 1024)
            .spawn(move || session.fs.passthrough.sweep())
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
        let cpu = |index: usize| cpus.get(index % cpus.len().max(1)).copied().flatten();
        let turns = Turns::new((0..count).map(cpu));
        self.running.fetch_add(count, Ordering::AcqRel);
        for index in 0..count {
            if let Err(error) = worker::start(self, Place::Own(turns.of(index))) {
                self.running.fetch_sub(count - index, Ordering::AcqRel);
                return Err(error);
            }
        }
        let (session, watched) = (self.clone(), turns.clone());
        std::thread::Builder::new()
            .name("etcfs-crew".into())
            .stack_size(128 * 1024)
            .spawn(move || crew::watch(&session, &watched))?;
        std::thread::Builder::new()
            .name("etcfs-turns".into())
            .stack_size(64 * 1024)
            .spawn(move || turns.follow())
            .map(drop)
    }

    fn worker_ended(&self, why: Ended) {
        if let Ended::Failed(errno) = why {
            crate::log::error(format_args!(
                "/dev/fuse cannot be read ({errno}); this worker ends"
            ));
        }
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.crew.end();
            let _ = io::write(&self.ended, &1_u64.to_ne_bytes());
        }
    }
}

/// Lets the calling thread run on every CPU that the process may use: a thread that a worker starts is held on that
/// worker's CPU otherwise.
fn unpin() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    // Being somewhere else costs time only.
    let _ = rustix::thread::sched_setaffinity(None, &all);
}

/// The CPUs that this process may run on. Where they cannot be told apart (more of them than fit a mask of 1024), as many
/// times none.
fn allowed_cpus() -> Vec<Option<usize>> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .map(Some)
        .collect();
    match cpus.is_empty() {
        true => vec![None; std::thread::available_parallelism().map_or(1, NonZero::get)],
        false => cpus,
    }
}
