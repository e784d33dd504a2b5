//! The spare keeper: a copy of the keeper, made as soon as the mount was served, which takes its place when it has died; when
//! another program is executed in its place and does not serve; and when it was stopped and a server has died.
//!
//! Between two that could take the same keeper's place one exchange of the header's word decides: the other one leaves.

use super::ending::{forward, unmount};
use super::heir::{ALONE, PATIENCE, is_late};
use super::keeper::{Gone, Keeper};
use super::stuck::waits_for_its_successor;
use crate::ledger::header::{End, Heir, Trial};
use crate::log;
use crate::sys::child::{self, Half};
use crate::sys::proc;
use crate::sys::signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, kill_process};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::{Duration, Instant};

/// How often whoever stands by looks whether it is its turn.
const LOOK: Duration = Duration::from_millis(10);

/// How long a keeper may leave a server that has died without a successor, until it is looked at.
const LEFT_ALONE: Duration = Duration::from_secs(1);

impl Keeper<'_> {
    /// Makes a spare keeper. In that one this returns when the keeper has died: it is the keeper then, `server` is its own
    /// server, and it has a spare one itself.
    pub(super) fn make_spare(&mut self, server: &mut Pid) {
        loop {
            let keeper = rustix::process::getpid();
            match child::share() {
                Ok(Half::Parent(spare)) => return self.spare = Some(spare),
                Ok(Half::Child) => {
                    self.spare = None;
                    self.spare_due = None;
                    self.candidate = false;
                    self.trying = None;
                    log::use_system();
                    self.stand_by(keeper);
                    self.take_the_place_of(keeper, server);
                }
                Err(errno) => {
                    log::error(format_args!(
                        "{}: there is no spare keeper ({errno})",
                        self.at()
                    ));
                    return;
                }
            }
        }
    }

    /// Ends the spare keeper: the mount is to end.
    pub(super) fn end_spare(&mut self) {
        if let Some(spare) = self.spare.take() {
            child::kill(spare);
        }
    }

    /// Waits until it is this process's turn to be the keeper.
    fn stand_by(&self, keeper: Pid) {
        let header = self.header();
        if !child::notice_end_of(keeper) {
            return;
        }
        let mut dead: Option<Instant> = None;
        // The keeper was let go on when there had been so many servers.
        let mut woken_at = 0;
        loop {
            let is_asked = header.stand_by.load(Acquire) == child::own();
            let most = match (is_asked, dead) {
                (true, _) => Some(LOOK),
                (false, Some(since)) => Some(LEFT_ALONE.saturating_sub(since.elapsed())),
                (false, None) => None,
            };
            let server_ended = self.wait_beside(most, dead.is_none() && !is_asked);
            while let Ok(Some(signal)) = self.signals.read() {
                match signal {
                    child::PARENT_ENDED => return,
                    signal if signals::ends(signal) => forward(self.ledger, signal),
                    _ => {}
                }
            }
            if is_asked && self.is_own_turn() {
                return;
            }
            match dead {
                None if server_ended => dead = Some(Instant::now()),
                Some(since) if since.elapsed() >= LEFT_ALONE => {
                    dead = None;
                    let is_dead = self.wait_beside(Some(Duration::ZERO), true);
                    let servers = header.servers.load(Relaxed);
                    if is_dead && self.wake(keeper, servers == woken_at) {
                        woken_at = servers;
                    }
                }
                _ => {}
            }
        }
    }

    /// Another program is about to be executed: says that somebody stands by, and takes the turn if that has not served in time.
    /// Leaves if it serves.
    fn is_own_turn(&self) -> bool {
        let header = self.header();
        header.stands_by.store(child::own(), Release);
        match header.heir() {
            Heir::New => child::leave(),
            Heir::Open if is_late(header.executed_at.load(Acquire)) => {
                header.claim(Heir::Old).is_ok()
            }
            _ => false,
        }
    }

    /// Waits for a signal, or `most`, or, if that is asked for, the server's end. True: it has ended.
    fn wait_beside(&self, most: Option<Duration>, for_server: bool) -> bool {
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        let signals = PollFd::new(self.signals, PollFlags::IN);
        let mut fds = [signals, PollFd::new(&self.shown, PollFlags::IN)];
        let fds = if for_server {
            &mut fds[..]
        } else {
            &mut fds[..1]
        };
        poll(fds, most.as_ref()).is_ok()
            && fds.get(1).is_some_and(|shown| !shown.revents().is_empty())
    }

    /// A server has been dead for a while. A keeper that is stopped is let go on, and one that was is ended. True: it was stopped.
    fn wake(&self, keeper: Pid, was_woken: bool) -> bool {
        let raw = keeper.as_raw_nonzero().get();
        if self.header().end() == End::Over || !proc::is_stopped(raw) {
            return false;
        }
        let (signal, what) = match was_woken {
            false => (Signal::CONT, "it is let go on"),
            true => (Signal::KILL, "it is killed"),
        };
        log::error(format_args!(
            "{}: the keeper (pid {raw}) is stopped, and nobody serves: {what}",
            self.at()
        ));
        let _ = kill_process(keeper, signal);
        true
    }

    /// Becomes the keeper: the one before is dead, or is not to go on.
    fn take_the_place_of(&mut self, keeper: Pid, server: &mut Pid) {
        let header = self.header();
        let stood_by = header.stand_by.load(Acquire) == child::own();
        let went_back = match stood_by {
            true => self.take_back(),
            false => {
                self.wait_for_the_turn();
                false
            }
        };
        let old = keeper.as_raw_nonzero().get();
        if header
            .keeper
            .compare_exchange(old, child::own(), SeqCst, Relaxed)
            .is_err()
        {
            child::leave();
        }
        // Another program may hang in its place.
        if went_back && getppid() == Some(keeper) {
            child::end_strange(keeper, || false);
        }
        // Whoever ends all of the daemon's processes, one after the other, is to find no new one.
        std::thread::sleep(ALONE);
        if header.end() == End::Over {
            child::leave();
        }
        match went_back {
            true => log::error(format_args!(
                "{}: the other program did not serve, and this one goes on: {}",
                self.at(),
                self.words_or("it ended, or hung")
            )),
            false => log::error(format_args!(
                "{}: the keeper has died, and another one is in its place",
                self.at()
            )),
        }
        let left = Pid::from_raw(header.server.load(SeqCst));
        let ends = |left| child::end_strange(left, || waits_for_its_successor(header, left));
        if let Some(left) = left.filter(|&left| !ends(left)) {
            log::error(format_args!(
                "the server (pid {}) does not end; another one takes its place all the same",
                left.as_raw_nonzero()
            ));
        }
        if header.end() == End::Over {
            child::leave();
        }
        let signal = header.signal.load(Acquire);
        if signal != 0 {
            let _ = unmount(self.mount(), signal);
            child::leave();
        }
        if stood_by {
            header.stand_by.store(0, Release);
        }
        // Where this one goes on instead of another, processes of that may still ask: it stays so until the next time.
        if stood_by && !went_back {
            header.set_heir(Heir::None);
        }
        if went_back {
            // What the other program was told of is this one's again.
            header.previous.store(0, Relaxed);
            self.facts.write(self.ledger);
            self.empty_seat();
            header.set_trial(Trial::DidNotServe);
        } else {
            self.break_off();
        }
        header.set_end(match went_back {
            true => End::WentBack,
            false => End::KeeperDied,
        });
        match self.replace(&Gone::Replaced) {
            Ok(made) => *server = made,
            Err(error) => {
                log::error(format_args!("{error:#}"));
                child::leave();
            }
        }
    }

    /// Takes the mount back from the program that was executed in the keeper's place. False: none was. Leaves if that reads
    /// requests already.
    fn take_back(&self) -> bool {
        match self.header().claim(Heir::Old) {
            Ok(()) | Err(Heir::Old) => true,
            Err(Heir::New) => child::leave(),
            // The keeper has died before it could execute anything.
            Err(Heir::None | Heir::Open) => false,
        }
    }

    /// A spare keeper that belongs to a new program waits until it is known whether that goes on. Leaves if it does not.
    fn wait_for_the_turn(&self) {
        let header = self.ledger.told_page();
        let end = Instant::now() + 2 * PATIENCE;
        while header.heir() == Heir::Open && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        // All others are dead.
        let _ = header.claim(Heir::New);
        // Where both look at one page, it is that page's keeper who counts.
        if header.heir() == Heir::Old && self.ledger.before().is_some() {
            child::leave();
        }
    }
}
