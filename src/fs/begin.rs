//! Why a tree cannot be begun.

use crate::ledger::Unreadable;
use rustix::io::Errno;
use std::fmt;

/// Why a tree cannot be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// The base directories cannot be opened or looked at.
    Lower(Errno),
    /// What a predecessor has left cannot be gone on with.
    State(Unreadable),
}

impl From<Errno> for NotBegun {
    fn from(errno: Errno) -> NotBegun {
        NotBegun::Lower(errno)
    }
}

impl From<Unreadable> for NotBegun {
    fn from(unreadable: Unreadable) -> NotBegun {
        NotBegun::State(unreadable)
    }
}

impl fmt::Display for NotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotBegun::Lower(errno) => write!(f, "looking at the base directories: {errno}"),
            NotBegun::State(unreadable) => write!(f, "{unreadable}"),
        }
    }
}

impl std::error::Error for NotBegun {}
