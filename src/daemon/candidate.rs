//! Another program that is to go on with the mount: it is tried out, executed in the keeper's place, and gone back from if it
//! does not serve.

use super::facts::{OTHER_STATE, TRIAL};
use super::keeper::{Keeper, Woken};
use crate::ledger::VERSION;
use crate::ledger::header::{End, Trial};
use crate::log;
use crate::sys::child::{self, Execution};
use crate::sys::inherit;
use anyhow::Result;
use rustix::fd::{AsRawFd as _, IntoRawFd as _, RawFd};
use rustix::fs::fstat;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// How long a program may take to say whether it understands the state, and another to begin to serve.
const PATIENCE: Duration = Duration::from_secs(2);

impl Keeper<'_> {
    /// Goes on as the program that was found to understand this state, if there is one.
    pub(super) fn go_over(&mut self) {
        let header = self.header();
        let Some(candidate) = self.candidate.take() else {
            return;
        };
        // Even if the server has just said for itself why it ends.
        header.set_end(End::Upgrade);
        // It would go on with descriptors of its own otherwise.
        self.end_spare();
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
        self.drop_candidate(candidate);
    }

    /// Tries out the program that a client of the control socket has brought, and has the server end if it will do.
    pub(super) fn try_candidate(&mut self) {
        let header = self.header();
        let Some(program) = self.take_candidate() else {
            return;
        };
        let trial = Execution::own(TRIAL, &self.file().to_string());
        header.understood.store(0, Relaxed);
        let found = match trial.try_out(inherit::borrow(program), PATIENCE) {
            // Any program may end with 0.
            Some(_) if header.understood.load(Acquire) == VERSION => {
                self.candidate = Some(program);
                header.set_end(End::Upgrade);
                let server = Pid::from_raw(header.server.load(Acquire));
                server.map(|server| kill_process(server, Signal::KILL));
                return;
            }
            Some(status) if status.exit_status() == Some(OTHER_STATE) => Trial::OtherState,
            _ => Trial::DoesNotRun,
        };
        self.drop_candidate(program);
        header.set_trial(found);
    }

    /// A descriptor of this process's own of the program that the server offers. The number that the server has written down
    /// may mean a client's file by now, so only the very file is taken that the server has looked at.
    fn take_candidate(&mut self) -> Option<RawFd> {
        let header = self.header();
        let number = header.candidate.load(Acquire);
        if number <= 2 {
            return None;
        }
        let program = fcntl_dupfd_cloexec(inherit::borrow(number), 3).ok()?;
        let stat = fstat(&program).ok()?;
        let is = [&header.candidate_is[0], &header.candidate_is[1]].map(|word| word.load(Acquire));
        let taken = header
            .candidate
            .compare_exchange(number, 0, AcqRel, Relaxed);
        if [stat.st_dev, stat.st_ino] != is || !child::is_ours_alone(&stat) || taken.is_err() {
            return None;
        }
        let program = program.into_raw_fd();
        self.kept.push(program);
        Some(program)
    }

    fn drop_candidate(&mut self, program: RawFd) {
        self.kept.retain(|&fd| fd != program);
        inherit::close(program);
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
        let until = Instant::now() + PATIENCE;
        let begun = loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.wait(server, Some(left)) {
                Woken::ChildEnded => {}
                // It is carried out by whoever looks after the mount from here on.
                Woken::Told(signal) => header.signal.store(signal, Release),
                other => break other,
            }
        };
        header.previous.store(0, Relaxed);
        self.kept.retain(|&fd| fd != previous);
        if let Woken::Begun = begun {
            header.set_trial(Trial::Serves);
            inherit::close(previous);
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
