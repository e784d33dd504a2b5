//! Another program that is to go on with the mount: it is asked by itself whether it could, beside all that the keeper does.
//!
//! It is executed with one argument, which a program that knows nothing of this refuses, and with no descriptors but the
//! standard ones, its own and the state's. What it answers is written into the state: any program may end with 0.

use super::facts::{OTHER_OPTIONS, OTHER_STATE, UNDERSTANDS};
use super::keeper::Keeper;
use super::trial::{PATIENCE, Trying, seat};
use crate::ledger::VERSION;
use crate::ledger::header::{End, Trial};
use crate::sys::child::{self, Execution};
use crate::sys::inherit;
use rustix::fd::{AsRawFd as _, IntoRawFd as _, RawFd};
use rustix::fs::fstat;
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::process::{Pid, Signal, WaitStatus, kill_process};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Instant;

impl Keeper<'_> {
    /// Begins to try out the program that a client of the control socket has brought, and goes on with one that is tried out.
    pub(super) fn try_candidate(&mut self, server: &mut Pid) {
        let header = self.header();
        if self.trying.is_none() && !self.candidate && header.candidate.load(Acquire) > 2 {
            if !self.take_candidate() {
                return;
            }
            header.understood.store(0, Relaxed);
            let state = self.file();
            let trial = Execution::with_argument(format!("{UNDERSTANDS}{state}"));
            match trial.begin(self.seat.as_raw_fd(), state) {
                Ok(child) => {
                    let until = Instant::now() + PATIENCE;
                    self.trying = Some(Trying { child, until });
                }
                Err(_) => self.refuse_candidate(Trial::DoesNotRun),
            }
        }
        let Some(trying) = self.trying else {
            return;
        };
        if let Some(status) = child::ended(trying.child) {
            self.trying = None;
            self.decide(status, server);
        } else if Instant::now() >= trying.until {
            child::kill(trying.child);
            self.trying = None;
            self.refuse_candidate(Trial::DoesNotRun);
        }
    }

    /// When the program that is being tried out has had its time.
    pub(super) fn trial_ends(&self) -> Option<Instant> {
        self.trying.map(|trying| trying.until)
    }

    /// Has the server end if the program will do.
    fn decide(&mut self, status: WaitStatus, server: &mut Pid) {
        let header = self.header();
        let understood = header.understood.load(Acquire) == VERSION;
        match status.exit_status() {
            Some(0) if understood => {}
            Some(OTHER_STATE) => return self.refuse_candidate(Trial::OtherState),
            Some(OTHER_OPTIONS) => return self.refuse_candidate(Trial::OtherOptions),
            _ => return self.refuse_candidate(Trial::DoesNotRun),
        }
        let keeper = child::own();
        let stands_by = self.have_stand_by(server);
        if child::own() != keeper {
            // The spare one of this moment, much later: the keeper has died.
            return;
        }
        if !stands_by {
            return self.refuse_candidate(Trial::NobodyStandsBy);
        }
        self.candidate = true;
        header.set_end(End::Upgrade);
        let _ = kill_process(*server, Signal::KILL);
    }

    /// Puts the program that the server offers on the seat. The number that the server has written down may mean a client's
    /// file by now, so only the very file is taken that the server has looked at.
    fn take_candidate(&mut self) -> bool {
        let header = self.header();
        let number = header.candidate.load(Acquire);
        let is = [&header.candidate_is[0], &header.candidate_is[1]].map(|word| word.load(Acquire));
        let by = header.offered_by.load(Acquire);
        let taken = header
            .candidate
            .compare_exchange(number, 0, AcqRel, Relaxed);
        header.set_trial(Trial::Open);
        header.trial_of.store(by, Release);
        let program = fcntl_dupfd_cloexec(inherit::borrow(number), 3).ok();
        let program = program.filter(|program| {
            fstat(program)
                .is_ok_and(|stat| [stat.st_dev, stat.st_ino] == is && child::is_ours_alone(&stat))
        });
        let Some(program) = program.filter(|_| taken.is_ok()) else {
            header.set_trial(Trial::BrokenOff);
            return false;
        };
        dup3(&program, &mut self.seat, DupFlags::CLOEXEC).is_ok()
    }

    /// Nothing changes.
    pub(super) fn refuse_candidate(&mut self, why: Trial) {
        self.empty_seat();
        self.header().stand_by.store(0, Release);
        self.header().set_trial(why);
    }

    /// What was under way for another keeper, or another server, is no more.
    pub(super) fn break_off(&mut self) {
        let header = self.header();
        header.candidate.store(0, Release);
        if header.trial() == Trial::Open {
            header.set_trial(Trial::BrokenOff);
        }
    }

    /// Lets the program on the seat go.
    pub(super) fn empty_seat(&mut self) {
        if let Ok(empty) = seat() {
            // Where that fails the program stays open, and nothing else happens.
            let _ = dup3(&empty, &mut self.seat, DupFlags::CLOEXEC);
        }
    }

    /// Lets the number of the seat be that of this program, and has another seat. A spare keeper knows the old number, and must
    /// not be one any more if this program goes on.
    pub(super) fn leave_seat(&mut self) -> rustix::io::Result<RawFd> {
        let left = std::mem::replace(&mut self.seat, seat()?);
        Ok(left.into_raw_fd())
    }

    pub(super) fn file(&self) -> RawFd {
        self.ledger.file().map_or(0, |file| file.as_raw_fd())
    }
}
