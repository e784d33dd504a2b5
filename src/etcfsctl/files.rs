//! Files that the command line names: what is said where one cannot be had names it, and what to do.

use anyhow::{Result, anyhow};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The bytes of a regular file. `missing` says what to do where there is none.
///
/// # Errors
/// It cannot be read, or is something else: a FIFO would be waited for.
pub(crate) fn read(path: &Path, missing: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut bytes = Vec::new();
    let done = openat(CWD, path, flags, Mode::empty())
        .and_then(|fd| Ok((FileType::from_raw_mode(fstat(&fd)?.st_mode), fd)))
        .map_err(std::io::Error::from)
        .and_then(|(kind, fd)| match kind {
            FileType::RegularFile | FileType::Directory => File::from(fd).read_to_end(&mut bytes),
            _ => Err(std::io::Error::other("it is not a regular file")),
        });
    match done {
        Ok(_) => Ok(bytes),
        Err(error) => Err(refused(path, "cannot be read", error, missing)),
    }
}

/// As [`read`], of a file of any kind: a recording may come through a pipe.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read_any(path: &Path, missing: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| refused(path, "cannot be read", error, missing))
}

/// A file of this mode, emptied if it is there already.
///
/// # Errors
/// It cannot be made.
pub(crate) fn create(path: &Path, mode: u32) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let missing = "create the directory above it, or name another file";
    let opened = options.open(path);
    opened.map_err(|error| refused(path, "cannot be written", error, missing))
}

fn refused(path: &Path, what: &str, error: std::io::Error, missing: &str) -> anyhow::Error {
    let remedy = match error.kind() {
        ErrorKind::NotFound => missing,
        ErrorKind::PermissionDenied => "run it as somebody who may, or name another file",
        ErrorKind::IsADirectory | ErrorKind::Other => "name a file",
        _ => "name another file",
    };
    anyhow!("{}: {what}: {error}; {remedy}", path.display())
}
