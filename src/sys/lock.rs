//! Locks on lower files: open-file-description locks (`F_OFD_SETLK`, Linux 3.15) and `flock(2)`, and how a thread that
//! waits for one is made to give up.
//!
//! An open-file-description lock conflicts with the POSIX locks of native processes as one POSIX lock does with
//! another, but belongs to the descriptor and not to the process, so that one daemon can hold locks for many owners.
#![allow(unsafe_code)]

use super::object::last_errno;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::FlockOperation;
use rustix::io;
use std::sync::Once;

/// A range of bytes: the first and the last one, which is included. `i64::MAX` as the last one: all that may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// First byte.
    pub(crate) first: u64,
    /// Last byte, included.
    pub(crate) last: u64,
}

/// What a lock excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Writers: any number may hold it (`F_RDLCK`, `LOCK_SH`).
    Shared,
    /// Everybody else (`F_WRLCK`, `LOCK_EX`).
    Exclusive,
}

/// A lock that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// What it covers.
    pub(crate) range: Range,
    /// What it excludes.
    pub(crate) kind: LockKind,
    /// The holder as this process sees it; 0: an open file description, or a process that is not visible here.
    pub(crate) pid: u32,
}

impl LockKind {
    /// From `F_RDLCK` or `F_WRLCK`.
    pub(crate) fn from_raw(raw: u32) -> Option<LockKind> {
        match raw as i32 {
            libc::F_RDLCK => Some(LockKind::Shared),
            libc::F_WRLCK => Some(LockKind::Exclusive),
            _ => None,
        }
    }

    /// `F_RDLCK` or `F_WRLCK`.
    pub(crate) fn to_raw(self) -> u32 {
        (match self {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
        }) as u32
    }
}

/// Sets (`Some`) or removes (`None`) a lock of the open file description, or answers at once that it cannot be had.
///
/// # Errors
/// EAGAIN: somebody holds a lock that is in the way. EBADF: the descriptor is not open for reading, or for writing, as
/// the kind needs. ENOLCK.
pub(crate) fn ofd_set(fd: impl AsFd, range: Range, kind: Option<LockKind>) -> io::Result<()> {
    fcntl(fd, libc::F_OFD_SETLK, &mut raw(range, kind)).map_err(no_access_is_again)
}

/// Sets a lock of the open file description, and waits for it.
///
/// # Errors
/// EINTR: the thread was woken by [`wake`]. Otherwise as [`ofd_set`].
pub(crate) fn ofd_wait(fd: impl AsFd, range: Range, kind: LockKind) -> io::Result<()> {
    fcntl(fd, libc::F_OFD_SETLKW, &mut raw(range, Some(kind)))
}

/// The first lock that would be in the way of `kind` on `range`.
///
/// # Errors
/// What `fcntl(2)` answers.
pub(crate) fn ofd_get(fd: impl AsFd, range: Range, kind: LockKind) -> io::Result<Option<Conflict>> {
    let mut lock = raw(range, Some(kind));
    fcntl(fd, libc::F_OFD_GETLK, &mut lock)?;
    let first = lock.l_start as u64;
    let last = match lock.l_len {
        0 => i64::MAX as u64,
        len => first + len as u64 - 1,
    };
    Ok(
        LockKind::from_raw(u32::from(lock.l_type as u16)).map(|kind| Conflict {
            range: Range { first, last },
            kind,
            pid: u32::try_from(lock.l_pid).unwrap_or(0),
        }),
    )
}

/// `flock(2)` on the open file: sets (`Some`) or removes (`None`) its lock. `wait`: until it can be had.
///
/// # Errors
/// EAGAIN where it would have to wait; EINTR when the thread was woken by [`wake`]. Changing the kind of a lock
/// gives the old one up first: after an error the file has none.
pub(crate) fn flock(fd: impl AsFd, kind: Option<LockKind>, wait: bool) -> io::Result<()> {
    let operation = match (kind, wait) {
        (None, _) => FlockOperation::Unlock,
        (Some(LockKind::Shared), true) => FlockOperation::LockShared,
        (Some(LockKind::Shared), false) => FlockOperation::NonBlockingLockShared,
        (Some(LockKind::Exclusive), true) => FlockOperation::LockExclusive,
        (Some(LockKind::Exclusive), false) => FlockOperation::NonBlockingLockExclusive,
    };
    rustix::fs::flock(fd, operation)
}

fn raw(range: Range, kind: Option<LockKind>) -> libc::flock64 {
    // SAFETY: `struct flock` is plain integers, for which zero is a value; F_OFD_* demands `l_pid` to be 0.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = match kind {
        None => libc::F_UNLCK,
        Some(LockKind::Shared) => libc::F_RDLCK,
        Some(LockKind::Exclusive) => libc::F_WRLCK,
    } as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = range.first as libc::off64_t;
    if range.last < i64::MAX as u64 {
        lock.l_len = (range.last - range.first + 1) as libc::off64_t;
    }
    lock
}

/// The call whose `struct flock` has offsets of 64 bits.
#[cfg(target_pointer_width = "32")]
const FCNTL: libc::c_long = libc::SYS_fcntl64;
#[cfg(target_pointer_width = "64")]
const FCNTL: libc::c_long = libc::SYS_fcntl;

fn fcntl(fd: impl AsFd, command: libc::c_int, lock: &mut libc::flock64) -> io::Result<()> {
    // SAFETY: the three F_OFD_* commands read, and F_OFD_GETLK writes, one `struct flock64`, which lives until the call
    // returns. The C library's fcntl() takes a `struct flock`, whose offsets have 32 bits where pointers have.
    let result = unsafe { libc::syscall(FCNTL, fd.as_fd().as_raw_fd(), command, &raw mut *lock) };
    if result < 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// POSIX lets a system say EACCES for a lock that is in the way; Linux's file systems say EAGAIN, network ones differ.
fn no_access_is_again(errno: io::Errno) -> io::Errno {
    match errno {
        io::Errno::ACCESS => io::Errno::AGAIN,
        other => other,
    }
}

/// What makes a blocked system call of one thread return EINTR. Its default action is to be ignored, so a stray one
/// does no harm, and nothing else here uses it.
const WAKE: libc::c_int = libc::SIGURG;

/// A thread of this process, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId(libc::pid_t);

/// Makes the calling thread one that [`wake`] can reach, and says which it is.
pub(crate) fn become_wakeable() -> ThreadId {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all zero is a valid `struct sigaction`: no flags, above all no SA_RESTART, and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does nothing, so it is safe at any point of any thread.
        unsafe { libc::sigaction(WAKE, &raw const action, std::ptr::null_mut()) };
    });
    // SAFETY: both calls fill and read `set`, which lives until they return, and change this thread's mask only.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, WAKE);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
    // SAFETY: gettid(2) takes nothing.
    ThreadId(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t)
}

/// Makes the blocked system call that `thread` is in return EINTR; does nothing if it is in none, so the caller has to
/// come again until the thread has left. The thread must not have ended: its number may belong to another one then.
pub(crate) fn wake(thread: ThreadId) {
    // SAFETY: tgkill(2) takes integers; the signal has a handler, or is ignored.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.0, WAKE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, Mode, OFlags};
    use std::fs::File;

    const ALL: Range = Range {
        first: 0,
        last: i64::MAX as u64,
    };

    fn two_descriptions() -> (File, File) {
        let one = File::from(rustix::fs::memfd_create("locked", MemfdFlags::CLOEXEC).unwrap());
        let name = format!("/proc/self/fd/{}", one.as_raw_fd());
        let two = rustix::fs::open(name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (one, File::from(two))
    }

    #[test]
    fn descriptions_of_one_process_exclude_each_other() {
        let (one, two) = two_descriptions();
        let range = Range { first: 5, last: 9 };
        ofd_set(&one, range, Some(LockKind::Exclusive)).unwrap();
        assert_eq!(
            ofd_set(&two, ALL, Some(LockKind::Shared)),
            Err(io::Errno::AGAIN)
        );
        let conflict = ofd_get(&two, ALL, LockKind::Shared).unwrap().unwrap();
        assert_eq!((conflict.range, conflict.pid), (range, 0));
        ofd_set(&one, ALL, None).unwrap();
        assert_eq!(ofd_get(&two, ALL, LockKind::Shared), Ok(None));
    }

    #[test]
    fn a_woken_thread_gives_up() {
        let (one, two) = two_descriptions();
        ofd_set(&one, ALL, Some(LockKind::Exclusive)).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            tell.send(become_wakeable()).unwrap();
            ofd_wait(&two, ALL, LockKind::Shared)
        });
        let thread = told.recv().unwrap();
        while !waiter.is_finished() {
            wake(thread);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(waiter.join().unwrap(), Err(io::Errno::INTR));
    }
}
