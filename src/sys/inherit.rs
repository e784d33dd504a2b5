//! Descriptors that a predecessor has left in the table: each is taken over by its number, once.
#![allow(unsafe_code, dead_code)]

use crate::mutex::lock;
use rustix::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// What was left, and has not been taken over.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Mutex<BTreeSet<RawFd>>);

impl Inherited {
    /// Keeps the descriptors `named`, and closes every other one above the standard three. Call it before anything is
    /// opened, in a process of one thread: it would be closed.
    pub(crate) fn keep(named: impl IntoIterator<Item = RawFd>) -> Inherited {
        let named: BTreeSet<RawFd> = named.into_iter().filter(|&fd| fd > 2).collect();
        let mut from = 3;
        for &fd in &named {
            close_between(from, fd);
            from = fd + 1;
        }
        close_between(from, RawFd::MAX);
        let open = |&fd: &RawFd| is_open(fd) && fcntl_setfd(borrow(fd), FdFlags::CLOEXEC).is_ok();
        Inherited(Mutex::new(named.into_iter().filter(open).collect()))
    }

    /// The descriptors `named`, of which nobody else here has the ownership; all others stay as they are.
    pub(crate) fn of(named: impl IntoIterator<Item = RawFd>) -> Inherited {
        Inherited(Mutex::new(named.into_iter().collect()))
    }

    /// Takes the descriptor over. `None`: it is not open, or was taken over before.
    pub(crate) fn take(&self, fd: RawFd) -> Option<OwnedFd> {
        // SAFETY: it is open, left by a process that is gone, and taken out of what is left, so nobody else owns it.
        lock(&self.0)
            .remove(&fd)
            .then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Another descriptor of the same open file. `None`: it is not open, or was taken over.
    pub(crate) fn duplicate(&self, fd: RawFd) -> Option<OwnedFd> {
        let left = lock(&self.0);
        let left = left.contains(&fd).then(|| borrow(fd));
        rustix::io::fcntl_dupfd_cloexec(left?, 3).ok()
    }

    /// Closes what nobody has taken over.
    pub(crate) fn close_rest(&self) {
        let rest = std::mem::take(&mut *lock(&self.0));
        for fd in rest {
            // SAFETY: as in `take`.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// A descriptor that somebody else owns, and which stays open while it is used.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    assert!(fd >= 0, "the number of a descriptor");
    // SAFETY: a number that is not open makes calls fail, with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Takes over a descriptor that was left, before anything else is opened. `None`: it is not open, or a standard one.
pub(crate) fn take_over(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: it was left open by the program that this process was before, whose objects are gone.
    (fd > 2 && is_open(fd)).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes a descriptor that was left and is not used any more.
pub(crate) fn close(fd: RawFd) {
    drop(take_over(fd));
}

fn is_open(fd: RawFd) -> bool {
    fcntl_getfd(borrow(fd)).is_ok()
}

fn most_descriptors() -> RawFd {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    most.map_or(RawFd::MAX, |n| RawFd::try_from(n).unwrap_or(RawFd::MAX))
}

/// Closes the descriptors from `from` on that are less than `to`. One call from Linux 5.9 on.
pub(super) fn close_between(from: RawFd, to: RawFd) {
    if from >= to {
        return;
    }
    let last = (to - 1) as libc::c_uint;
    // SAFETY: nothing in this process owns them: see `Inherited::keep`.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, from as libc::c_uint, last, 0) };
    if answer == 0 {
        return;
    }
    for fd in from..to.min(most_descriptors()) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}
