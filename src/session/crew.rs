//! What workers ask before they carry out a request: whether its user is held back, and who else is there.

pub(crate) mod held;

use super::head;
use super::lone_caller::Turn;
use super::meter::Waker;
use arc_swap::ArcSwap;
use held::HeldBack;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What workers ask before they carry out a request.
#[derive(Default)]
pub(crate) struct Crew {
    /// Somebody is held back.
    wary: AtomicBool,
    held: ArcSwap<HeldBack>,
    /// Wakes the thread that looks.
    pub(crate) waker: Waker,
    /// Threads that were relieved and have not left.
    pub(crate) relieved: AtomicUsize,
    /// That there is no thread to be had was said.
    pub(crate) told: AtomicBool,
    pub(crate) over: AtomicBool,
}

impl Crew {
    /// True if the request in `message` is not for a worker to carry out. One load when nobody is held back.
    pub(crate) fn holds_back(&self, message: &[u8]) -> bool {
        self.wary.load(Ordering::Relaxed)
            && !head::is_interrupt(message)
            && self.held.load().has(head::account_of(message))
    }

    /// A worker begins a request. True if that is to be told after it: somebody else reads on meanwhile, so that the
    /// first request after a quiet time is not delayed by waking the thread that looks. Costs one load otherwise.
    pub(crate) fn begin(&self, turn: &Turn) -> bool {
        if !self.waker.is_asleep() {
            return false;
        }
        let alone = turn.may_be_followed();
        if !alone {
            self.waker.request();
        }
        alone
    }

    /// A thread that was relieved has left.
    pub(crate) fn left(&self) {
        self.relieved.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many threads were relieved and are stuck still.
    pub(crate) fn relieved(&self) -> usize {
        self.relieved.load(Ordering::Relaxed)
    }

    /// The connection has ended.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.waker.request();
    }

    pub(crate) fn hold_back(&self, held: HeldBack) {
        if **self.held.load() == held {
            return;
        }
        let any = held != HeldBack::default();
        self.held.store(Arc::new(held));
        self.wary.store(any, Ordering::Relaxed);
    }
}
