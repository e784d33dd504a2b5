//! The keeper: a process that shares its descriptors with the one that serves, does nothing while that lives, and makes
//! another one when it has died. It reads a few words of the ledger's first page and nothing else.
//!
//! Should the keeper die, a [spare one](super::spare) takes its place, which is a copy of it made as soon as the mount was served:
//! all servers are made by a process that has one thread and has never served anybody. The spare one cannot wait for a server
//! that is not its child, so it replaces that too, and makes a spare one of its own.

use super::ending::{WINDOW, number_of, sent_to_all, signal_name, told, unmount};
use super::facts::{Facts, STATE};
use super::heir::ALONE;
use super::server;
use super::trial::{self, Trying};
use crate::cli::Options;
use crate::ledger::Ledger;
use crate::ledger::header::{End, FirstPage};
use crate::log;
use crate::mount::Attached;
use crate::sys::child::{self, Execution, Half};
use crate::sys::signals::{self, Signals};
use crate::sys::stuck;
use anyhow::{Context as _, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use rustix::io::{DupFlags, dup3};
use rustix::process::{Pid, PidfdFlags, WaitStatus, pidfd_open};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::{Duration, Instant};

/// The process that keeps the descriptors.
pub(super) struct Keeper<'a> {
    pub(super) options: &'a Options,
    pub(super) facts: Facts,
    pub(super) ledger: &'static Ledger,
    pub(super) signals: &'a Signals,
    /// How the program is executed that is to go on with this state.
    pub(super) again: Execution,
    /// Readable once a server has begun to serve.
    pub(super) begun: OwnedFd,
    /// The process that takes this one's place should it die.
    pub(super) spare: Option<Pid>,
    /// When there is to be another spare one. Whoever ends all processes, one after the other, shall not find a new one.
    pub(super) spare_due: Option<Instant>,
    /// When the last server was made, and how many before it in a row have died at once.
    pub(super) made: Option<Instant>,
    /// See `made`.
    pub(super) short_lives: u32,
    /// How often no server could be made since the one with this number served.
    pub(super) failed: (u32, u32),
    /// A program that is being asked whether it understands the state.
    pub(super) trying: Option<Trying>,
    /// It does, and the server ends for it.
    pub(super) candidate: bool,
    /// Where the program lies that is tried out. Its number is low, since it was given away early: see [`Execution::begin`]. Like all
    /// numbers here it stays what it is, since the spare keeper knows it as well.
    pub(super) seat: OwnedFd,
    /// Goes off while threads of the server wait for the server: see `stuck`.
    timer: OwnedFd,
    /// Servers that have been replaced, and have not ended yet.
    pub(super) stuck: Vec<Pid>,
    /// The process that serves, for the spare keeper, whose child it is not (Linux 5.3); what is never readable where there is
    /// no such descriptor.
    pub(super) shown: OwnedFd,
}

/// Why a server has ended.
pub(super) enum Gone {
    /// The connection has ended.
    Over,
    /// It could not begin.
    Failed,
    /// What was left cannot be gone on with.
    Unreadable,
    /// It was killed, or ended in no way that was meant.
    Died(Option<WaitStatus>),
    /// It is to be replaced, by another program or not.
    Replaced,
}

/// What the keeper wakes up for.
pub(super) enum Woken {
    /// The server has begun to serve.
    Begun,
    /// The server has ended.
    Ended(Gone),
    /// A signal that ends the daemon.
    Told(i32),
    /// Another child has ended.
    ChildEnded,
    /// Another program is to go on.
    Asked,
    /// The time is over.
    Late,
}

impl<'a> Keeper<'a> {
    /// A keeper of the mount of `facts`.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn new(
        options: &'a Options,
        facts: Facts,
        ledger: &'static Ledger,
        signals: &'a Signals,
    ) -> Result<Keeper<'a>> {
        use rustix::event::{EventfdFlags, eventfd};
        let file = ledger.file().map_or(0, |file| file.as_raw_fd());
        let begun = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (seat, shown) = (trial::seat()?, trial::seat()?);
        let timer = stuck::timer()?;
        let header = ledger.header();
        header.keeper.store(child::own(), Release);
        header.timer.store(timer.as_raw_fd(), Release);
        Ok(Keeper {
            options,
            facts,
            ledger,
            signals,
            again: Execution::own(STATE, &file.to_string()),
            begun,
            timer,
            stuck: Vec::new(),
            spare: None,
            spare_due: None,
            made: None,
            short_lives: 0,
            failed: (0, 0),
            trying: None,
            candidate: false,
            seat,
            shown,
        })
    }

    /// Descriptors that are no server's to close.
    fn kept(&self) -> Vec<RawFd> {
        let (signals, begun) = (self.signals.as_fd(), self.begun.as_fd());
        let (seat, shown) = (self.seat.as_fd(), self.shown.as_fd());
        let mine = [signals, begun, seat, shown, self.timer.as_fd()];
        let mine = mine.map(|fd| fd.as_raw_fd());
        // The program before this one is gone back to if this one does not serve.
        let others = [self.file(), self.header().previous.load(Relaxed)];
        let before = self.ledger.before();
        let before = before.map(|before| before.file().as_raw_fd());
        let all = mine.into_iter().chain(others).chain(before);
        let all = all.chain(log::descriptors());
        all.collect()
    }

    pub(super) fn header(&self) -> &'static FirstPage {
        self.ledger.header()
    }

    pub(super) fn mount(&self) -> &Attached {
        &self.facts.mount
    }

    /// The mount point, for who reads it.
    pub(super) fn at(&self) -> std::path::Display<'_> {
        self.mount().mountpoint().display()
    }

    /// Makes the first server, and returns when it serves.
    ///
    /// # Errors
    /// It could not begin, or was told to end before it did.
    pub(super) fn begin(&mut self) -> Result<Pid> {
        let server = self.make()?;
        let woken = loop {
            match self.wait(server, None) {
                // One that has looked at a dead mount for this start, and ended before there was a server.
                Woken::ChildEnded | Woken::Asked => {}
                woken => break woken,
            }
        };
        match woken {
            Woken::Begun => Ok(server),
            Woken::Told(signal) => {
                child::kill(server);
                bail!("{} came before the mount was served", signal_name(signal))
            }
            Woken::Ended(Gone::Failed | Gone::Unreadable) => Err(anyhow!(self.words())),
            Woken::Ended(Gone::Died(Some(status))) => {
                bail!("the server died at the start ({})", told(number_of(status)))
            }
            Woken::Ended(_) | Woken::ChildEnded | Woken::Asked | Woken::Late => {
                bail!("the server ended at the start")
            }
        }
    }

    /// What a server has said that could not begin.
    fn words(&self) -> String {
        let words = self.ledger.read(crate::ledger::Region::Words);
        String::from_utf8_lossy(&words).into_owned()
    }

    /// The same, or `other` if it has said nothing.
    pub(super) fn words_or(&self, other: &str) -> String {
        Some(self.words())
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| other.to_owned())
    }

    /// Sees to it that the mount is served until it is gone, or a signal ends it. `ready` tells who waits for it, when all
    /// processes are there that the mount will have.
    ///
    /// # Errors
    /// What keeps the mount from being served; it has been taken away then.
    pub(super) fn run(
        &mut self,
        mut server: Pid,
        ready: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<()> {
        let maker = child::own();
        if self.spare.is_none() {
            self.make_spare(&mut server);
        }
        if child::own() != maker {
            // It was told by the one that has died. Its descriptors are not this process's to close.
            std::mem::forget(ready);
        } else if ready().is_err() {
            // Whoever started the daemon has given up waiting for it.
            let _ = self.mount().detach_lazily();
            self.end_spare();
            child::kill(server);
            bail!("nobody waits for the mount any more");
        }
        log::use_system();
        let ended = self.watch(&mut server);
        self.end_spare();
        ended
    }

    fn watch(&mut self, server: &mut Pid) -> Result<()> {
        loop {
            self.see_to_children(server);
            let woken = match self.header().signal.swap(0, Acquire) {
                0 => {
                    let due = self.spare_due.into_iter().chain(self.trial_ends()).min();
                    let most = due.map(|due| due.saturating_duration_since(Instant::now()));
                    self.wait(*server, most)
                }
                signal => Woken::Told(signal),
            };
            match woken {
                Woken::Begun | Woken::Late | Woken::ChildEnded | Woken::Asked => {}
                Woken::Told(signal) => {
                    let done = unmount(self.mount(), signal);
                    self.end_server(*server);
                    return done;
                }
                Woken::Ended(Gone::Over) => return Ok(()),
                Woken::Ended(gone) => *server = self.replace(&gone)?,
            }
        }
    }

    /// Sees to the other children: the spare keeper, and a program that is tried out.
    fn see_to_children(&mut self, server: &mut Pid) {
        let ended = self
            .spare
            .take_if(|spare| child::ended(*spare).is_some() || !child::is_there(*spare));
        if ended.is_some() || (self.spare.is_none() && self.spare_due.is_none()) {
            self.spare_due = Some(Instant::now() + 2 * ALONE);
        }
        if self.spare_due.is_some_and(|due| Instant::now() >= due) {
            self.spare_due = None;
            if self.spare.is_none() {
                self.make_spare(server);
            }
            if self.spare.is_none() {
                self.spare_due = Some(Instant::now() + WINDOW);
            }
        }
        self.reap();
        self.try_candidate(server);
    }

    /// Makes another server in the place of one that has gone.
    ///
    /// # Errors
    /// There is not to be another one; the mount has been taken away.
    pub(super) fn replace(&mut self, gone: &Gone) -> Result<Pid> {
        self.note_end(gone);
        let why = match gone {
            Gone::Failed if self.may_try_again() => None,
            Gone::Failed | Gone::Unreadable => Some(self.words()),
            Gone::Died(_) if self.dies_too_often() => Some(format!(
                "{} servers have died within {} s, the last one over {} (-o max_deaths=N allows more)",
                self.options.max_deaths,
                WINDOW.as_secs(),
                self.last_requests()
            )),
            _ => None,
        };
        let made = match why {
            Some(why) => Err(anyhow!(why)),
            None => {
                if matches!(gone, Gone::Died(_)) {
                    self.slow_down();
                }
                self.go_over();
                let mut made = self.make();
                while made.is_err() && self.may_try_again() {
                    made = self.make();
                }
                made
            }
        };
        match made {
            Ok(mut server) => {
                self.watch_candidate(&mut server);
                Ok(server)
            }
            Err(error) => self.give_up(&format!("{error:#}")),
        }
    }

    /// Makes a server. It serves when the keeper is woken.
    pub(super) fn make(&mut self) -> Result<Pid> {
        let header = self.header();
        let keeper = child::own();
        self.forget_waits();
        self.made = Some(Instant::now());
        header.begin();
        let first = header.servers.fetch_add(1, Relaxed) == 0;
        match child::share().context("making the process that serves")? {
            Half::Parent(server) => {
                header.server.store(server.as_raw_nonzero().get(), Release);
                Ok(server)
            }
            Half::Child => {
                // Should the keeper die at this moment, either the spare one finds this process and ends it, or this one finds
                // that there is another keeper, which makes a server itself.
                let _ = header
                    .server
                    .compare_exchange(0, child::own(), SeqCst, Relaxed);
                if header.keeper.load(SeqCst) != keeper {
                    let _ = header
                        .server
                        .compare_exchange(child::own(), 0, SeqCst, Relaxed);
                    child::leave();
                }
                server::run(
                    &server::ServerStart {
                        options: self.options,
                        facts: &self.facts,
                        ledger: self.ledger,
                        signals: self.signals,
                        begun: self.begun.as_fd(),
                        kept: &self.kept(),
                    },
                    first,
                )
            }
        }
    }

    /// Waits for what happens next, `most` at most.
    pub(super) fn wait(&mut self, server: Pid, most: Option<Duration>) -> Woken {
        let until = most.map(|most| Instant::now() + most);
        loop {
            if let Some(status) = child::ended(server) {
                return Woken::Ended(self.why(Some(status)));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Woken::Late;
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [
                PollFd::new(self.signals, PollFlags::IN),
                PollFd::new(&self.begun, PollFlags::IN),
                PollFd::new(&self.timer, PollFlags::IN),
            ];
            if poll(&mut fds, left.as_ref()).is_err() {
                continue;
            }
            let begun = fds[1].revents().contains(PollFlags::IN);
            if begun && rustix::io::read(&self.begun, &mut [0; 8]).is_ok() {
                let header = self.header();
                // One that has died since may have said so.
                if header.serving.load(Acquire) == header.servers.load(Relaxed) {
                    self.show(server);
                    return Woken::Begun;
                }
            }
            if rustix::io::read(&self.timer, &mut [0; 8]).is_ok() && self.is_stuck(server) {
                return Woken::Ended(self.why(None));
            }
            match self.signals.read() {
                Ok(Some(signal)) if signals::ends(signal) => match self.survives(signal) {
                    false => return Woken::Told(signal),
                    true => log::info(format_args!(
                        "{}: {} does not end the daemon (-o survive_shutdown), umount does",
                        self.mount().mountpoint().display(),
                        signal_name(signal)
                    )),
                },
                Ok(Some(libc::SIGUSR2)) => return Woken::Asked,
                Ok(Some(libc::SIGCHLD)) => match child::ended(server) {
                    Some(status) => return Woken::Ended(self.why(Some(status))),
                    None => return Woken::ChildEnded,
                },
                _ => {}
            }
        }
    }

    /// Lets the spare keeper see when the server dies. The server has begun, so nobody closes what has no name yet.
    fn show(&mut self, server: Pid) {
        if let Ok(process) = pidfd_open(server, PidfdFlags::empty()) {
            // Without it the spare one waits for this process only.
            let _ = dup3(&process, &mut self.shown, DupFlags::CLOEXEC);
        }
    }

    fn survives(&self, signal: i32) -> bool {
        self.options.survive_shutdown && sent_to_all(signal)
    }

    fn why(&self, status: Option<WaitStatus>) -> Gone {
        match self.header().end() {
            End::Over => Gone::Over,
            End::Failed => Gone::Failed,
            End::Unreadable => Gone::Unreadable,
            End::Restart | End::Upgrade | End::KeeperDied | End::WentBack => Gone::Replaced,
            End::None => Gone::Died(status),
        }
    }
}
