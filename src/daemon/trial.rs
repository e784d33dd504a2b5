//! A program that is being asked whether it could go on, and where it lies meanwhile.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::process::Pid;
use std::time::{Duration, Instant};

/// How long a program may take to say whether it understands the state.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A program that is being asked.
#[derive(Clone, Copy)]
pub(super) struct Trying {
    /// The process that it is executed by.
    pub(super) child: Pid,
    /// When it has had its time.
    pub(super) until: Instant,
}

/// A descriptor that is never readable, and holds the number of one that is to come.
///
/// # Errors
/// No descriptor is free.
pub(super) fn seat() -> rustix::io::Result<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}
