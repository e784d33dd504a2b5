//! What a keeper does about a server that has ended: writes it down, counts, and gives up if there are too many.

use super::ending::{WINDOW, number_of};
use super::keeper::{Gone, Keeper, Woken};
use crate::ledger::header::MOST_DEATHS;
use crate::session::meter::now;
use anyhow::{Result, bail};
use rustix::process::Pid;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// A server that dies this soon has hardly served.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How many of those in a row are followed without a pause.
const FREE: u32 = 5;

impl Keeper<'_> {
    /// Writes down how the server ended, for its successor to tell.
    pub(super) fn note_end(&self, gone: &Gone) {
        let header = self.header();
        let status = match gone {
            Gone::Died(Some(status)) => number_of(*status),
            _ => 0,
        };
        header.server.store(0, Release);
        header.status.store(status, Relaxed);
        header.ended_at.store(now(), Release);
    }

    /// True if this death is one too many: see the option `max_deaths`.
    pub(super) fn dies_too_often(&self) -> bool {
        let deaths = &self.header().deaths;
        for at in 1..MOST_DEATHS {
            deaths[at - 1].store(deaths[at].load(Relaxed), Relaxed);
        }
        deaths[MOST_DEATHS - 1].store(now(), Relaxed);
        let most = usize::from(self.options.max_deaths).min(MOST_DEATHS);
        let first = match most {
            0 => 0,
            most => deaths[MOST_DEATHS - most].load(Relaxed),
        };
        first != 0 && now().saturating_sub(first) < WINDOW.as_nanos() as u64
    }

    /// Waits, longer each time, before what has failed is tried once more: a lack of processes, descriptors or memory passes.
    /// False after half a minute.
    pub(super) fn may_try_again(&mut self) -> bool {
        let serving = self.header().serving.load(Acquire);
        if self.failed.0 != serving {
            self.failed = (serving, 0);
        }
        self.failed.1 += 1;
        std::thread::sleep(Duration::from_millis(10 << self.failed.1.min(7)));
        self.failed.1 < 30
    }

    /// A server has died. Where one after the other does so at once, and as many may as like, the machine is left some time:
    /// longer each time, half a second at most. One that has served for a while is followed at once.
    pub(super) fn slow_down(&mut self) {
        let at_once = self.made.is_some_and(|made| made.elapsed() < AT_ONCE);
        self.short_lives = if at_once { self.short_lives + 1 } else { 0 };
        let Some(more @ 1..) = self.short_lives.checked_sub(FREE) else {
            return;
        };
        let until = Instant::now() + Duration::from_millis((1 << more.min(9)).min(500));
        // It has ended, so only signals come.
        let Some(gone) = Pid::from_raw(i32::MAX) else {
            return;
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.wait(gone, Some(left)) {
                Woken::Late => return,
                Woken::Told(signal) => return self.header().signal.store(signal, Release),
                _ => {}
            }
        }
    }

    /// What the last server was working on, as far as it can be read.
    pub(super) fn last_requests(&self) -> String {
        let left = crate::session::left(self.ledger);
        match left.is_empty() {
            true => "no request".to_owned(),
            false => left.join(", "),
        }
    }

    /// Takes the mount away: nobody is left to serve it.
    pub(super) fn give_up(&self, why: &str) -> Result<Pid> {
        let at = self.mount().mountpoint().display();
        self.mount().detach_lazily()?;
        bail!("{at}: the mount is taken away: {why}")
    }
}
