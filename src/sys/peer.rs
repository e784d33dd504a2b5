//! Who is at the other end of a socket.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd as _};
use rustix::io::{self, Errno};
use rustix::process::Pid;

/// What the kernel noted when the other end was made (SO_PEERCRED, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its process; none: one that this pid namespace does not show, which the kernel calls 0.
    pub(crate) pid: Option<Pid>,
    /// Its user.
    pub(crate) uid: u32,
}

/// Asks the kernel.
///
/// # Errors
/// ENOTSOCK, EBADF.
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `found`, which any bytes are valid for.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut len,
        )
    };
    if answer != 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(Peer {
        pid: Pid::from_raw(found.pid).filter(|_| found.pid > 0),
        uid: found.uid,
    })
}
