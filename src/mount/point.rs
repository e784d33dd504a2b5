//! The directory that is mounted on, opened once: what is served beneath and what the mount covers are that very
//! directory, whatever happens meanwhile to the names that led to it. A user who owns one of the directories above could
//! otherwise swap it between two looks, and have root mount somewhere else, or serve something else, than was asked for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat, readlink};
use rustix::io::{Errno, Result};

use super::base::{self, Base};
use super::error::MountError;
use super::mountinfo::{FSTYPE, Mounts, is_same, mount_of};

/// How often what covers the directory is looked for while somebody renames it.
const TRIES: u32 = 100;

/// A directory to be mounted on.
#[derive(Debug)]
pub struct Point {
    at: PathBuf,
    dir: OwnedFd,
}

impl Point {
    /// Opens the directory (O_PATH), and finds the path by which it can be found later: from any working directory, and
    /// without a symlink as its last component. A path that means something else once its symlinks are read
    /// (`/proc/1/root`) stays as it is.
    ///
    /// # Errors
    /// The path does not lead to a directory, or may not be walked.
    pub fn open(mountpoint: &Path) -> std::result::Result<Self, MountError> {
        // Without `.` at the end, which a dead mount would be asked about.
        let mountpoint = &mountpoint.components().collect::<PathBuf>();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, mountpoint, flags, Mode::empty()).map_err(|errno| {
            let remedy = match errno {
                Errno::NOENT => "create the directory or name another",
                Errno::NOTDIR => "name a directory",
                _ => "name a directory that can be reached",
            };
            MountError::new(mountpoint, "open the mountpoint", errno, remedy)
        })?;
        let same = |path: &Path| {
            openat(CWD, path, flags, Mode::empty())
                .is_ok_and(|other| is_same(dir.as_fd(), other.as_fd()))
        };
        if let Some(at) = std::fs::canonicalize(mountpoint)
            .ok()
            .filter(|path| same(path))
        {
            return Ok(Self { at, dir });
        }
        let at = std::path::absolute(mountpoint).map_err(|e| {
            let errno = Errno::from_io_error(&e);
            let operation = "find the working directory";
            MountError::new(mountpoint, operation, errno, "give an absolute path")
        })?;
        Ok(Self { at, dir })
    }

    /// The path, absolute.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// The directory as a side's base, beneath every etcfs that is mounted on it; see [`super::take_base`].
    ///
    /// # Errors
    /// As `take_base`'s; and somebody renames the directories there.
    pub(crate) fn base(&self) -> std::result::Result<Base, MountError> {
        self.dir
            .try_clone()
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::MFILE))
            .and_then(|top| base::beneath_all(&self.at, top))
            .map_err(|errno| base::refused(&self.at, errno))
    }

    /// A path that leads mount(2) to exactly this directory. None where `/proc` does not show this process's descriptors.
    pub(super) fn magic(&self) -> Option<PathBuf> {
        magic(self.dir.as_fd())
    }

    /// The root (O_PATH) of the etcfs that was mounted directly on this directory.
    ///
    /// # Errors
    /// ESTALE: none is there, or somebody renames the directory all the time.
    pub(super) fn what_covers_it(&self) -> Result<OwnedFd> {
        let below = mount_of(&self.dir);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let at = self.present_path();
            let top = match openat(CWD, &at, flags, Mode::empty()) {
                Ok(top) => top,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(errno),
            };
            let table = Mounts::read_for(&at);
            let found = mount_of(&top).and_then(|id| table.get(id));
            // Where /proc shows nothing there is only the path to go by.
            let unknown = below.is_none();
            let covers = found.is_some_and(|entry| {
                entry.fstype == FSTYPE
                    && Some(entry.parent) == below
                    && (entry.at == at.as_os_str().as_bytes() || at == self.at)
            });
            if unknown || covers {
                return Ok(top);
            }
        }
        Err(Errno::STALE)
    }

    /// Where the directory is at this moment; the path that it was opened by if the kernel does not tell.
    fn present_path(&self) -> PathBuf {
        let told = self
            .magic()
            .and_then(|link| readlink(link, Vec::new()).ok());
        let told = told.map(|text| PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes())));
        told.filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.at.clone())
    }
}

impl AsFd for Point {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A path that leads to exactly what a descriptor is; none where `/proc` does not show this thread's descriptors.
pub(super) fn magic(dir: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/proc/thread-self/fd/{}", dir.as_raw_fd()));
    let again = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    is_same(dir, again.as_fd()).then_some(path)
}

/// A path written down as the bytes that it is.
pub(super) mod bytes {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    pub(in crate::mount) fn serialize<S: Serializer>(
        path: &Path,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(in crate::mount) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<PathBuf, D::Error> {
        Vec::<u8>::deserialize(from).map(|bytes| OsString::from_vec(bytes).into())
    }
}
