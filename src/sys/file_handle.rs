//! File handles (`name_to_handle_at(2)`): a way back to an inode whose descriptor was closed and whose name may have
//! changed since. By hand: rustix has neither of the two calls.
#![allow(unsafe_code)]

use super::creds::looking;
use super::object::last_errno;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io;
use std::ffi::CStr;
use std::hash::{Hash as _, Hasher as _};

/// `MAX_HANDLE_SZ` of `linux/exportfs.h`.
const CAPACITY: usize = 128;

/// `struct file_handle` with room for the largest handle.
#[repr(C, align(8))]
struct Raw {
    handle_bytes: u32,
    handle_type: i32,
    bytes: [u8; CAPACITY],
}

/// What a file system calls an inode, for as long as the inode exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileHandle {
    kind: i32,
    bytes: Box<[u8]>,
}

impl FileHandle {
    /// The handle of what `fd` refers to.
    ///
    /// # Errors
    /// EOPNOTSUPP where the file system gives none (procfs, overlayfs without `nfs_export`).
    pub(crate) fn of(fd: impl AsFd) -> io::Result<FileHandle> {
        FileHandle::get(fd.as_fd(), c"", libc::AT_EMPTY_PATH)
    }

    /// The handle of what stands as `name` in `dir`; of a symlink itself.
    ///
    /// # Errors
    /// As [`FileHandle::of`]; ENOENT.
    pub(crate) fn at(dir: impl AsFd, name: &CStr) -> io::Result<FileHandle> {
        looking(|| FileHandle::get(dir.as_fd(), name, 0))
    }

    /// The handle whose bytes `fill` writes, which returns their type and number.
    pub(crate) fn filled(
        fill: impl FnOnce(&mut [u8]) -> Option<(i32, usize)>,
    ) -> Option<FileHandle> {
        let mut bytes = [0; CAPACITY];
        let (kind, len) = fill(&mut bytes)?;
        Some(FileHandle {
            kind,
            bytes: bytes[..len].into(),
        })
    }

    /// Its type and bytes.
    pub(crate) fn parts(&self) -> (i32, &[u8]) {
        (self.kind, &self.bytes)
    }

    /// A number that tells the handle from others, the same for the life of this process; never 0.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.kind.hash(&mut hasher);
        self.bytes.hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// False for a handle that is certainly not of FUSE, which makes `FILEID_INO64_GEN` and its variant with a parent
    /// (`fuse_encode_fh`, fs/fuse/inode.c). Other file systems make such ones, too.
    pub(crate) fn may_be_of_fuse(&self) -> bool {
        matches!(self.kind, 0x81 | 0x82)
    }

    fn get(fd: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> io::Result<FileHandle> {
        let mut raw = Raw {
            handle_bytes: CAPACITY as u32,
            handle_type: 0,
            bytes: [0; CAPACITY],
        };
        let mut mount_id = 0;
        // SAFETY: `raw` has `handle_bytes` bytes of room behind its header, the name is a C string, and
        // `mount_id` is an int.
        let rc = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                name.as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount_id,
                flags,
            )
        };
        if rc != 0 {
            return Err(last_errno());
        }
        let len = (raw.handle_bytes as usize).min(CAPACITY);
        Ok(FileHandle {
            kind: raw.handle_type,
            bytes: raw.bytes[..len].into(),
        })
    }

    /// Opens the inode again; `mount` is any descriptor on its file system.
    ///
    /// # Errors
    /// ESTALE when the inode is gone, EPERM without CAP_DAC_READ_SEARCH in the initial user namespace.
    pub(crate) fn open(&self, mount: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
        looking(|| self.open_once(mount.as_fd(), flags))
    }

    fn open_once(&self, mount: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
        let mut raw = Raw {
            handle_bytes: self.bytes.len() as u32,
            handle_type: self.kind,
            bytes: [0; CAPACITY],
        };
        raw.bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        // SAFETY: `raw` is a complete handle; the call returns a descriptor that nobody else owns.
        let fd = unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                (&raw mut raw).cast(),
                (flags | OFlags::CLOEXEC).bits() as i32,
            )
        };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: `fd` was just returned by the kernel and is owned by nobody.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
