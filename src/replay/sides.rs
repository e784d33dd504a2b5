//! The two directories that a replay works on.

use super::rules::Recorded;
use crate::fs::config::Command;
use crate::fs::ids::Side;
use rustix::io::{self, Errno};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Moves what the rules say is global from a copy of a whole mount into the directory of the global side.
///
/// # Errors
/// What renaming answers.
pub fn part(rules: &Recorded, local: &Path, global: &Path) -> io::Result<()> {
    let dirs = Dirs { local, global };
    for command in &rules.commands {
        let Command::AddGlobal(path) = command else {
            continue;
        };
        let from = dirs.path(Side::Local, path.as_bytes());
        let to = dirs.path(Side::Global, path.as_bytes());
        if rustix::fs::lstat(&from).is_ok() && rustix::fs::lstat(&to).is_err() {
            parents(&to)?;
            rustix::fs::rename(&from, &to)?;
        }
    }
    Ok(())
}

/// The directories of both sides.
pub(super) struct Dirs<'a> {
    pub(crate) local: &'a Path,
    pub(crate) global: &'a Path,
}

impl Dirs<'_> {
    /// Where `path`, from the root of the mount, is on `side`.
    pub(super) fn path(&self, side: Side, path: &[u8]) -> PathBuf {
        let dir = match side {
            Side::Local => self.local,
            Side::Global => self.global,
        };
        match path {
            b"" => dir.to_owned(),
            path => dir.join(OsStr::from_bytes(path)),
        }
    }
}

/// Makes the directories above `path` that no request has named: those of a global name deep below local directories.
pub(super) fn parents(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        None => Ok(()),
    }
}
