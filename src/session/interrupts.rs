//! Requests whose client may give up, and INTERRUPT, which says that it has a signal to handle or was killed.
//!
//! A worker answers in a moment anyway. What goes on in another thread (a lock that is waited for, a copy, what waits
//! for its turn) has a [`Ticket`], which is asked, or woken, when the client gives up.
//!
//! A thread that is blocked in one system call is ended by a signal, with EINTR. A signal that comes a moment too
//! early, between the last look at the ticket and the system call, would be lost; so a thread that must give up is
//! signalled again and again, by `nudge`, until it has left.

use crate::log;
use crate::mutex::lock;
use crate::sys::lock::{ThreadId, become_wakeable, wake};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many interrupts of requests that are not known (yet) are remembered.
const EARLY: usize = 1024;

/// How long a thread that must give up has before it is signalled again: doubled from the first to the second.
const NUDGE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// Stack of the thread that signals others, in bytes.
const STACK: usize = 64 * 1024;

/// All requests that may be given up.
#[derive(Default)]
pub(crate) struct Interrupts(Arc<Mutex<Tickets>>);

#[derive(Default)]
struct Tickets {
    /// By `unique` of the request.
    known: HashMap<u64, Interruptible>,
    /// The requests that were interrupted without being known here. One may be in the hands of another worker, which is
    /// about to hand it on: INTERRUPT comes right behind a request that the kernel has handed out. Numbers are never
    /// used again, so one that stays here does no harm.
    early: VecDeque<u64>,
    /// A thread is in [`nudge`].
    nudging: bool,
}

struct Interruptible {
    /// How many tickets there are: a request that has waited for its turn may go on to wait for a lock.
    tickets: usize,
    interrupted: Arc<AtomicBool>,
    /// The thread, while a signal is what ends it.
    thread: Option<ThreadId>,
}

/// One request that may be given up, for as long as that is so.
pub(crate) struct Ticket {
    all: Arc<Mutex<Tickets>>,
    unique: u64,
    interrupted: Arc<AtomicBool>,
    /// The entry's thread is this ticket's.
    wakes: AtomicBool,
}

impl Interrupts {
    /// A ticket for request `unique`. What the client has said while another ticket was held counts for this one too: the
    /// kernel says it once.
    pub(crate) fn ticket(&self, unique: u64) -> Ticket {
        let mut state = lock(&self.0);
        let early = state.early.iter().position(|&early| early == unique);
        if let Some(at) = early {
            state.early.remove(at);
        }
        let entry = state.known.entry(unique).or_insert_with(|| Interruptible {
            tickets: 0,
            interrupted: Arc::new(AtomicBool::new(early.is_some())),
            thread: None,
        });
        entry.tickets += 1;
        Ticket {
            all: self.0.clone(),
            unique,
            interrupted: entry.interrupted.clone(),
            wakes: AtomicBool::new(false),
        }
    }

    /// The client of request `unique` has a signal to handle, or was killed.
    pub(crate) fn interrupt(&self, unique: u64) {
        let mut state = lock(&self.0);
        let Some(entry) = state.known.get_mut(&unique) else {
            state.early.truncate(EARLY - 1);
            state.early.push_front(unique);
            return;
        };
        entry.interrupted.store(true, Ordering::Relaxed);
        // Under the lock: a ticket goes before its thread ends, so the signal never reaches a later one.
        let Some(thread) = entry.thread else {
            return;
        };
        wake(thread);
        if state.nudging {
            return;
        }
        state.nudging = true;
        drop(state);
        let all = self.0.clone();
        let started = std::thread::Builder::new()
            .name("etcfs-nudge".into())
            .stack_size(STACK)
            .spawn(move || nudge(&all));
        if let Err(error) = started {
            // The first signal is enough but for a rare race, and the next interrupt tries again.
            lock(&self.0).nudging = false;
            log::error(format_args!(
                "no thread can be made for interrupted requests ({error}); clients that are killed may wait for their requests"
            ));
        }
    }

    /// How many requests may be given up.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).known.len()
    }
}

/// Signals every thread that must give up until it has left.
fn nudge(all: &Mutex<Tickets>) {
    let mut pause = NUDGE.0;
    loop {
        std::thread::sleep(pause);
        pause = (pause * 2).min(NUDGE.1);
        let mut state = lock(all);
        let mut left = false;
        for entry in state.known.values() {
            let is_interrupted = entry.interrupted.load(Ordering::Relaxed);
            if let Some(thread) = entry.thread.filter(|_| is_interrupted) {
                left = true;
                wake(thread);
            }
        }
        if !left {
            state.nudging = false;
            return;
        }
    }
}

impl Ticket {
    /// True once the client has a signal to handle, or was killed.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Its client has a signal to handle, or was killed, and nobody will say so.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Lets the calling thread, until the ticket goes, be ended by a signal in every system call that blocks.
    pub(crate) fn wake_me(&self) {
        let thread = become_wakeable();
        if let Some(entry) = lock(&self.all).known.get_mut(&self.unique) {
            entry.thread = Some(thread);
            self.wakes.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = lock(&self.all);
        let Some(entry) = state.known.get_mut(&self.unique) else {
            return;
        };
        if self.wakes.load(Ordering::Relaxed) {
            entry.thread = None;
        }
        entry.tickets -= 1;
        if entry.tickets == 0 {
            state.known.remove(&self.unique);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_reaches_its_request_before_and_after_the_ticket_is_made() {
        let all = Interrupts::default();
        all.interrupt(8);
        let ticket = all.ticket(8);
        assert!(ticket.is_interrupted());
        let other = all.ticket(10);
        assert!(!other.is_interrupted());
        all.interrupt(10);
        assert!(other.is_interrupted());
        drop((ticket, other));
        assert_eq!(all.len(), 0);
        assert!(!all.ticket(8).is_interrupted(), "it is spent");
    }

    #[test]
    fn an_interrupt_counts_for_every_later_ticket_of_its_request() {
        let all = Interrupts::default();
        let queued = all.ticket(8);
        all.interrupt(8);
        let waiting = all.ticket(8);
        assert!(waiting.is_interrupted());
        drop(queued);
        assert_eq!(all.len(), 1, "the second one can be reached still");
        drop(waiting);
        assert_eq!(all.len(), 0);
        let (queued, waiting) = (all.ticket(10), all.ticket(10));
        drop(queued);
        all.interrupt(10);
        assert!(waiting.is_interrupted());
    }

    #[test]
    fn interrupts_of_unknown_requests_are_remembered_within_a_bound() {
        let all = Interrupts::default();
        (0..3 * EARLY as u64).for_each(|unique| all.interrupt(unique));
        assert!(!all.ticket(0).is_interrupted());
        assert!(all.ticket(3 * EARLY as u64 - 1).is_interrupted());
        assert!(lock(&all.0).early.len() <= EARLY);
    }
}
