//! Requests that wait for a lock: each in a thread of its own, so that no worker and no lock of the daemon is occupied,
//! and each can be ended by INTERRUPT.

use super::attend::Debt;
use super::interrupts::Ticket;
use super::serve::finish;
use super::worker::Buffer;
use super::{Session, Times, meter, panics};
use crate::fs::budget::Account;
use crate::fs::locks::Wait;
use crate::log;
use crate::mutex::lock;
use etcfs_proto::{Frame, Reply};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How many requests of one user may wait for locks, unless told otherwise. Each costs a thread: some 8 KiB of memory
/// and a kernel stack of 16 KiB.
pub const MAX_LOCK_WAITERS: usize = 1024;

/// How many times as many may wait for all users but root together: one user who has many uids has no more.
const ALL: usize = 3;

/// Stack of a waiting thread, in bytes: it makes one system call and one answer. Pages never used cost nothing.
const STACK: usize = 64 * 1024;

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
    by_account: HashMap<Account, usize>,
    /// By uid, for who looks at it.
    by_user: HashMap<u32, usize>,
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
        lock(&self.state).by_user.values().sum()
    }

    /// True when no request waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets one more request of `uid` wait, for as long as the place is kept.
    fn enter(self: &Arc<Waiters>, uid: u32) -> Option<Waiting> {
        let account = Account::of(uid);
        let mut state = lock(&self.state);
        let root = state.by_account.get(&Account::ROOT).copied().unwrap_or(0);
        let others = state.by_account.values().sum::<usize>() - root;
        let own = state.by_account.entry(account).or_default();
        let full = *own >= self.most() || !account.is_root() && others >= ALL * self.most();
        if full {
            return None;
        }
        *own += 1;
        *state.by_user.entry(uid).or_default() += 1;
        Some(Waiting {
            all: self.clone(),
            account,
            uid,
        })
    }
}

/// A request's place among those that wait.
struct Waiting {
    all: Arc<Waiters>,
    account: Account,
    uid: u32,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        let mut state = lock(&self.all.state);
        less(&mut state.by_account, &self.account);
        less(&mut state.by_user, &self.uid);
    }
}

/// Waits in the calling thread until the lock is had, or the client has given up.
fn wait(ticket: &Ticket, wait: &Wait) -> Result<(), Errno> {
    ticket.wake_me();
    loop {
        if ticket.is_interrupted() {
            return Err(Errno::INTR);
        }
        match wait.block() {
            Err(Errno::INTR) => {}
            done => return done,
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
    debt: Debt<'_>,
    (message, taken): (&[u8], u64),
    lock: Box<Wait>,
    reply: &mut Reply,
) {
    // It was cut before.
    let Ok(frame) = Frame::cut(message) else {
        return;
    };
    let ticket = session.interrupts.ticket(frame.head.unique);
    let refusal = lock.refusal();
    let entered = match ticket.is_interrupted() {
        true => Err(Errno::INTR),
        false => session.waiters.enter(lock.uid()).ok_or(refusal),
    };
    let waiting = match entered {
        Ok(waiting) => waiting,
        Err(errno) => {
            drop((lock, ticket));
            let times = until_now(taken);
            debt.pay(finish(session, &frame, times, reply, Err(errno)));
            return;
        }
    };
    let own = session.clone();
    let request = Buffer::copy(message, taken);
    let started = std::thread::Builder::new()
        .name("etcfs-lock".into())
        .stack_size(STACK)
        .spawn(move || {
            let debt = Debt::of(&own, request.bytes());
            let waited = panics::catch(|| {
                let result = wait(&ticket, &lock);
                // All is given back before the client can ask for the next lock.
                drop((lock, ticket, waiting));
                let mut reply = Reply::with_capacity(0);
                if let Ok(frame) = Frame::cut(request.bytes()) {
                    let times = until_now(taken);
                    debt.pay(finish(&own, &frame, times, &mut reply, result));
                }
            });
            if let Err(panic) = waited {
                log::error(format_args!(
                    "waiting for a lock {panic}; it was answered EIO, please report this"
                ));
            }
        });
    match started {
        Ok(_) => debt.pass_on(),
        Err(error) => {
            log::error(format_args!(
                "no thread can be made to wait for a file lock ({error}); the request is refused"
            ));
            let times = until_now(taken);
            debt.pay(finish(session, &frame, times, reply, Err(refusal)));
        }
    }
}

#[cfg(test)]
mod tests;
