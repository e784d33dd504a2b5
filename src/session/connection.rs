//! A connection that has been agreed on.

use super::crew::Crew;
use super::device::Device;
use super::interrupts::Interrupts;
use super::meter::{Meters, Waker};
use super::observe::{Observer, Observers};
use super::panics;
use super::pool::Pool;
use super::waiters::Waiters;
use crate::fs::Fs;
use etcfs_proto::init::Agreed;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    pub(super) dev: Arc<OwnedFd>,
    /// The tree.
    pub fs: Fs,
    /// What INIT agreed on.
    pub(crate) agreed: Agreed,
    /// Who watches the traffic.
    pub(crate) observers: Observers,
    pub(super) pool: Pool,
    pub(super) crew: Crew,
    /// What the threads count.
    pub(crate) meters: Meters,
    /// Wakes the watchdog.
    pub(crate) waker: Waker,
    pub(super) interrupts: Interrupts,
    /// Requests that wait for a lock.
    pub(crate) waiters: Arc<Waiters>,
    pub(super) running: AtomicUsize,
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
        fs.notices.enable(Arc::new(Device(dev.clone())));
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

    /// The kernel, for what the model asks of it.
    pub(super) fn kernel(&self) -> Arc<Device> {
        Arc::new(Device(self.dev.clone()))
    }

    /// Readable once no worker runs any more.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// A worker has ended, and why.
    pub(super) fn worker_ended(&self, why: Ended) {
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
