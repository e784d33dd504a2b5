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
pub struct Starting {
    /// The directory beneath every etcfs, locked. None: it may not be read, or is locked by somebody who keeps it.
    held: Option<OwnedFd>,
}

impl Starting {
    /// Waits for the starts that came first on the mountpoint whose directory, beneath every etcfs, is `base`.
    pub fn wait(base: OwnedFd) -> Starting {
        Starting { held: lock(&base) }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // A question to a mount that hangs has the same open file, and may outlive this start (`make_room`).
        if let Some(dir) = &self.held {
            let _ = flock(dir, FlockOperation::Unlock);
        }
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
