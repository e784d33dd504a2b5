//! Extended attributes of any object: open files, directories, symlinks, devices.
//!
//! The `f*xattr` calls want a descriptor that is really open. An object that is only pinned (`O_PATH`) is reached
//! through its name in `/proc/self/fd`; where no `/proc` is mounted, by its name in its directory, from a working
//! directory that the thread has for itself (`sys::creds::prepare_thread`).
#![allow(unsafe_code)]

use super::object::{ProcName, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::XattrFlags;
use rustix::io;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// `getxattrat(2)`, Linux 6.13. The number is the same on every architecture but alpha.
const SYS_GETXATTRAT: libc::c_long = 464;

/// False once the kernel has said that it lacks getxattrat.
static HAS_GETXATTRAT: AtomicBool = AtomicBool::new(true);

/// `struct xattr_args`: 16 bytes.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// What to act on.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// A descriptor that is really open.
    Open(BorrowedFd<'a>),
    /// An `O_PATH` descriptor, and the name by which it was reached.
    Pinned {
        /// The pinned object.
        fd: BorrowedFd<'a>,
        /// The directory that holds it and its name there, if it has one.
        at: Option<(BorrowedFd<'a>, &'a CStr)>,
    },
}

/// Reads attribute `name` into `value` and returns its length; an empty `value` asks for the length only.
///
/// # Errors
/// ENODATA, ERANGE, EOPNOTSUPP as `getxattr(2)`.
pub fn get(target: Target<'_>, name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    if value.is_empty() {
        return length(target, name);
    }
    match target {
        Target::Open(fd) => rustix::fs::fgetxattr(fd, name, value),
        Target::Pinned { .. } => by_name(
            target,
            value,
            |path, value| rustix::fs::getxattr(path, name, value),
            |path, value| rustix::fs::lgetxattr(path, name, value),
        ),
    }
}

/// The length of attribute `name`. rustix answers 0 to a read into an empty buffer, and has these calls for the length.
fn length(target: Target<'_>, name: &CStr) -> io::Result<usize> {
    match target {
        Target::Open(fd) => rustix::fs::fgetxattr_query(fd, name),
        Target::Pinned { .. } => by_name(
            target,
            (),
            |path, ()| rustix::fs::getxattr_query(path, name),
            |path, ()| rustix::fs::lgetxattr_query(path, name),
        ),
    }
}

/// Reads attribute `name` of `object` in `dir` with one call where the kernel has getxattrat; follows no symlink.
///
/// # Errors
/// As [`get`]; ENOSYS where the kernel lacks the call.
pub fn get_at(
    dir: BorrowedFd<'_>,
    object: &CStr,
    name: &CStr,
    value: &mut [u8],
) -> io::Result<usize> {
    if !HAS_GETXATTRAT.load(Ordering::Relaxed) {
        return Err(io::Errno::NOSYS);
    }
    let mut args = XattrArgs {
        value: value.as_mut_ptr() as u64,
        size: value.len() as u32,
        flags: 0,
    };
    // SAFETY: both names are C strings, and `args` describes the whole of `value`, which outlives the call.
    let rc = unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            dir.as_raw_fd(),
            object.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            &raw mut args,
            size_of::<XattrArgs>(),
        )
    };
    if rc >= 0 {
        return Ok(rc as usize);
    }
    let errno = last_errno();
    if errno == io::Errno::NOSYS {
        HAS_GETXATTRAT.store(false, Ordering::Relaxed);
    }
    Err(errno)
}

/// Lists the attribute names, NUL-terminated each, into `list` and returns their length; empty asks for the length.
///
/// # Errors
/// ERANGE, EOPNOTSUPP as `listxattr(2)`.
pub fn list(target: Target<'_>, list: &mut [u8]) -> io::Result<usize> {
    if list.is_empty() {
        return match target {
            Target::Open(fd) => rustix::fs::flistxattr_query(fd),
            Target::Pinned { .. } => by_name(
                target,
                (),
                |path, ()| rustix::fs::listxattr_query(path),
                |path, ()| rustix::fs::llistxattr_query(path),
            ),
        };
    }
    match target {
        Target::Open(fd) => rustix::fs::flistxattr(fd, list),
        Target::Pinned { .. } => by_name(
            target,
            list,
            |path, list| rustix::fs::listxattr(path, list),
            |path, list| rustix::fs::llistxattr(path, list),
        ),
    }
}

/// Sets attribute `name`.
///
/// # Errors
/// EEXIST and ENODATA by `flags`; ENOSPC, E2BIG, EDQUOT, EOPNOTSUPP as `setxattr(2)`.
pub fn set(target: Target<'_>, name: &CStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
    match target {
        Target::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
        Target::Pinned { .. } => by_name(
            target,
            (),
            |path, ()| rustix::fs::setxattr(path, name, value, flags),
            |path, ()| rustix::fs::lsetxattr(path, name, value, flags),
        ),
    }
}

/// Removes attribute `name`.
///
/// # Errors
/// ENODATA, EOPNOTSUPP as `removexattr(2)`.
pub fn remove(target: Target<'_>, name: &CStr) -> io::Result<()> {
    match target {
        Target::Open(fd) => rustix::fs::fremovexattr(fd, name),
        Target::Pinned { .. } => by_name(
            target,
            (),
            |path, ()| rustix::fs::removexattr(path, name),
            |path, ()| rustix::fs::lremovexattr(path, name),
        ),
    }
}

/// Runs `through_proc` on the descriptor's name in `/proc`, or `in_dir` on the object's name in its directory.
fn by_name<A, R>(
    target: Target<'_>,
    argument: A,
    through_proc: impl FnOnce(&CStr, A) -> io::Result<R>,
    in_dir: impl FnOnce(&CStr, A) -> io::Result<R>,
) -> io::Result<R> {
    let Target::Pinned { fd, at } = target else {
        return Err(io::Errno::BADF);
    };
    if proc_is_there() {
        return through_proc(ProcName::of(fd).as_c_str(), argument);
    }
    let (dir, name) = at.ok_or(io::Errno::STALE)?;
    rustix::process::fchdir(dir)?;
    let result = in_dir(name, argument);
    // The lower file system must stay unmountable by others, so no thread keeps a directory of it as its cwd.
    let _ = rustix::process::chdir(c"/");
    result
}

/// True if `/proc` is mounted where the daemon runs; asked once.
fn proc_is_there() -> bool {
    static THERE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *THERE.get_or_init(|| rustix::fs::access(c"/proc/self/fd", rustix::fs::Access::EXISTS).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn an_empty_buffer_asks_for_the_length() {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)
            .expect("a nameless file");
        let pinned = Target::Pinned {
            fd: fd.as_fd(),
            at: None,
        };
        for target in [Target::Open(fd.as_fd()), pinned] {
            set(target, c"user.one", b"value", XattrFlags::empty()).expect("set");
            assert_eq!(get(target, c"user.one", &mut []), Ok(5));
            assert_eq!(get(target, c"user.one", &mut [0; 4]), Err(io::Errno::RANGE));
            assert_eq!(list(target, &mut []), Ok("user.one\0".len()));
            assert_eq!(list(target, &mut [0; 64]), Ok("user.one\0".len()));
            remove(target, c"user.one").expect("remove");
            assert_eq!(list(target, &mut []), Ok(0));
        }
    }
}
