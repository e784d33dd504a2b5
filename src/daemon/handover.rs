//! From one program to another: the keeper executes it, and it goes on as the same process, with a table of descriptors of its
//! own. The spare keeper stays what it was and stands by, with the table of before. As long as no request has been read by the
//! new program's server nothing has been opened or closed that the other table lacks, so either may go on; a server takes the
//! turn before it reads the first one, and ends the one that stood by.

use super::heir::PATIENCE;
use super::keeper::{Keeper, Woken};
use crate::fs::Fs;
use crate::ledger::Region;
use crate::ledger::header::{End, Heir, Trial};
use crate::log;
use crate::session::meter::now;
use crate::sys::{child, inherit};
use anyhow::Result;
use rustix::fd::RawFd;
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// How often whoever waits for that looks.
const SOON: Duration = Duration::from_millis(1);

/// How long a spare keeper may take to say that it stands by.
const ANSWER: Duration = Duration::from_millis(200);

impl Keeper<'_> {
    /// Has the spare keeper stand by. In one that is made for it this returns when it has become the keeper.
    pub(super) fn have_stand_by(&mut self, server: &mut Pid) -> bool {
        let header = self.header();
        for _ in 0..2 {
            if self.spare.is_none() {
                let keeper = getpid();
                self.make_spare(server);
                if getpid() != keeper {
                    return false;
                }
            }
            let Some(spare) = self.spare else {
                return false;
            };
            let number = spare.as_raw_nonzero().get();
            header.set_heir(Heir::None);
            header.stand_by.store(number, Release);
            let _ = kill_process(spare, Signal::USR2);
            let until = Instant::now() + ANSWER;
            while Instant::now() < until {
                if header.stands_by.load(Acquire) == number {
                    return true;
                }
                std::thread::sleep(SOON);
            }
            // It is stopped, or has just died.
            header.stand_by.store(0, Release);
            self.end_spare();
        }
        false
    }

    /// Goes on as the program that was found to understand this state, if there is one.
    pub(super) fn go_over(&mut self) {
        if !std::mem::take(&mut self.candidate) {
            return;
        }
        let stands_by = self
            .spare
            .is_some_and(|spare| child::ended(spare).is_none());
        if self.header().end() != End::Upgrade || !stands_by {
            return self.refuse_candidate(Trial::BrokenOff);
        }
        match self.leave_seat() {
            Ok(program) => {
                let before = self.facts.program;
                self.execute(program, before);
            }
            Err(_) => self.refuse_candidate(Trial::DoesNotRun),
        }
    }

    /// Goes on as another program, while somebody stands by. `previous`: what that may go back to. Returns only where it fails:
    /// this one goes on.
    fn execute(&mut self, program: RawFd, previous: Option<RawFd>) {
        let header = self.header();
        let before = self.facts.program.replace(program);
        header.previous.store(previous.unwrap_or(0), Relaxed);
        self.ledger.write(Region::Words, b"");
        self.facts.write(self.ledger);
        let mut named = Fs::descriptors_in(self.ledger);
        named.extend(self.facts.descriptors());
        named.extend(previous);
        named.push(self.file());
        header.executed_at.store(now(), Release);
        header.set_heir(Heir::Open);
        let errno = self.again.execute(program, &named);
        log::error(format_args!(
            "{}: the other program cannot be executed ({errno}): this one goes on",
            self.at()
        ));
        header.stand_by.store(0, Release);
        header.set_heir(Heir::None);
        header.previous.store(0, Relaxed);
        header.set_trial(Trial::DoesNotRun);
        self.facts.program = before;
        self.facts.write(self.ledger);
        // One that stood by may have seen that it is late.
        self.end_spare();
        inherit::close(program);
    }

    /// Makes the processes with which a program begins that has taken another's place.
    ///
    /// # Errors
    /// No process can be made.
    pub(super) fn resume(&mut self) -> Result<Pid> {
        let keeper = getpid();
        let mut server = keeper;
        // Before the server, so that there is always somebody who can go on.
        self.make_spare(&mut server);
        if getpid() != keeper {
            return Ok(server);
        }
        let mut server = self.make()?;
        self.watch_candidate(&mut server);
        Ok(server)
    }

    /// Where this program has just taken another's place: goes back to that one if `server` does not serve in time.
    pub(super) fn watch_candidate(&mut self, server: &mut Pid) {
        let header = self.header();
        let previous = header.previous.load(Relaxed);
        let told = self.ledger.told_page();
        if previous <= 2 && !matches!(header.heir(), Heir::Open | Heir::New) {
            return;
        }
        let until = Instant::now() + PATIENCE;
        let begun = loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.wait(*server, Some(left)) {
                Woken::ChildEnded | Woken::Asked => {}
                // It is carried out by whoever looks after the mount from here on.
                Woken::Told(signal) => {
                    header.signal.store(signal, Release);
                    told.signal.store(signal, Release);
                }
                other => break other,
            }
        };
        if let Woken::Begun = begun {
            return self.settle_in(previous);
        }
        header.set_trial(Trial::DidNotServe);
        child::kill(*server);
        if told.heir() == Heir::Open {
            // Nothing has been read: whoever stands by goes on, with all that was open.
            child::leave();
        }
        self.settle_in(0);
        let keeper = getpid();
        if previous <= 2 || !self.have_stand_by(server) || getpid() != keeper {
            return;
        }
        log::error(format_args!(
            "{}: no server of this program serves: back to the one before: {}",
            self.at(),
            self.words_or("it ended, or hung")
        ));
        // That one does not come back to this.
        self.execute(previous, None);
    }

    /// This program serves, and the one before it is not needed any more.
    fn settle_in(&mut self, previous: RawFd) {
        let header = self.header();
        let old = Pid::from_raw(header.stand_by.swap(0, Relaxed));
        // Of a keeper that has died it is no child.
        if let Some(old) = old.filter(|&old| child::is_there(old)) {
            child::kill(old);
        }
        header.set_heir(Heir::None);
        header.previous.store(0, Relaxed);
        if let Some(before) = self.ledger.before() {
            before.let_go();
        }
        if previous > 2 {
            inherit::close(previous);
        }
    }
}
