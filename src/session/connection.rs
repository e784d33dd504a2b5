//! A connection that has been agreed on.

use super::crew::Crew;
use super::device::Device;
use super::flights::Flights;
use super::interrupts::Interrupts;
use super::meter::{Meters, Waker};
use super::observe::{Observer, Observers};
use super::panics;
use super::pool::Pool;
use super::waiters::Waiters;
use crate::fs::Fs;
use crate::ledger::Ledger;
use crate::ledger::header::FirstPage;
use crate::ledger::stream::Recordings;
use etcfs_proto::Frame;
use etcfs_proto::abi::InterruptIn;
use etcfs_proto::init::Agreed;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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
    pub fs: Arc<Fs>,
    /// What INIT agreed on.
    pub(crate) agreed: Agreed,
    /// Who watches the traffic.
    pub(crate) observers: Observers,
    /// What was recorded of it, and not sent yet.
    pub(crate) recordings: Arc<Recordings>,
    pub(super) pool: Pool,
    pub(super) flights: Flights,
    ledger: &'static Ledger,
    /// The kernel is asked for what a predecessor had in flight, if it can be.
    pub(super) resends: AtomicBool,
    pub(super) crew: Crew,
    /// What the threads count.
    pub(crate) meters: Meters,
    /// Wakes the watchdog.
    pub(crate) waker: Waker,
    pub(super) interrupts: Interrupts,
    /// Requests that wait for a lock.
    pub(crate) waiters: Arc<Waiters>,
    pub(super) running: AtomicUsize,
    /// The request that was answered EIO because servers died over it.
    pub(crate) blamed: Mutex<Option<String>>,
    ended: OwnedFd,
}

impl Session {
    /// A session over `dev`, whose INIT has been answered.
    ///
    /// # Errors
    /// What `eventfd(2)` answers; ENOMEM.
    pub fn new(
        dev: OwnedFd,
        fs: impl Into<Arc<Fs>>,
        agreed: Agreed,
        observer: Option<Arc<dyn Observer>>,
    ) -> io::Result<Arc<Session>> {
        Session::over(Ledger::private()?, dev, fs, agreed, observer)
    }

    /// As [`Session::new`], whose requests lie in `ledger`, where a successor finds them.
    ///
    /// # Errors
    /// What `eventfd(2)` answers.
    pub(crate) fn over(
        ledger: &'static Ledger,
        dev: OwnedFd,
        fs: impl Into<Arc<Fs>>,
        agreed: Agreed,
        observer: Option<Arc<dyn Observer>>,
    ) -> io::Result<Arc<Session>> {
        let fs = fs.into();
        panics::install();
        let observers = Observers::default();
        if let Some(observer) = observer {
            observers.add(observer);
        }
        let dev = Arc::new(dev);
        fs.notices
            .enable(Arc::new(Device::new(dev.clone(), &fs, ledger.header())));
        Ok(Arc::new(Session {
            dev,
            fs,
            agreed,
            observers,
            recordings: Recordings::over(ledger),
            pool: Pool::default(),
            flights: Flights::over(ledger),
            ledger,
            resends: AtomicBool::new(true),
            crew: Crew::default(),
            meters: Meters::over(ledger),
            waker: Waker::default(),
            interrupts: Interrupts::default(),
            waiters: Arc::default(),
            running: AtomicUsize::new(0),
            blamed: Mutex::default(),
            ended: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    /// The kernel, for what the model asks of it.
    pub(super) fn kernel(&self) -> Arc<Device> {
        Arc::new(Device::new(
            self.dev.clone(),
            &self.fs,
            self.ledger.header(),
        ))
    }

    /// How many servers there have been, this one included.
    pub(super) fn servers(&self) -> u32 {
        self.ledger.header().servers.load(Ordering::Relaxed)
    }

    /// What the keeper knows.
    pub(super) fn first_page(&self) -> &'static FirstPage {
        self.ledger.header()
    }

    /// INTERRUPT has come.
    pub(super) fn interrupted(&self, frame: &Frame<'_>) {
        if let Ok(args) = frame.args::<InterruptIn>() {
            // Most requests are answered in a moment anyway.
            self.interrupts.interrupt(args.unique);
            self.pool.interrupt(self, args.unique);
        }
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
