//! Extended attributes of any object: open files, directories, symlinks, devices.
//!
//! The `f*xattr` calls want a descriptor that is really open, and so does `getxattrat(2)` with an empty path (Linux 6.13,
//! `path_getxattrat`, fs/xattr.c). An object that is only pinned (`O_PATH`) is reached through its name in
//! `/proc/self/fd`, which leads to that very object, a symlink itself; never by the name that it has in its directory,
//! which may be another's by then. Where no `/proc` is mounted, a procfs that is mounted nowhere stands in (Linux 5.2).

use super::object::ProcName;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::CStr;
use std::sync::OnceLock;

/// The largest attribute value and the longest list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`): 64 KiB.
pub(crate) const LARGEST: usize = 65_536;

/// True for the name of an access control list, of access or inherited (`XATTR_NAME_POSIX_ACL_ACCESS` and `_DEFAULT`).
pub(crate) fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// What to act on.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A descriptor that is most likely really open; a directory may be held by one that is not.
    Open(BorrowedFd<'a>),
    /// An `O_PATH` descriptor.
    Pinned(BorrowedFd<'a>),
}

/// One way to name an object to the kernel.
enum Reference<'a> {
    Fd(BorrowedFd<'a>),
    Path(&'a CStr),
}

/// Reads attribute `name` into `value` and returns its length; an empty `value` asks for the length only.
///
/// # Errors
/// ENODATA, ERANGE, EOPNOTSUPP as `getxattr(2)`.
pub(crate) fn get(target: Target<'_>, name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    // rustix answers 0 to a read into an empty buffer, and has other calls for the length.
    if value.is_empty() {
        return on(target, |way| match way {
            Reference::Fd(fd) => rustix::fs::fgetxattr_query(fd, name),
            Reference::Path(path) => rustix::fs::getxattr_query(path, name),
        });
    }
    on(target, |way| match way {
        Reference::Fd(fd) => rustix::fs::fgetxattr(fd, name, &mut *value),
        Reference::Path(path) => rustix::fs::getxattr(path, name, &mut *value),
    })
}

/// Lists the attribute names, NUL-terminated each, into `list` and returns their length; empty asks for the length.
///
/// # Errors
/// ERANGE, EOPNOTSUPP as `listxattr(2)`.
pub(crate) fn list(target: Target<'_>, list: &mut [u8]) -> io::Result<usize> {
    if list.is_empty() {
        return on(target, |way| match way {
            Reference::Fd(fd) => rustix::fs::flistxattr_query(fd),
            Reference::Path(path) => rustix::fs::listxattr_query(path),
        });
    }
    on(target, |way| match way {
        Reference::Fd(fd) => rustix::fs::flistxattr(fd, &mut *list),
        Reference::Path(path) => rustix::fs::listxattr(path, &mut *list),
    })
}

/// Sets attribute `name`.
///
/// # Errors
/// EEXIST and ENODATA by `flags`; ENOSPC, E2BIG, EDQUOT, EOPNOTSUPP as `setxattr(2)`.
pub(crate) fn set(
    target: Target<'_>,
    name: &CStr,
    value: &[u8],
    flags: XattrFlags,
) -> io::Result<()> {
    on(target, |way| match way {
        Reference::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
        Reference::Path(path) => rustix::fs::setxattr(path, name, value, flags),
    })
}

/// Removes attribute `name`.
///
/// # Errors
/// ENODATA, EOPNOTSUPP as `removexattr(2)`.
pub(crate) fn remove(target: Target<'_>, name: &CStr) -> io::Result<()> {
    on(target, |way| match way {
        Reference::Fd(fd) => rustix::fs::fremovexattr(fd, name),
        Reference::Path(path) => rustix::fs::removexattr(path, name),
    })
}

/// Runs `act` on the object, by the way that the kernel takes.
fn on<R>(target: Target<'_>, mut act: impl FnMut(Reference<'_>) -> io::Result<R>) -> io::Result<R> {
    let fd = match target {
        Target::Pinned(fd) => fd,
        Target::Open(fd) => match act(Reference::Fd(fd)) {
            Err(io::Errno::BADF) => fd,
            done => return done,
        },
    };
    let name = ProcName::of(fd);
    match proc_fd() {
        ProcFd::Mounted => act(Reference::Path(name.as_c_str())),
        ProcFd::Own(dir) => {
            // Each serving thread has a working directory of its own (`sys::creds::prepare_thread`).
            rustix::process::fchdir(dir)?;
            let result = act(Reference::Path(name.number()));
            let _ = rustix::process::chdir(c"/");
            result
        }
        ProcFd::None => Err(io::Errno::OPNOTSUPP),
    }
}

/// Where this process's descriptors have names.
enum ProcFd {
    /// In `/proc/self/fd`.
    Mounted,
    /// In this directory of a procfs that is mounted nowhere.
    Own(OwnedFd),
    /// Nowhere: no `/proc`, and Linux before 5.2 or no right to make one.
    None,
}

/// Finds out once where descriptors have names.
fn proc_fd() -> &'static ProcFd {
    static FOUND: OnceLock<ProcFd> = OnceLock::new();
    FOUND.get_or_init(|| {
        if rustix::fs::access(c"/proc/self/fd", rustix::fs::Access::EXISTS).is_ok() {
            return ProcFd::Mounted;
        }
        own_proc_fd().map_or(ProcFd::None, ProcFd::Own)
    })
}

/// To be called at start, while the daemon may still make a procfs.
pub(crate) fn prepare() {
    proc_fd();
}

fn own_proc_fd() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = rustix::mount::fsmount(context.as_fd(), flags, attributes)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&root, c"self/fd", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_asks_for_the_length() {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)
            .expect("a nameless file");
        let pinned = rustix::fs::open(
            ProcName::of(fd.as_fd()).as_c_str(),
            OFlags::PATH,
            Mode::empty(),
        )
        .expect("a pinned one");
        for target in [
            Target::Open(fd.as_fd()),
            Target::Open(pinned.as_fd()),
            Target::Pinned(pinned.as_fd()),
        ] {
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
