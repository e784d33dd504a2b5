//! A server that was killed while one of its threads waits in the kernel for answers that only a successor gives: see
//! `session::vigil`. Its end is seen by a timer; the process itself is gone a moment after it was replaced.

use super::keeper::Keeper;
use crate::ledger::header::FirstPage;
use crate::sys::{child, inherit, stuck};
use rustix::process::Pid;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// How long threads may take to come back that wait for answers, before the server is ended that gives them.
const PATIENCE: Duration = Duration::from_secs(5);

/// True if the server was killed, and what is left of it are threads that wait for answers. Others that are left end in a moment,
/// and may open something until then, which a successor would not know of.
pub(super) fn waits_for_its_successor(header: &FirstPage, server: Pid) -> bool {
    let waiting = header.dropping.load(SeqCst) as usize;
    header.main_thread.load(SeqCst) == 0
        && stuck::threads(server).is_some_and(|left| (1..=waiting).contains(&left))
}

/// Has no thread wait for answers of the server any more, which is about to be ended for good. True if none does.
pub(super) fn end_waits(header: &FirstPage) -> bool {
    header.ends.store(1, SeqCst);
    let step = Duration::from_millis(1);
    let mut left = PATIENCE.as_millis() / step.as_millis();
    while header.dropping.load(SeqCst) > 0 && left > 0 {
        std::thread::sleep(step);
        left -= 1;
    }
    header.dropping.load(SeqCst) == 0
}

impl Keeper<'_> {
    /// What the last server has left of its waits is nobody's any more.
    pub(super) fn forget_waits(&self) {
        let header = self.header();
        header.dropping.store(0, SeqCst);
        // Until the next one has begun, it has not lost its own.
        header.main_thread.store(-1, SeqCst);
        let timer = header.timer.load(Relaxed);
        if timer > 2 {
            stuck::set(inherit::borrow(timer), Duration::ZERO);
        }
    }

    /// True if `server` was killed, and only its successor can let it end. To be asked when the timer has gone off.
    pub(super) fn is_stuck(&mut self, server: Pid) -> bool {
        let is_stuck = waits_for_its_successor(self.header(), server);
        if is_stuck {
            self.stuck.push(server);
        }
        is_stuck
    }

    /// Takes note of the ends of those that were.
    pub(super) fn reap(&mut self) {
        self.stuck.retain(|&pid| child::ended(pid).is_none());
    }

    /// Ends the server for good.
    pub(super) fn end_server(&self, server: Pid) {
        end_waits(self.header());
        child::kill(server);
    }
}
