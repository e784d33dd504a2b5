//! What a thread is at, readable by another one at any time.

use etcfs_proto::Opcode;
use etcfs_proto::abi::InHeader;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use zerocopy::FromBytes;

/// One request being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// The thread; 0: it waits for one.
    pub(crate) tid: u32,
    /// The kernel's number of the request.
    pub(crate) unique: u64,
    /// What is asked.
    pub(crate) opcode: Opcode,
    /// About which node.
    pub(crate) nodeid: u64,
    /// By which user.
    pub uid: u32,
    /// By which process or thread.
    pub pid: u32,
    /// When it was read, see [`now`](super::now).
    pub(crate) taken: u64,
    /// Which worker's place the thread has had, by index; `None`: no worker's.
    pub(crate) place: Option<usize>,
}

impl InFlight {
    /// A request that no thread works on yet.
    pub(crate) fn of(head: &InHeader, taken: u64) -> InFlight {
        InFlight {
            tid: 0,
            unique: head.unique,
            opcode: Opcode(head.opcode),
            nodeid: head.nodeid,
            uid: head.uid,
            pid: head.pid,
            taken,
            place: None,
        }
    }
}

/// A request as its thread publishes it. `unique` is 0 while the other fields change: the kernel numbers from 2 on and
/// uses no number twice, so who reads the same number before and after has read one request.
#[derive(FromBytes)]
#[repr(C)]
pub(super) struct Current {
    unique: AtomicU64,
    nodeid: AtomicU64,
    taken: AtomicU64,
    opcode: AtomicU32,
    uid: AtomicU32,
    pid: AtomicU32,
    /// The index of the thread's place among the workers, from 1; 0: it is no worker.
    place: AtomicU32,
}

impl Current {
    pub(super) fn set_place(&self, place: Option<usize>) {
        let number = place.map_or(0, |index| index as u32 + 1);
        self.place.store(number, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, head: &InHeader, taken: u64) {
        // Whoever sees one of the fields below also sees the 0 that `end` stored.
        fence(Ordering::Release);
        self.nodeid.store(head.nodeid, Ordering::Relaxed);
        self.taken.store(taken, Ordering::Relaxed);
        self.opcode.store(head.opcode, Ordering::Relaxed);
        self.uid.store(head.uid, Ordering::Relaxed);
        self.pid.store(head.pid, Ordering::Relaxed);
        self.unique.store(head.unique, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.unique.store(0, Ordering::Relaxed);
    }

    pub(super) fn read(&self, tid: u32) -> Option<InFlight> {
        let unique = self.unique.load(Ordering::Acquire);
        let found = InFlight {
            tid,
            unique,
            opcode: Opcode(self.opcode.load(Ordering::Relaxed)),
            nodeid: self.nodeid.load(Ordering::Relaxed),
            uid: self.uid.load(Ordering::Relaxed),
            pid: self.pid.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
            place: (self.place.load(Ordering::Relaxed) as usize).checked_sub(1),
        };
        fence(Ordering::Acquire);
        (unique != 0 && self.unique.load(Ordering::Relaxed) == unique).then_some(found)
    }
}

/// Wakes a watcher when requests come after a time without any, at the cost of one load per request.
#[derive(Default)]
pub(crate) struct Waker {
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Waker {
    /// True if the watcher sleeps, or is about to.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// A request begins.
    pub(crate) fn request(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Announces that the watcher is about to sleep. A request that begins at this very moment may not see it: look at
    /// what is in flight once more, some time later, before [`Waker::sleep`].
    pub(crate) fn drowse(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Sleeps until a request begins, or for `time`; true if there was one since [`Waker::drowse`].
    pub(crate) fn sleep(&self, time: Option<Duration>) -> bool {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.asleep.load(Ordering::Acquire) {
            guard = match time {
                None => self
                    .wake
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let (guard, _) = self
                        .wake
                        .wait_timeout(guard, time)
                        .unwrap_or_else(PoisonError::into_inner);
                    drop(guard);
                    return !self.asleep.load(Ordering::Acquire);
                }
            };
        }
        true
    }
}
