//! What is known about the object that an override is in force on, so that one in place costs nothing more than the
//! look that a lookup takes anyway (contract U2).

use crate::fs::journal::{Process, Stood};
use crate::fs::mark::Mark;
use crate::fs::stat::Stat;
use crate::mutex::lock;
use arc_swap::ArcSwapOption;
use rustix::io::Errno;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long an override rests after it was applied: package managers unlink and create again at once, and must
/// succeed at the second try (contract D43).
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between attempts that fail again and again on the same object.
const PAUSE_MAX: Duration = Duration::from_secs(64);

/// What is known of one override. It outlives changes of other rules and is forgotten when the override is replaced.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The last state that was found to be as configured.
    good: ArcSwapOption<Mark>,
    gate: Mutex<Gate>,
    changed_by: Mutex<Option<Process>>,
}

/// What only whoever applies the override may touch; held while the lower object is looked at and changed, so two
/// workers do not do it twice.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// When it was last applied, with or without success.
    applied: Option<Instant>,
    failure: Option<Failure>,
    /// A state that is known to lack an inject's text.
    pub(crate) lacking: Option<Mark>,
    /// A state in which somebody was writing to the file, and went on longer than was waited for.
    pub(crate) busy: Option<Mark>,
}

#[derive(Debug)]
struct Failure {
    mark: Option<Mark>,
    errno: Errno,
    pause: Duration,
}

impl Seen {
    /// True if `stat` shows the last state that was found to be as configured. No system call, no lock.
    pub(crate) fn is_good(&self, stat: &Stat) -> bool {
        self.good
            .load()
            .as_ref()
            .is_some_and(|good| **good == Mark::of(stat))
    }

    /// Remembers that the state `stat` is as configured, unless it is so young that it could change without a trace.
    pub(crate) fn note_good(&self, stat: &Stat) {
        let mark = Mark::of(stat);
        if mark.is_settled() {
            self.good.store(Some(Arc::new(mark)));
        }
    }

    /// Waits until nobody else applies this override.
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    /// Notes that `process` changes the name or the object through this mount.
    pub(crate) fn note_change(&self, process: Process) {
        *lock(&self.changed_by) = Some(process);
    }

    /// Who made the last change, asked once.
    pub(crate) fn take_changer(&self) -> Option<Process> {
        lock(&self.changed_by).take()
    }
}

impl Gate {
    /// True if an attempt may be made on an object in the state `mark` (`None`: there is none).
    pub(crate) fn is_due(&self, mark: Option<Mark>) -> bool {
        let Some(applied) = self.applied else {
            return true;
        };
        let pause = match &self.failure {
            Some(failure) if failure.mark == mark => failure.pause,
            _ => PAUSE,
        };
        applied.elapsed() >= pause
    }

    /// Notes an attempt on `mark`. True if it is worth telling: everything but the same failure again.
    pub(crate) fn attempted(&mut self, mark: Option<Mark>, result: Result<(), Errno>) -> Telling {
        self.applied = Some(Instant::now());
        let Err(errno) = result else {
            self.failure = None;
            return Telling::Journal;
        };
        let (pause, telling) = match &self.failure {
            Some(old) if old.errno == errno && old.mark == mark => {
                ((old.pause * 2).min(PAUSE_MAX), Telling::Nothing)
            }
            Some(old) if old.errno == errno => (PAUSE, Telling::Journal),
            _ => (PAUSE, Telling::JournalAndLog),
        };
        self.failure = Some(Failure { mark, errno, pause });
        telling
    }

    /// Notes that the override is in place.
    pub(crate) fn in_place(&mut self) {
        self.failure = None;
        self.lacking = None;
        self.busy = None;
    }
}

/// Where an attempt is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Nowhere: it failed in the same way as the last time, on the same object.
    Nothing,
    /// In the journal.
    Journal,
    /// In the journal and on standard error: a failure of a new kind.
    JournalAndLog,
}

/// What an override found where it should be.
pub(crate) enum Verdict {
    /// It is as configured.
    InPlace,
    /// It is not.
    Off(Stood),
    /// It cannot be told; what is there is served.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_rests_a_second_after_it_was_applied() {
        let mut gate = Gate::default();
        assert!(gate.is_due(None));
        assert_eq!(gate.attempted(None, Ok(())), Telling::Journal);
        assert!(!gate.is_due(None));
        gate.applied = Instant::now().checked_sub(PAUSE);
        assert!(gate.is_due(None));
    }

    #[test]
    fn a_failure_is_told_once_and_tried_ever_more_rarely() {
        let full = Err(Errno::NOSPC);
        let mut gate = Gate::default();
        assert_eq!(gate.attempted(None, full), Telling::JournalAndLog);
        assert_eq!(gate.attempted(None, full), Telling::Nothing);
        gate.applied = Instant::now().checked_sub(PAUSE);
        assert!(!gate.is_due(None), "twice the pause");
        for _ in 0..20 {
            assert_eq!(gate.attempted(None, full), Telling::Nothing);
        }
        gate.applied = Instant::now().checked_sub(PAUSE_MAX);
        assert!(gate.is_due(None), "but never given up");
        assert_eq!(
            gate.attempted(None, Err(Errno::ROFS)),
            Telling::JournalAndLog
        );
        assert_eq!(gate.attempted(None, Ok(())), Telling::Journal);
        assert_eq!(gate.attempted(None, full), Telling::JournalAndLog);
    }
}
