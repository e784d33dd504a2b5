//! Requests that wait for a lock: each in a thread of its own, so that no worker and no lock of the daemon is occupied,
//! and each can be ended by INTERRUPT.
//!
//! A thread that waits is blocked in one system call, which a signal ends with EINTR. A signal that comes a moment too
//! early, between the last look at the flag and the system call, would be lost; so a thread that must give up is
//! signalled again and again, by [`nudge`], until it has left.

use super::serve::finish;
use super::worker::{Buffer, write};
use super::{Session, Times, meter};
use crate::fs::locks::Wait;
use crate::fs::node::lock;
use crate::log;
use crate::sys::lock::{Thread, become_wakeable, wake};
use etcfs_proto::{Frame, Reply};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many requests of one user may wait for locks, unless told otherwise. Each costs a thread: some 8 KiB of memory
/// and a kernel stack of 16 KiB.
pub const MAX_LOCK_WAITERS: usize = 1024;

/// Stack of a waiting thread, in bytes: it makes one system call and one answer. Pages never used cost nothing.
const STACK: usize = 64 * 1024;

/// How many interrupts of requests that are not known (yet) are remembered.
const EARLY: usize = 1024;

/// How long a thread that must give up has before it is signalled again: doubled from the first to the second.
const NUDGE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// Everything that waits.
pub struct Waiters {
    state: Mutex<State>,
    /// How many may wait for one user.
    most: AtomicUsize,
}

impl Default for Waiters {
    fn default() -> Waiters {
        Waiters {
            state: Mutex::default(),
            most: AtomicUsize::new(MAX_LOCK_WAITERS),
        }
    }
}

#[derive(Default)]
struct State {
    /// By `unique` of the request.
    known: HashMap<u64, Waiter>,
    by_user: HashMap<u32, usize>,
    /// The requests that were interrupted without being known here. One may be in the hands of another worker, which is
    /// about to make it wait: INTERRUPT comes right behind a request that the kernel has handed out. Numbers are never
    /// used again, so one that stays here does no harm.
    early: VecDeque<u64>,
    /// A thread is in [`nudge`].
    nudging: bool,
}

struct Waiter {
    /// The thread, once it can be woken.
    thread: Option<Thread>,
    interrupted: bool,
}

impl Waiters {
    /// Changes how many requests of one user may wait.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many requests of one user may wait.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// How many requests wait for each user.
    pub fn by_user(&self) -> Vec<(u32, usize)> {
        let state = lock(&self.state);
        state.by_user.iter().map(|(&uid, &n)| (uid, n)).collect()
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        lock(&self.state).known.len()
    }

    /// True when no request waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The client of request `unique` has a signal to handle, or was killed: its wait is over.
    pub(super) fn interrupt(self: &Arc<Waiters>, unique: u64) {
        let mut state = lock(&self.state);
        let Some(waiter) = state.known.get_mut(&unique) else {
            state.early.truncate(EARLY - 1);
            state.early.push_front(unique);
            return;
        };
        waiter.interrupted = true;
        // Under the lock: a thread is forgotten before it ends, so the signal never reaches a later one.
        if let Some(thread) = waiter.thread {
            wake(thread);
        }
        if state.nudging {
            return;
        }
        state.nudging = true;
        drop(state);
        let own = self.clone();
        let started = std::thread::Builder::new()
            .name("etcfs-nudge".into())
            .stack_size(STACK)
            .spawn(move || own.nudge());
        if let Err(error) = started {
            // The first signal is enough but for a rare race, and the next interrupt tries again.
            lock(&self.state).nudging = false;
            log::error(format_args!("no thread for interrupted locks ({error})"));
        }
    }

    /// Makes the request known, or says why it may not wait.
    fn enter(&self, unique: u64, wait: &Wait) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        if let Some(at) = state.early.iter().position(|&early| early == unique) {
            state.early.remove(at);
            return Err(Errno::INTR);
        }
        let own = state.by_user.entry(wait.uid()).or_default();
        if *own >= self.most() {
            return Err(wait.refusal());
        }
        *own += 1;
        let waiter = Waiter {
            thread: None,
            interrupted: false,
        };
        state.known.insert(unique, waiter);
        Ok(())
    }

    fn leave(&self, unique: u64, uid: u32) {
        let mut state = lock(&self.state);
        state.known.remove(&unique);
        if let Some(own) = state.by_user.get_mut(&uid) {
            *own -= 1;
            if *own == 0 {
                state.by_user.remove(&uid);
            }
        }
    }

    fn is_interrupted(&self, unique: u64) -> bool {
        let state = lock(&self.state);
        state.known.get(&unique).is_some_and(|w| w.interrupted)
    }

    /// Waits in the calling thread until the lock is had, or the client has given up.
    fn wait(&self, unique: u64, wait: &Wait) -> Result<(), Errno> {
        let thread = become_wakeable();
        if let Some(waiter) = lock(&self.state).known.get_mut(&unique) {
            waiter.thread = Some(thread);
        }
        loop {
            if self.is_interrupted(unique) {
                return Err(Errno::INTR);
            }
            match wait.block() {
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// Signals every thread that must give up until it has left.
    fn nudge(&self) {
        let mut pause = NUDGE.0;
        loop {
            std::thread::sleep(pause);
            pause = (pause * 2).min(NUDGE.1);
            let mut state = lock(&self.state);
            let mut left = false;
            for waiter in state.known.values().filter(|w| w.interrupted) {
                left = true;
                if let Some(thread) = waiter.thread {
                    wake(thread);
                }
            }
            if !left {
                state.nudging = false;
                return;
            }
        }
    }
}

fn until_now(taken: u64) -> Times {
    Times {
        taken,
        done: meter::now(),
    }
}

/// Has the request in `message` wait, and answered afterwards; or answers it now, with `reply`, if it may not wait.
pub(super) fn start(
    session: &Arc<Session>,
    (message, taken): (&[u8], u64),
    wait: Box<Wait>,
    reply: &mut Reply,
) {
    // It was cut before.
    let Ok(frame) = Frame::cut(message) else {
        return;
    };
    let unique = frame.head.unique;
    if let Err(errno) = session.waiters.enter(unique, &wait) {
        drop(wait);
        write(
            session,
            finish(session, &frame, until_now(taken), reply, Err(errno)),
        );
        return;
    }
    let (uid, refusal) = (wait.uid(), wait.refusal());
    let own = session.clone();
    let request = Buffer::copy(message, taken);
    let started = std::thread::Builder::new()
        .name("etcfs-lock".into())
        .stack_size(STACK)
        .spawn(move || {
            let waited = catch_unwind(AssertUnwindSafe(|| own.waiters.wait(unique, &wait)));
            let result = waited.unwrap_or_else(|_| {
                log::error(format_args!(
                    "waiting for a lock panicked and was answered EIO; please report this"
                ));
                Err(Errno::IO)
            });
            // All is given back before the client can ask for the next lock.
            drop(wait);
            own.waiters.leave(unique, uid);
            if let Ok(frame) = Frame::cut(request.bytes()) {
                let mut reply = Reply::with_capacity(0);
                write(
                    &own,
                    finish(&own, &frame, until_now(taken), &mut reply, result),
                );
            }
        });
    if let Err(error) = started {
        log::error(format_args!("no thread to wait for a lock ({error})"));
        session.waiters.leave(unique, uid);
        write(
            session,
            finish(session, &frame, until_now(taken), reply, Err(refusal)),
        );
    }
}

#[cfg(test)]
mod tests;
