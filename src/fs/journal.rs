//! What enforcement has done, for whoever asks why a change of theirs did not last (contract P6).

mod written;

use super::ids::Side;
use super::rules::OverrideKind;
use super::stat::Stat;
use crate::ledger::ring::Ring;
use crate::ledger::{Ledger, Region, Unreadable};
use crate::mutex::lock;
use crate::printable::plain;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// How many entries are kept, the newest.
pub(crate) const JOURNAL_MAX: usize = 256;

/// How many restarts are kept, the newest.
pub(crate) const RESTARTS_MAX: usize = 64;

/// A process as it was when it did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in the daemon's pid namespace; 0 for one outside of it.
    pub pid: u32,
    /// Its command name, if it could still be read.
    pub comm: Option<Box<[u8]>>,
}

impl Process {
    /// The process `pid`, with its name read from `/proc`.
    pub(crate) fn named(pid: u32) -> Process {
        Process {
            pid,
            comm: crate::sys::proc::comm(pid),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.comm {
            Some(comm) => write!(f, "{}[{}]", comm.escape_ascii(), self.pid),
            None => write!(f, "?[{}]", self.pid),
        }
    }
}

/// What stood where an override is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stood {
    /// No object.
    Nothing,
    /// A symlink to somewhere else.
    Symlink(Box<[u8]>),
    /// A regular file, for an inject override one that lacks its text.
    File,
    /// A regular file that holds a text which has been taken out of the configuration.
    OldText,
    /// A directory.
    Directory,
    /// A FIFO, a socket, a device: its file type, `S_IFIFO` and so on.
    Other(u32),
}

impl Stood {
    /// What `stat` shows; a symlink with the target `target`.
    pub(crate) fn of(stat: &Stat, target: &[u8]) -> Stood {
        match stat.kind() {
            libc::S_IFLNK => Stood::Symlink(target.into()),
            libc::S_IFREG => Stood::File,
            libc::S_IFDIR => Stood::Directory,
            other => Stood::Other(other),
        }
    }
}

impl fmt::Display for Stood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stood::Nothing => f.write_str("nothing"),
            Stood::Symlink(target) => write!(f, "a symlink to {}", target.escape_ascii()),
            Stood::File => f.write_str("a regular file"),
            Stood::OldText => f.write_str("text that is configured no more"),
            Stood::Directory => f.write_str("a directory"),
            Stood::Other(libc::S_IFIFO) => f.write_str("a FIFO"),
            Stood::Other(libc::S_IFSOCK) => f.write_str("a socket"),
            Stood::Other(_) => f.write_str("a device"),
        }
    }
}

/// One enforcement, or one that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// When.
    pub time: SystemTime,
    /// The override's path below the mount, without a leading slash.
    pub path: Box<[u8]>,
    /// What is enforced.
    pub kind: OverrideKind,
    /// The symlink's target, or where the text to inject came from.
    pub content: Box<[u8]>,
    /// The lower directory it was enforced in.
    pub side: Side,
    /// What stood there.
    pub found: Stood,
    /// Who made that so, if it happened through this mount.
    pub changed_by: Option<Process>,
    /// Whose access came upon it; `None` when a change of the configuration did.
    pub met_by: Option<Process>,
    /// `Err`: it could not be undone, and what stands there is served.
    pub result: Result<(), Errno>,
}

impl Deed {
    /// What was found, and whose doing that was.
    fn finding(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = match (&self.found, self.kind) {
            (Stood::Nothing, _) => {
                f.write_str("nothing was there")?;
                "removed"
            }
            (Stood::OldText, _) => {
                f.write_str("it held text that is configured no more")?;
                "last changed"
            }
            (Stood::File, OverrideKind::Inject) => {
                write!(f, "the text of {} was missing", self.content.escape_ascii())?;
                "last changed"
            }
            (found, _) => {
                write!(f, "{found} was there")?;
                "made"
            }
        };
        let met = self.met_by.as_ref().map(|process| process.pid);
        match &self.changed_by {
            Some(process) if met == Some(process.pid) => write!(f, ", {made} and met by {process}"),
            Some(process) => write!(f, ", {made} by {process}").and_then(|()| self.meeting(f)),
            None => self.meeting(f),
        }
    }

    fn meeting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.met_by {
            Some(process) => write!(f, ", met by {process}"),
            None => f.write_str(", met by a change of the configuration"),
        }
    }

    /// What becomes of it.
    fn deed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.found, self.kind) {
            (Stood::OldText, _) => f.write_str("taken out"),
            (_, OverrideKind::Symlink) => {
                write!(f, "made a symlink to {}", self.content.escape_ascii())
            }
            (_, OverrideKind::Directory) => f.write_str("made a directory"),
            (_, OverrideKind::Inject) => f.write_str("put in"),
        }
    }
}

impl fmt::Display for Deed {
    /// What was found where the override is in force, by whom it was left so and met, and what was done about it: one line
    /// without the time and the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.finding(f)?;
        match self.result {
            Ok(()) => {
                f.write_str("; ")?;
                self.deed(f)
            }
            Err(errno) => {
                f.write_str("; left as it is, for it cannot be ")?;
                self.deed(f)?;
                write!(f, ": {}", plain(&errno.to_string()))
            }
        }
    }
}

/// One server in place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When the new one began to serve.
    pub time: SystemTime,
    /// Why there is a new one, in words.
    pub why: Box<[u8]>,
    /// How long nobody served.
    pub stall: Duration,
}

/// What has happened: the newest [`JOURNAL_MAX`] enforcements and [`RESTARTS_MAX`] restarts. A successor goes on with it.
#[derive(Debug)]
pub struct Journal {
    newest: Mutex<Newest>,
    kept: Ring,
    kept_restarts: Ring,
}

#[derive(Debug, Default)]
struct Newest {
    entries: VecDeque<Deed>,
    total: u64,
    restarts: VecDeque<Restart>,
    all_restarts: u64,
}

impl Journal {
    /// The journal that `ledger` holds.
    ///
    /// # Errors
    /// [`Unreadable::Broken`].
    pub(crate) fn over(ledger: &'static Ledger) -> Result<Journal, Unreadable> {
        let kept = Ring::over(ledger, Region::Journal, JOURNAL_MAX);
        let kept_restarts = Ring::over(ledger, Region::Restarts, RESTARTS_MAX);
        let mut newest = Newest::default();
        let broken = || Unreadable::Broken("the journal");
        for (number, bytes) in kept.all() {
            newest.total = number;
            newest
                .entries
                .push_back(written::deed(&bytes).ok_or_else(broken)?);
        }
        for (number, bytes) in kept_restarts.all() {
            newest.all_restarts = number;
            newest
                .restarts
                .push_back(written::restart(&bytes).ok_or_else(broken)?);
        }
        Ok(Journal {
            newest: Mutex::new(newest),
            kept,
            kept_restarts,
        })
    }

    /// Adds an entry; the oldest gives way.
    pub(crate) fn add(&self, entry: Deed) {
        let mut state = lock(&self.newest);
        if state.entries.len() >= JOURNAL_MAX {
            state.entries.pop_front();
        }
        state.total = state.total.saturating_add(1);
        self.kept.put(state.total, written::of_deed(&entry).bytes());
        state.entries.push_back(entry);
    }

    /// Notes that a server has taken the place of another one.
    pub(crate) fn restarted(&self, restart: Restart) {
        let mut state = lock(&self.newest);
        if state.restarts.len() >= RESTARTS_MAX {
            state.restarts.pop_front();
        }
        state.all_restarts = state.all_restarts.saturating_add(1);
        self.kept_restarts
            .put(state.all_restarts, written::of_restart(&restart).bytes());
        state.restarts.push_back(restart);
    }

    /// The enforcements, the oldest first.
    pub fn entries(&self) -> Vec<Deed> {
        lock(&self.newest).entries.iter().cloned().collect()
    }

    /// How many enforcements there have ever been.
    pub fn total(&self) -> u64 {
        lock(&self.newest).total
    }

    /// The restarts, the oldest first, and how many there have ever been.
    pub fn restarts(&self) -> (Vec<Restart>, u64) {
        let state = lock(&self.newest);
        (state.restarts.iter().cloned().collect(), state.all_restarts)
    }
}

#[cfg(test)]
mod tests;
