//! Starts on one mountpoint, one after the other. Of several at the same moment each would find the mountpoint free, and each
//! would be mounted over the one before.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

/// How long another start is waited for. Everybody who may read the directory can lock it, and stops nobody for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before the next try.
const SOON: Duration = Duration::from_millis(5);

/// The right to look at a mountpoint and to mount there; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the next one's turn comes when it is dropped"]
pub struct Turn {
    /// The directory beneath every etcfs, locked. None: it may not be read, or is locked by somebody who keeps it.
    _held: Option<OwnedFd>,
}

impl Turn {
    /// Waits for the starts that came first on the mountpoint whose directory, beneath every etcfs, is `base`.
    pub fn wait(base: OwnedFd) -> Turn {
        Turn { _held: lock(&base) }
    }
}

fn lock(base: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(base, ".", flags, Mode::empty()).ok()?;
    let end = Instant::now() + PATIENCE;
    loop {
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(dir),
            Err(Errno::AGAIN) if Instant::now() < end => std::thread::sleep(SOON),
            Err(_) => return None,
        }
    }
}
