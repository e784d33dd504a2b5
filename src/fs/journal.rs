//! What enforcement has done, for whoever asks why a change of theirs did not last (contract P6).

use super::node::lock;
use super::rules::{OverrideKind, Side};
use super::stat::Stat;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many entries are kept, the newest.
pub const JOURNAL_MAX: usize = 256;

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
    pub fn named(pid: u32) -> Process {
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
pub enum Found {
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

impl Found {
    /// What `stat` shows; a symlink with the target `target`.
    pub fn of(stat: &Stat, target: &[u8]) -> Found {
        match stat.kind() {
            libc::S_IFLNK => Found::Symlink(target.into()),
            libc::S_IFREG => Found::File,
            libc::S_IFDIR => Found::Directory,
            other => Found::Other(other),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing => f.write_str("nothing"),
            Found::Symlink(target) => write!(f, "a symlink to {}", target.escape_ascii()),
            Found::File => f.write_str("a regular file"),
            Found::OldText => f.write_str("text no longer configured"),
            Found::Directory => f.write_str("a directory"),
            Found::Other(libc::S_IFIFO) => f.write_str("a FIFO"),
            Found::Other(libc::S_IFSOCK) => f.write_str("a socket"),
            Found::Other(_) => f.write_str("a device"),
        }
    }
}

/// One enforcement, or one that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: SystemTime,
    /// The override's path below the mount, without a leading slash.
    pub path: Box<[u8]>,
    /// What is enforced.
    pub kind: OverrideKind,
    /// The lower directory it was enforced in.
    pub side: Side,
    /// What stood there.
    pub found: Found,
    /// Who made that so, if it happened through this mount.
    pub changed_by: Option<Process>,
    /// Whose access came upon it; `None` when a change of the configuration did.
    pub met_by: Option<Process>,
    /// `Err`: it could not be undone, and what stands there is served.
    pub result: Result<(), Errno>,
}

impl fmt::Display for Entry {
    /// One line, without the time's date arithmetic: seconds since 1970, with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(
            f,
            "{}.{:03} override {} /{} ({}): found {}",
            since.as_secs(),
            since.subsec_millis(),
            self.kind.word(),
            self.path.escape_ascii(),
            match self.side {
                Side::Local => "local",
                Side::Global => "global",
            },
            self.found
        )?;
        if let Some(process) = &self.changed_by {
            write!(f, " by {process}")?;
        }
        if let Some(process) = &self.met_by {
            write!(f, ", met by {process}")?;
        }
        match self.result {
            Ok(()) => f.write_str(", undone"),
            Err(errno) => write!(f, ", left as it is: {errno}"),
        }
    }
}

/// The newest [`JOURNAL_MAX`] entries.
#[derive(Debug, Default)]
pub struct Journal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    total: u64,
}

impl Journal {
    /// Adds an entry; the oldest gives way.
    pub fn add(&self, entry: Entry) {
        let mut state = lock(&self.0);
        if state.entries.len() >= JOURNAL_MAX {
            state.entries.pop_front();
        }
        state.entries.push_back(entry);
        state.total += 1;
    }

    /// The entries, the oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.0).entries.iter().cloned().collect()
    }

    /// How many entries there have ever been.
    pub fn total(&self) -> u64 {
        lock(&self.0).total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize) -> Entry {
        Entry {
            time: UNIX_EPOCH + std::time::Duration::from_millis(1_500),
            path: format!("file{number}").into_bytes().into(),
            kind: OverrideKind::Symlink,
            side: Side::Local,
            found: Found::Symlink(b"else\nwhere".as_slice().into()),
            changed_by: Some(Process {
                pid: 7,
                comm: Some(b"ln".as_slice().into()),
            }),
            met_by: Some(Process { pid: 8, comm: None }),
            result: Ok(()),
        }
    }

    #[test]
    fn the_newest_entries_are_kept() {
        let journal = Journal::default();
        for number in 0..300 {
            journal.add(entry(number));
        }
        let entries = journal.entries();
        assert_eq!(entries.len(), JOURNAL_MAX);
        assert_eq!(*entries[0].path, *b"file44");
        assert_eq!(*entries[255].path, *b"file299");
        assert_eq!(journal.total(), 300);
    }

    #[test]
    fn an_entry_is_one_line_whatever_names_it_holds() {
        let mut entry = entry(1);
        assert_eq!(
            entry.to_string(),
            "1.500 override symlink /file1 (local): found a symlink to else\\nwhere by ln[7], met by ?[8], undone"
        );
        entry.found = Found::Directory;
        entry.changed_by = None;
        entry.met_by = None;
        entry.side = Side::Global;
        entry.result = Err(Errno::NOTEMPTY);
        assert_eq!(
            entry.to_string(),
            "1.500 override symlink /file1 (global): found a directory, left as it is: Directory not empty (os error 39)"
        );
    }
}
