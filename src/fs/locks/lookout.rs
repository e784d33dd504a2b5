//! What a thread sleeps on that looks after things while nobody asks: the ends of processes, and what has changed and is to
//! be looked at. `K` names the things.

use crate::ledger::lock::KeptWatch;
use crate::mutex::lock;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The number of what wakes the thread, among those of processes.
const WAKE: u64 = 0;

/// What the thread looks after.
pub(crate) struct Lookout<K> {
    fds: OnceLock<Fds>,
    watched: Mutex<HashMap<u64, K>>,
    changed: Mutex<HashSet<K>>,
    next: AtomicU64,
}

struct Fds {
    epoll: OwnedFd,
    wake: OwnedFd,
}

/// A process whose end is noticed.
pub(crate) struct Watched<K> {
    /// Its number.
    pub pid: u32,
    /// The number of this watch.
    pub id: u64,
    fd: OwnedFd,
    lookout: Arc<Lookout<K>>,
}

impl<K> Watched<K> {
    /// What is written down of it.
    pub(super) fn kept(&self) -> KeptWatch {
        KeptWatch::Process(self.pid, self.fd.as_raw_fd())
    }

    /// True once it has ended: its descriptors are closed then (`do_exit`), and it may not have been waited for.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

impl<K> Drop for Watched<K> {
    fn drop(&mut self) {
        lock(&self.lookout.watched).remove(&self.id);
    }
}

impl<K> Default for Lookout<K> {
    fn default() -> Lookout<K> {
        Lookout {
            fds: OnceLock::new(),
            watched: Mutex::default(),
            changed: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }
}

impl<K: Copy + Eq + Hash> Lookout<K> {
    /// Makes what the thread waits with. Before that nothing is looked after.
    ///
    /// # Errors
    /// What `epoll_create1(2)` and `eventfd(2)` answer.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        if self.fds.get().is_some() {
            return Ok(());
        }
        let fds = Fds {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        let wake = epoll::EventData::new_u64(WAKE);
        epoll::add(&fds.epoll, &fds.wake, wake, epoll::EventFlags::IN)?;
        let _ = self.fds.set(fds);
        Ok(())
    }

    /// Has `thing` looked at.
    pub(crate) fn look_again(&self, thing: K) {
        let Some(fds) = self.fds.get() else { return };
        if lock(&self.changed).insert(thing) {
            let _ = io::write(&fds.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Has the end of process `pid` noticed, which concerns `thing`. The process must be there still. `None` where that cannot
    /// be done (before Linux 5.3).
    pub(crate) fn watch(self: &Arc<Self>, thing: K, pid: u32) -> Option<Watched<K>> {
        let fds = self.fds.get()?;
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let fd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        self.add(fds, thing, (pid, fd)).ok()
    }

    /// Goes on with the watch of a predecessor: of process `pid`, which its descriptor `fd` stands for.
    ///
    /// # Errors
    /// As [`Lookout::prepare`], and what `epoll_ctl(2)` answers.
    pub(crate) fn watch_on(
        self: &Arc<Self>,
        thing: K,
        process: (u32, OwnedFd),
    ) -> io::Result<Watched<K>> {
        self.prepare()?;
        let fds = self.fds.get().ok_or(io::Errno::NOMEM)?;
        self.add(fds, thing, process)
    }

    fn add(
        self: &Arc<Self>,
        fds: &Fds,
        thing: K,
        (pid, fd): (u32, OwnedFd),
    ) -> io::Result<Watched<K>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let process = Watched {
            pid,
            id,
            fd,
            lookout: self.clone(),
        };
        lock(&self.watched).insert(id, thing);
        let data = epoll::EventData::new_u64(id);
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&fds.epoll, &process.fd, data, once)?;
        Ok(process)
    }

    /// Sleeps until something happens, for `most` at most if there is one. `None` when it cannot.
    pub(crate) fn sleep(&self, most: Option<Duration>) -> Option<Happened<K>> {
        let fds = self.fds.get()?;
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        let mut events = Vec::with_capacity(64);
        let waited = epoll::wait(&fds.epoll, spare_capacity(&mut events), most.as_ref());
        if !matches!(waited, Ok(_) | Err(io::Errno::INTR)) {
            return None;
        }
        let mut ended = Vec::new();
        for event in &events {
            match event.data.u64() {
                WAKE => drop(io::read(&fds.wake, &mut [0; 8])),
                id => ended.extend(lock(&self.watched).remove(&id).map(|thing| (id, thing))),
            }
        }
        let changed = std::mem::take(&mut *lock(&self.changed));
        Some(Happened { ended, changed })
    }
}

/// What has happened.
pub(crate) struct Happened<K> {
    /// Processes have ended: the watches, and what they concern.
    pub ended: Vec<(u64, K)>,
    /// What is to be looked at.
    pub changed: HashSet<K>,
}
