//! Taking a directory before the mount covers it (architecture decision 5, contract F1).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat, readlinkat};
use rustix::io::{Errno, Result};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::error::MountError;
use super::mountinfo::{FSTYPE, Mounts, is_missing, is_same, mount_of};
use super::request::MountRequest;
use super::times;

/// A directory that a side is served from. Everything reached from it lies beneath an etcfs that covers it.
#[derive(Debug)]
pub struct Base {
    dir: OwnedFd,
    beneath: bool,
}

impl Base {
    /// The directory, opened with O_PATH, O_DIRECTORY and O_CLOEXEC. It is not reached through an etcfs mounted on it if
    /// [`Base::is_beneath`].
    #[must_use]
    pub fn into_dir(self) -> OwnedFd {
        self.dir
    }

    /// The same directory on a mount whose access times change as `request` says, and whether that was possible. Its other
    /// flags, and what is mounted within the directory, are then as they are at this moment.
    pub(crate) fn with_times_of(self, request: &MountRequest) -> (Self, Result<()>) {
        let again = self.dir.try_clone().map_err(|_| Errno::MFILE);
        match again.and_then(|dir| times::with_times_of(request, dir)) {
            Ok(dir) => (Self { dir, ..self }, Ok(())),
            Err(errno) => (self, Err(errno)),
        }
    }

    /// Whether what lies in the directory cannot be executed, which the mount above must hold to: the kernel asks the
    /// mount that a program was opened through, and never the one beneath. (The other flags need no such care: the mount is
    /// nosuid and nodev unless root wants it otherwise, and a read-only file system refuses each change itself.)
    #[must_use]
    pub(crate) fn is_noexec(&self) -> bool {
        fstatvfs(&self.dir).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Whether an etcfs covers the directory and was gone beneath.
    #[must_use]
    pub fn is_beneath(&self) -> bool {
        self.beneath
    }
}

impl AsFd for Base {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Opens a directory, beneath every etcfs that is mounted on that very directory, dead ones included.
///
/// Whatever else is mounted there (a disk, a tmpfs, a bind mount, another FUSE file system) is what the user means by the
/// path, so it is opened as it is. An etcfs upon such a mount cannot be gone beneath: a copy of the directory above shows
/// only the bottom, which would be a wrong, mostly empty directory. Then, and where open_tree(2) is missing or forbidden
/// (before Linux 5.2, without CAP_SYS_ADMIN, or in another mount namespace), the directory is opened through the etcfs,
/// which is right but costs a second daemon.
///
/// # Errors
/// The path does not lead to a directory, or may not be walked.
pub fn take_base(path: &Path) -> std::result::Result<Base, MountError> {
    // Without `.` at the end, which a dead mount would be asked about.
    let clean = &path.components().collect::<PathBuf>();
    openat(CWD, clean, DIR, Mode::empty())
        .and_then(|top| beneath_all(clean, top))
        .map_err(|errno| refused(path, errno))
}

pub(super) fn refused(path: &Path, errno: Errno) -> MountError {
    let remedy = match errno {
        Errno::NOENT => "create the directory or name another",
        Errno::NOTDIR => "name a directory",
        Errno::NOTCONN => "a dead FUSE mount is in the way; unmount it (umount -l)",
        Errno::STALE => "somebody renames the directories above it; try again",
        _ => "make the directory accessible or name another",
    };
    MountError::new(path, "open the directory", errno, remedy)
}

const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is beneath every etcfs on `top`, which `path` has led to.
///
/// # Errors
/// ESTALE: the path's last name leads to something else by now. The way back from a mount to what it covers is its name in
/// the directory above, and that name must mean this mount before and after the look beneath.
pub(super) fn beneath_all(path: &Path, top: OwnedFd) -> Result<Base> {
    let Some((parent, name)) = covered_by_etcfs(path, &top)? else {
        return Ok(Base {
            dir: top,
            beneath: false,
        });
    };
    let still = || {
        let now = openat(&parent, &name, DIR | OFlags::NOFOLLOW, Mode::empty())?;
        if is_same(now.as_fd(), top.as_fd()) {
            return Ok(());
        }
        Err(Errno::STALE)
    };
    still()?;
    let found = beneath(&parent, &name);
    still()?;
    match found {
        Ok(dir) => Ok(Base { dir, beneath: true }),
        Err(errno) if is_missing(errno) => Ok(Base {
            dir: top,
            beneath: false,
        }),
        Err(errno) => Err(errno),
    }
}

/// The directory above and the name in it, if `top`, which `path` leads to, is the root of an etcfs that was mounted
/// upon nothing but other etcfs and that very name.
fn covered_by_etcfs(path: &Path, top: &OwnedFd) -> Result<Option<(OwnedFd, PathBuf)>> {
    let Some(mut id) = mount_of(top) else {
        return Ok(None);
    };
    let table = Mounts::read_for(path);
    if table.get(id).is_none_or(|entry| entry.fstype != FSTYPE) {
        return Ok(None);
    }
    let Some((parent, name)) = parent_and_name(path)? else {
        return Ok(None);
    };
    let Some(above) = mount_of(&parent) else {
        return Ok(None);
    };
    // A path that ends below the root of an etcfs lies on the same mount as its parent, and is opened as it is.
    while id != above {
        match table.get(id) {
            Some(entry) if entry.fstype == FSTYPE && entry.parent != id => id = entry.parent,
            _ => return Ok(None),
        }
        if id == above {
            return Ok(Some((parent, name)));
        }
    }
    Ok(None)
}

/// Opens a path's directory above, following the symlinks that its last component may be. None if the path ends in no
/// name of its own (`/`, `..`).
///
/// The path is not made canonical first: `/proc/1/root` reads as a link to `/`, which would be this process's own root.
pub(super) fn parent_and_name(path: &Path) -> Result<Option<(OwnedFd, PathBuf)>> {
    let mut path = path.to_owned();
    // As many links as the kernel follows (MAXSYMLINKS).
    for _ in 0..40 {
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let dir = openat(CWD, above, DIR, Mode::empty())?;
        match readlinkat(&dir, name, Vec::new()) {
            Ok(target) => path = above.join(OsStr::from_bytes(target.as_bytes())),
            Err(Errno::INVAL) => {
                let name = PathBuf::from(name);
                return Ok(Some((dir, name)));
            }
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

/// Opens `name` in a copy of the mount that `parent` lies on. The copy has no mounts upon it.
///
/// The copy's own descriptor need not be kept: a directory opened through it keeps the copied mount alive, only without
/// a namespace, as a lazy unmount would leave it.
fn beneath(parent: &OwnedFd, name: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(parent, "", flags)?;
    openat(&tree, name, DIR | OFlags::NOFOLLOW, Mode::empty())
}
