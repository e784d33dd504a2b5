//! The keeper: a process that shares its descriptors with the one that serves, does nothing while that lives, and makes
//! another one when it has died. It reads a few words of the ledger's first page and nothing else.
//!
//! A keeper that has been made at the start ([`Keeper::run`]) has one thread and a whole memory, and makes servers by itself.
//! One that a server has made, since the first was killed ([`super::stand_in`]), is a copy of a process with threads: it may not even
//! allocate, so it goes on as the program anew, and that makes the next server.

use super::ending::{now, number_of, sent_to_all, signal_name, told, unmount};
use super::facts::{Facts, OTHER_STATE, STATE, TRIAL};
use super::server;
use crate::cli::Options;
use crate::fs::Fs;
use crate::ledger::Ledger;
use crate::ledger::header::{End, Header, Trial};
use crate::log;
use crate::mount::Attached;
use crate::sys::child::{self, Command, Half};
use crate::sys::signals::{self, Signals};
use anyhow::{Context as _, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use rustix::process::{Pid, WaitStatus};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// So many servers may die of themselves within [`WINDOW`]; then something is wrong that a further one will not mend.
const DEATHS: usize = 5;

/// See [`DEATHS`].
const WINDOW: Duration = Duration::from_secs(10);

/// How long a program may take to say whether it understands the state, and another to begin to serve.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process that keeps the descriptors.
pub(super) struct Keeper<'a> {
    options: &'a Options,
    facts: Facts,
    ledger: &'static Ledger,
    signals: &'a Signals,
    /// How the program is executed that is to go on with this state.
    again: Command,
    /// Readable once a server has begun to serve.
    begun: OwnedFd,
    /// Descriptors that are no server's to close.
    kept: Vec<RawFd>,
}

/// Why a server has ended.
enum Gone {
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
enum Woken {
    /// The server has begun to serve.
    Begun,
    /// The server has ended.
    Ended(Gone),
    /// A signal that ends the daemon.
    Told(i32),
    /// The time is over.
    Late,
}

impl<'a> Keeper<'a> {
    /// A keeper of the mount of `facts`, whose descriptors are all those that are open now but those that the ledger names.
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
        let mut kept = crate::sys::inherit::open();
        let named = Fs::descriptors_in(ledger);
        kept.retain(|fd| !named.contains(fd));
        let header = ledger.header();
        header.keeper.store(own(), Release);
        Ok(Keeper {
            options,
            facts,
            ledger,
            signals,
            again: Command::own(STATE, &file.to_string()),
            begun,
            kept,
        })
    }

    fn header(&self) -> &'static Header {
        self.ledger.header()
    }

    fn mount(&self) -> &Attached {
        &self.facts.mount
    }

    /// Makes the first server, and returns when it serves.
    ///
    /// # Errors
    /// It could not begin, or was told to end before it did.
    pub(super) fn begin(&self) -> Result<Pid> {
        let server = self.make()?;
        match self.wait(server, None) {
            Woken::Begun => Ok(server),
            Woken::Told(signal) => {
                child::kill(server);
                bail!("{} came before the mount was served", signal_name(signal))
            }
            Woken::Ended(Gone::Failed | Gone::Unreadable) => Err(anyhow!(self.words())),
            Woken::Ended(Gone::Died(Some(status))) => {
                bail!("the server died at the start ({})", told(number_of(status)))
            }
            Woken::Ended(_) | Woken::Late => bail!("the server ended at the start"),
        }
    }

    /// What a server has said that could not begin.
    fn words(&self) -> String {
        let words = self.ledger.read(crate::ledger::Region::Words);
        String::from_utf8_lossy(&words).into_owned()
    }

    /// Sees to it that the mount is served until it is gone, or a signal ends it.
    ///
    /// # Errors
    /// What keeps the mount from being served; it has been taken away then.
    pub(super) fn run(&mut self, mut server: Pid) -> Result<()> {
        loop {
            match self.wait(server, None) {
                Woken::Begun | Woken::Late => {}
                Woken::Told(signal) => {
                    let done = unmount(self.mount(), signal);
                    child::kill(server);
                    return done;
                }
                Woken::Ended(Gone::Over) => return Ok(()),
                Woken::Ended(gone) => {
                    self.note_end(&gone);
                    if let Gone::Failed | Gone::Unreadable = gone {
                        return self.give_up(&self.words());
                    }
                    if matches!(gone, Gone::Died(_)) && self.dies_too_often() {
                        return self.give_up("its servers die again and again");
                    }
                    self.go_over();
                    server = match self.make() {
                        Ok(server) => server,
                        Err(error) => return self.give_up(&format!("{error:#}")),
                    };
                    self.watch_candidate(server);
                }
            }
        }
    }

    /// Makes a server. It serves when the keeper is woken.
    fn make(&self) -> Result<Pid> {
        let header = self.header();
        header.set_end(End::None);
        let first = header.servers.fetch_add(1, Relaxed) == 0;
        let keeper = rustix::process::getpid();
        match child::share().context("making the process that serves")? {
            Half::Parent(server) => {
                header.server.store(server.as_raw_nonzero().get(), Release);
                Ok(server)
            }
            Half::Child => {
                header.server.store(own(), Release);
                server::run(
                    &server::Start {
                        options: self.options,
                        facts: &self.facts,
                        ledger: self.ledger,
                        signals: self.signals,
                        keeper,
                        again: &self.again,
                        begun: self.begun.as_fd(),
                        kept: &self.kept,
                    },
                    first,
                )
            }
        }
    }

    /// Waits for what happens next, `most` at most.
    fn wait(&self, server: Pid, most: Option<Duration>) -> Woken {
        let until = most.map(|most| Instant::now() + most);
        loop {
            if let Some(status) = child::ended(server) {
                return Woken::Ended(self.why(status));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Woken::Late;
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [
                PollFd::new(self.signals, PollFlags::IN),
                PollFd::new(&self.begun, PollFlags::IN),
            ];
            if poll(&mut fds, left.as_ref()).is_err() {
                continue;
            }
            let begun = fds[1].revents().contains(PollFlags::IN);
            if begun && rustix::io::read(&self.begun, &mut [0; 8]).is_ok() {
                return Woken::Begun;
            }
            match self.signals.read() {
                Ok(Some(signal)) if signals::ends(signal) && !self.survives(signal) => {
                    return Woken::Told(signal);
                }
                Ok(Some(libc::SIGUSR2)) => self.try_candidate(),
                _ => {}
            }
        }
    }

    fn survives(&self, signal: i32) -> bool {
        self.options.survive_shutdown && sent_to_all(signal)
    }

    fn why(&self, status: WaitStatus) -> Gone {
        match self.header().end() {
            End::Over => Gone::Over,
            End::Failed => Gone::Failed,
            End::Unreadable => Gone::Unreadable,
            End::Restart | End::Upgrade => Gone::Replaced,
            End::None => Gone::Died(Some(status)),
        }
    }

    /// Writes down how the server ended, for its successor to tell.
    fn note_end(&self, gone: &Gone) {
        let header = self.header();
        let status = match gone {
            Gone::Died(Some(status)) => number_of(*status),
            _ => 0,
        };
        header.status.store(status, Relaxed);
        header.ended_at.store(now(), Release);
    }

    /// True if this death is the last of [`DEATHS`] within [`WINDOW`].
    fn dies_too_often(&self) -> bool {
        let deaths = &self.header().deaths;
        for at in 1..DEATHS {
            deaths[at - 1].store(deaths[at].load(Relaxed), Relaxed);
        }
        deaths[DEATHS - 1].store(now(), Relaxed);
        let first = deaths[0].load(Relaxed);
        first != 0 && now().saturating_sub(first) < WINDOW.as_nanos() as u64
    }

    /// Takes the mount away: nobody is left to serve it.
    fn give_up(&self, why: &str) -> Result<()> {
        let at = self.mount().mountpoint().display();
        log::error(format_args!("{at}: the mount is taken away: {why}"));
        self.mount().detach_lazily()?;
        bail!("{at}: {why}")
    }

    /// Goes on as the program that was found to understand this state, if there is one.
    fn go_over(&mut self) {
        let header = self.header();
        if header.end() != End::Upgrade {
            return;
        }
        let candidate = header.candidate.swap(0, Relaxed);
        header
            .previous
            .store(self.facts.program.unwrap_or(0), Relaxed);
        let before = self.facts.program.replace(candidate);
        self.facts.write(self.ledger);
        let errno = self.again.execute(candidate);
        // The trial was another execution of the same file.
        log::error(format_args!(
            "the other program cannot be executed ({errno}): this one goes on"
        ));
        header.previous.store(0, Relaxed);
        header.set_trial(Trial::DoesNotRun);
        self.facts.program = before;
        self.facts.write(self.ledger);
    }

    /// Tries out the program that a client of the control socket has brought, and has the server end if it will do.
    fn try_candidate(&self) {
        let header = self.header();
        let number = header.candidate.load(Acquire);
        if number <= 2 {
            return;
        }
        let trial = Command::own(TRIAL, &self.file().to_string());
        let program = crate::sys::inherit::borrow(number);
        let found = match trial.try_out(program, PATIENCE.as_millis() as u32 / 100) {
            Some(status) if status.exit_status() == Some(0) => {
                header.set_end(End::Upgrade);
                let server = Pid::from_raw(header.server.load(Acquire));
                server.map(|server| {
                    rustix::process::kill_process(server, rustix::process::Signal::KILL)
                });
                return;
            }
            Some(status) if status.exit_status() == Some(OTHER_STATE) => Trial::OtherState,
            _ => Trial::DoesNotRun,
        };
        header.candidate.store(0, Relaxed);
        header.set_trial(found);
    }

    fn file(&self) -> RawFd {
        self.ledger.file().map_or(0, |file| file.as_raw_fd())
    }

    /// Where this program has just taken another's place: goes back to that one if `server` does not serve in time.
    pub(super) fn watch_candidate(&mut self, server: Pid) {
        let header = self.header();
        let previous = header.previous.load(Relaxed);
        if previous <= 2 {
            return;
        }
        let begun = self.wait(server, Some(PATIENCE));
        header.previous.store(0, Relaxed);
        if let Woken::Begun = begun {
            header.set_trial(Trial::Serves);
            crate::sys::inherit::close(previous);
            return;
        }
        child::kill(server);
        header.set_trial(Trial::DidNotServe);
        let failed = self.facts.program.replace(previous);
        self.facts.write(self.ledger);
        let errno = self.again.execute(previous);
        log::error(format_args!(
            "the program before this one cannot be executed ({errno})"
        ));
        self.facts.program = failed;
        self.facts.write(self.ledger);
    }

    /// Makes the server with which a program begins that has taken another's place.
    ///
    /// # Errors
    /// No process can be made.
    pub(super) fn resume(&mut self) -> Result<Pid> {
        let server = self.make()?;
        self.watch_candidate(server);
        Ok(server)
    }
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
