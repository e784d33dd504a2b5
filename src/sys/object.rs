//! Changing an object through a descriptor that may be `O_PATH`.
//!
//! An `O_PATH` descriptor pins an inode without opening it: a FIFO stays quiet, a device untouched. The kernel lets
//! some calls act on it directly and refuses others; those go through the name of the descriptor in `/proc/self/fd`,
//! which leads to the very inode and follows no symlink beyond it.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, Timestamps};
use rustix::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// `fchmodat2(2)`, Linux 6.6. The number is the same on every architecture but alpha.
const SYS_FCHMODAT2: libc::c_long = 452;

/// False once the kernel has said that it lacks fchmodat2.
static HAS_FCHMODAT2: AtomicBool = AtomicBool::new(true);

/// The name of a descriptor below `/proc/self/fd`, as a C string on the stack.
pub(crate) struct ProcName([u8; 32]);

/// Where the names are.
const PROC_FD: &str = "/proc/self/fd/";

impl ProcName {
    /// Names `fd`.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> ProcName {
        use std::io::Write as _;
        let mut name = [0; 32];
        // The directory and ten digits fit in 31 bytes, so the last byte stays NUL and the write cannot fail.
        let _ = write!(&mut name[..31], "{PROC_FD}{}", fd.as_raw_fd());
        ProcName(name)
    }

    /// The name, for calls that take a path and follow the magic link.
    pub(crate) fn as_c_str(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }

    /// The last component of the name.
    pub(crate) fn number(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.0[PROC_FD.len()..]).unwrap_or(c"")
    }
}

/// `chmod` of what `fd` refers to, which must not be a symlink.
///
/// # Errors
/// EOPNOTSUPP for a symlink; EBADF for an `O_PATH` descriptor where both fchmodat2 and `/proc` are missing.
pub(crate) fn chmod(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let mode = mode & 0o7777;
    if HAS_FCHMODAT2.load(Ordering::Relaxed) {
        // SAFETY: integers and an empty C string; the kernel keeps no reference.
        let rc = unsafe {
            libc::syscall(
                SYS_FCHMODAT2,
                fd.as_raw_fd(),
                c"".as_ptr(),
                mode,
                libc::AT_EMPTY_PATH,
            )
        };
        if rc == 0 {
            return Ok(());
        }
        match last_errno() {
            io::Errno::NOSYS => HAS_FCHMODAT2.store(false, Ordering::Relaxed),
            errno => return Err(errno),
        }
    }
    match rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)) {
        Err(io::Errno::BADF) => {}
        other => return other,
    }
    let name = ProcName::of(fd);
    match rustix::fs::chmod(name.as_c_str(), Mode::from_raw_mode(mode)) {
        Err(io::Errno::NOENT) => Err(io::Errno::BADF),
        other => other,
    }
}

/// `chown` of what `fd` refers to; `None` leaves an id as it is. A symlink is changed itself.
///
/// # Errors
/// What `fchownat(2)` answers.
pub(crate) fn chown(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let uid = uid.map(rustix::fs::Uid::from_raw);
    let gid = gid.map(rustix::fs::Gid::from_raw);
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
}

/// Sets the access and modification time of what `fd` refers to. A symlink is changed itself.
///
/// # Errors
/// What `utimensat(2)` answers.
pub(crate) fn set_times(fd: BorrowedFd<'_>, times: &Timestamps) -> io::Result<()> {
    match rustix::fs::utimensat(fd, c"", times, AtFlags::EMPTY_PATH) {
        // AT_EMPTY_PATH came to utimensat with Linux 5.8.
        Err(io::Errno::INVAL | io::Errno::NOENT) => {
            match rustix::fs::futimens(fd, times) {
                Err(io::Errno::BADF) => {}
                other => return other,
            }
            let name = ProcName::of(fd);
            rustix::fs::utimensat(rustix::fs::CWD, name.as_c_str(), times, AtFlags::empty())
        }
        other => other,
    }
}

/// Gives what `fd` refers to one more name, `name` in `dir`; the way to name a file made without one (`O_TMPFILE`).
///
/// # Errors
/// EEXIST, EXDEV, EMLINK as `linkat(2)`; ENOENT for a nameless file opened with `O_EXCL`.
pub(crate) fn link(
    fd: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> io::Result<()> {
    match rustix::fs::linkat(fd, c"", dir, name, AtFlags::EMPTY_PATH) {
        // AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH before Linux 6.10; the daemon of an ordinary user has none.
        Err(io::Errno::NOENT) => {
            let old = ProcName::of(fd);
            let follow = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(rustix::fs::CWD, old.as_c_str(), dir, name, follow)
        }
        other => other,
    }
}

/// The thread's `errno` as rustix's type.
pub(super) fn last_errno() -> io::Errno {
    io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO)
}
