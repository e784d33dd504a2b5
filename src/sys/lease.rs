//! Leases (`F_SETLEASE`): knowing that nobody has a file open for writing, and that nobody gets to for a moment.
#![allow(unsafe_code)]

use super::object::last_errno;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io;
use std::cell::Cell;

/// `F_SETSIG` of `asm-generic/fcntl.h`; the same on every architecture but parisc.
const F_SETSIG: libc::c_int = 10;

/// A lease on an open file. Until it is dropped, whoever does what it excludes waits (with `O_NONBLOCK`: gets
/// EWOULDBLOCK), for `/proc/sys/fs/lease-break-time` seconds at most, so it must be held for a few system calls only.
#[must_use = "the lease ends when this is dropped"]
pub struct Lease<'a> {
    fd: BorrowedFd<'a>,
    kind: libc::c_int,
}

impl<'a> Lease<'a> {
    /// Excludes opening for writing and truncating. `fd` must be open for reading only.
    ///
    /// # Errors
    /// EAGAIN when somebody has the file open for writing (`check_conflicting_open` in `fs/locks.c`). EACCES for another
    /// user's file without CAP_LEASE, EINVAL where the file system has no leases.
    pub(crate) fn against_writers(fd: BorrowedFd<'a>) -> io::Result<Lease<'a>> {
        Lease::take(fd, libc::F_RDLCK)
    }

    /// Excludes every other open of the file.
    ///
    /// # Errors
    /// As [`Lease::against_writers`]; EAGAIN when anybody has it open, even through another descriptor of this process.
    pub fn against_all(fd: BorrowedFd<'a>) -> io::Result<Lease<'a>> {
        Lease::take(fd, libc::F_WRLCK)
    }

    fn take(fd: BorrowedFd<'a>, kind: libc::c_int) -> io::Result<Lease<'a>> {
        // The kernel signals the holder when somebody waits, by default with SIGIO, which would end the process. SIGURG
        // is ignored unless a handler asks for it.
        fcntl(fd, F_SETSIG, libc::SIGURG)?;
        fcntl(fd, libc::F_SETLEASE, kind)?;
        Ok(Lease { fd, kind })
    }

    /// True when somebody waits for the lease to end.
    pub(crate) fn is_wanted(&self) -> bool {
        fcntl(self.fd, libc::F_GETLEASE, 0) != Ok(self.kind)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let _ = fcntl(self.fd, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(true) };
}

/// The calling thread never waits from here on: where it would have to for a moment, it gets EAGAIN, and what it does is
/// done once more by a thread that may.
pub(crate) fn never_wait() {
    MAY_WAIT.set(false);
}

/// False in a thread that has called [`never_wait`].
pub(crate) fn may_wait() -> bool {
    MAY_WAIT.get()
}

/// Calls `open`, which opens with `O_NONBLOCK`, again while a lease of somebody's is in the way: 100 times, a
/// millisecond apart. The kernel would wait by itself without that flag, but for a stranger's lease up to 45 s.
///
/// # Errors
/// What `open` answers; EAGAIN when the lease outlasts that, or at once in a thread that never waits.
pub(crate) fn past_leases<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    if !may_wait() {
        return open();
    }
    for _ in 0..100 {
        match open() {
            Err(io::Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(1)),
            other => return other,
        }
    }
    open()
}

fn fcntl(fd: BorrowedFd<'_>, command: libc::c_int, value: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: all three commands take an integer and keep no pointer.
    match unsafe { libc::fcntl(fd.as_raw_fd(), command, value) } {
        -1 => Err(last_errno()),
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::Lease;
    use rustix::fd::AsFd;
    use rustix::io::Errno;
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn a_writer_keeps_the_lease_away_and_a_lease_keeps_writers_away() {
        let path = std::env::temp_dir().join(format!("etcfs-lease-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(
            Lease::against_writers(file.as_fd()).err(),
            Some(Errno::AGAIN),
            "somebody may write"
        );
        drop(writer);
        let lease = Lease::against_writers(file.as_fd()).unwrap();
        assert!(!lease.is_wanted());
        let reader = File::open(&path);
        assert!(reader.is_ok(), "readers do not wait");
        assert!(!lease.is_wanted());
        let refused = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path);
        assert_eq!(
            refused.map(drop).map_err(|e| e.raw_os_error()),
            Err(Some(libc::EWOULDBLOCK))
        );
        assert!(lease.is_wanted());
        drop(lease);
        assert!(OpenOptions::new().append(true).open(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_reader_keeps_the_stronger_lease_away() {
        let path = std::env::temp_dir().join(format!("etcfs-lease2-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let lease = Lease::against_all(file.as_fd());
        assert_eq!(lease.err(), Some(Errno::AGAIN));
        drop(reader);
        assert!(Lease::against_all(file.as_fd()).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
