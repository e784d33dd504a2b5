//! The flag groups of the protocol. The group is the type, the kernel's prefix goes.
//!
//! Struct fields hold raw integers; wrap them with `from_bits_retain`, so that bits which this crate does not know are
//! kept and printed. `O_*`, `RENAME_*`, `XATTR_*` and the like belong to the system calls and are not repeated here.

use bitflags::bitflags;
use std::fmt;

bitflags! {
    /// `FUSE_*` of INIT, `flags | flags2 << 32`: what the kernel offers and the server takes.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct InitFlags: u64 {
        /// READs of one file may be sent in parallel (7.6).
        const ASYNC_READ = 1 << 0;
        /// POSIX locks are sent to the server (7.7).
        const POSIX_LOCKS = 1 << 1;
        /// Never used by the kernel.
        const FILE_OPS = 1 << 2;
        /// `O_TRUNC` is sent in OPEN; no SETATTR follows (7.7).
        const ATOMIC_O_TRUNC = 1 << 3;
        /// The server looks up `.` and `..`, for NFS file handles (7.9).
        const EXPORT_SUPPORT = 1 << 4;
        /// WRITEs may exceed 4 KiB (7.9; always in effect since Linux 4.20).
        const BIG_WRITES = 1 << 5;
        /// The kernel leaves the umask to the server (7.12).
        const DONT_MASK = 1 << 6;
        /// The device takes splices of answers (7.14).
        const SPLICE_WRITE = 1 << 7;
        /// The device moves pages when spliced to (7.14).
        const SPLICE_MOVE = 1 << 8;
        /// The device can be spliced from (7.14).
        const SPLICE_READ = 1 << 9;
        /// `flock(2)` locks are sent to the server (7.17).
        const FLOCK_LOCKS = 1 << 10;
        /// Ioctls on directories are sent (7.18).
        const HAS_IOCTL_DIR = 1 << 11;
        /// Cached data is dropped when fresh attributes differ in mtime or size (7.20).
        const AUTO_INVAL_DATA = 1 << 12;
        /// READDIRPLUS is sent instead of READDIR (7.21).
        const DO_READDIRPLUS = 1 << 13;
        /// READDIRPLUS is sent only where lookups are likely to follow (7.21).
        const READDIRPLUS_AUTO = 1 << 14;
        /// Direct I/O may be asynchronous (7.22).
        const ASYNC_DIO = 1 << 15;
        /// The kernel delays writes and owns size and mtime; excludes PASSTHROUGH (7.23).
        const WRITEBACK_CACHE = 1 << 16;
        /// ENOSYS to OPEN means that no OPEN is needed (7.23).
        const NO_OPEN_SUPPORT = 1 << 17;
        /// Lookups and listings of one directory may be sent in parallel (7.25).
        const PARALLEL_DIROPS = 1 << 18;
        /// The server always clears set-id bits and capabilities on write, chown and truncate (7.26).
        const HANDLE_KILLPRIV = 1 << 19;
        /// The kernel reads and checks POSIX ACLs; implies `default_permissions` (7.26).
        const POSIX_ACL = 1 << 20;
        /// A read of the device after an abort fails with ECONNABORTED, not ENODEV (7.27).
        const ABORT_ERROR = 1 << 21;
        /// `InitOut::max_pages` counts (7.28).
        const MAX_PAGES = 1 << 22;
        /// The kernel caches symlink targets (7.28).
        const CACHE_SYMLINKS = 1 << 23;
        /// ENOSYS to OPENDIR means that no OPENDIR is needed (7.29).
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// Cached data is dropped only on notices (7.30).
        const EXPLICIT_INVAL_DATA = 1 << 25;
        /// `InitOut::map_alignment` counts; virtiofs DAX (7.31).
        const MAP_ALIGNMENT = 1 << 26;
        /// Attributes may mark a submount; virtiofs (7.32).
        const SUBMOUNTS = 1 << 27;
        /// The kernel says when the server must clear set-id bits; capabilities are always cleared (7.33).
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        /// SETXATTR has arguments of 16 bytes instead of 8 (7.33).
        const SETXATTR_EXT = 1 << 29;
        /// `flags2` counts (7.36).
        const INIT_EXT = 1 << 30;
        /// Reserved (7.36).
        const INIT_RESERVED = 1 << 31;
        /// Requests that create carry security contexts (7.36).
        const SECURITY_CTX = 1 << 32;
        /// Attributes may ask for DAX of one inode; virtiofs (7.36).
        const HAS_INODE_DAX = 1 << 33;
        /// Requests that create carry a supplementary group that matches the parent's (7.38).
        const CREATE_SUPP_GROUP = 1 << 34;
        /// INVAL_ENTRY knows EXPIRE_ONLY (7.38).
        const HAS_EXPIRE_ONLY = 1 << 35;
        /// Files open with DIRECT_IO may be mapped shared (7.39).
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// Reads and writes may go to a backing file without the server (7.40).
        const PASSTHROUGH = 1 << 37;
        /// Node ids are not good for NFS file handles (7.40).
        const NO_EXPORT_SUPPORT = 1 << 38;
        /// The kernel knows the RESEND notice (7.40).
        const HAS_RESEND = 1 << 39;
        /// The mount may be idmapped; needs `default_permissions`, or the connection fails (7.41).
        const ALLOW_IDMAP = 1 << 40;
        /// Requests may be taken over io_uring (7.42).
        const OVER_IO_URING = 1 << 41;
        /// `InitOut::request_timeout` counts (7.43).
        const REQUEST_TIMEOUT = 1 << 42;
    }

    /// `FOPEN_*`: how the kernel treats an open file, in `OpenOut::open_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct OpenFlags: u32 {
        /// Every read and write goes to the server, past the page cache.
        const DIRECT_IO = 1 << 0;
        /// Cached data survives this open.
        const KEEP_CACHE = 1 << 1;
        /// The file cannot be positioned (7.10).
        const NONSEEKABLE = 1 << 2;
        /// The listing may be cached (7.28).
        const CACHE_DIR = 1 << 3;
        /// The file has no position at all (7.31).
        const STREAM = 1 << 4;
        /// No FLUSH is sent at close (7.35).
        const NOFLUSH = 1 << 5;
        /// Direct writes may be sent in parallel (7.36).
        const PARALLEL_DIRECT_WRITES = 1 << 6;
        /// Reads and writes go to the file behind `backing_id` (7.40).
        const PASSTHROUGH = 1 << 7;
    }

    /// `FATTR_*`: the fields of `SetattrIn` that count.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct SetattrValid: u32 {
        /// `mode`.
        const MODE = 1 << 0;
        /// `uid`.
        const UID = 1 << 1;
        /// `gid`.
        const GID = 1 << 2;
        /// `size`.
        const SIZE = 1 << 3;
        /// `atime`.
        const ATIME = 1 << 4;
        /// `mtime`.
        const MTIME = 1 << 5;
        /// `fh`.
        const FH = 1 << 6;
        /// The access time becomes the server's now; set together with ATIME (7.9).
        const ATIME_NOW = 1 << 7;
        /// The modification time becomes the server's now; set together with MTIME (7.9).
        const MTIME_NOW = 1 << 8;
        /// `lock_owner` (7.9).
        const LOCKOWNER = 1 << 9;
        /// `ctime` (7.23).
        const CTIME = 1 << 10;
        /// The set-id bits go, as `write(2)` clears them (7.33, HANDLE_KILLPRIV_V2).
        const KILL_SUIDGID = 1 << 11;
    }

    /// `FUSE_GETATTR_*`, in `GetattrIn` and `StatxIn`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct GetattrFlags: u32 {
        /// `fh` counts.
        const FH = 1 << 0;
    }

    /// `FUSE_OPEN_*`, in `OpenIn::open_flags` and `CreateIn::open_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct OpenInFlags: u32 {
        /// The set-id bits go, because `O_TRUNC` empties the file (7.33, HANDLE_KILLPRIV_V2).
        const KILL_SUIDGID = 1 << 0;
    }

    /// `FUSE_WRITE_*`, in `WriteIn::write_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct WriteFlags: u32 {
        /// Written from the page cache; the handle is a guess and the caller unknown (7.9).
        const CACHE = 1 << 0;
        /// `lock_owner` counts (7.9).
        const LOCKOWNER = 1 << 1;
        /// The set-id bits go (7.31).
        const KILL_SUIDGID = 1 << 2;
    }

    /// `FUSE_READ_*`, in `ReadIn::read_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct ReadFlags: u32 {
        /// `lock_owner` counts (7.9).
        const LOCKOWNER = 1 << 1;
    }

    /// `FUSE_RELEASE_*`, in `ReleaseIn::release_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct ReleaseFlags: u32 {
        /// A FLUSH is implied (7.8).
        const FLUSH = 1 << 0;
        /// The `flock(2)` lock of `lock_owner` goes (7.17).
        const FLOCK_UNLOCK = 1 << 1;
    }

    /// `FUSE_FSYNC_*`, in `FsyncIn::fsync_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct FsyncFlags: u32 {
        /// Data only, as `fdatasync(2)`.
        const FDATASYNC = 1 << 0;
    }

    /// `FUSE_SETXATTR_*`, in `SetxattrIn::setxattr_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct SetxattrFlags: u32 {
        /// The set-group-id bit goes, because the caller sets an access ACL without being in the group (7.33).
        const ACL_KILL_SGID = 1 << 0;
    }

    /// `FUSE_ATTR_*`, in `Attr::flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct AttrFlags: u32 {
        /// The root of another file system (7.32).
        const SUBMOUNT = 1 << 0;
        /// The inode wants DAX (7.36).
        const DAX = 1 << 1;
    }

    /// `FUSE_LK_*`, in `LkIn::lk_flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct LkFlags: u32 {
        /// A `flock(2)` lock, not a POSIX one (7.17).
        const FLOCK = 1 << 0;
    }

    /// `FUSE_EXPIRE_ONLY`, in `NotifyInvalEntryOut::flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct InvalEntryFlags: u32 {
        /// The name stays cached but is looked up again at its next use (7.38).
        const EXPIRE_ONLY = 1 << 0;
    }

    /// `FUSE_IOCTL_*`, in `IoctlIn::flags` and `IoctlOut::flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct IoctlFlags: u32 {
        /// A 32-bit caller on a 64-bit kernel.
        const COMPAT = 1 << 0;
        /// The command says nothing reliable about its data; RETRY is allowed.
        const UNRESTRICTED = 1 << 1;
        /// Asks for another try with the memory ranges given.
        const RETRY = 1 << 2;
        /// A 32-bit ioctl (7.16).
        const IS_32BIT = 1 << 3;
        /// On a directory (7.18).
        const DIR = 1 << 4;
        /// An x32 caller, with 64-bit times (7.30).
        const COMPAT_X32 = 1 << 5;
    }

    /// `FUSE_POLL_*`, in `PollIn::flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct PollFlags: u32 {
        /// A POLL notice is wanted when events come.
        const SCHEDULE_NOTIFY = 1 << 0;
    }

    /// `FUSE_SETUPMAPPING_FLAG_*`, in `SetupmappingIn::flags`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct SetupmappingFlags: u64 {
        /// Writable.
        const WRITE = 1 << 0;
        /// Readable.
        const READ = 1 << 1;
    }
}

/// Prints flags as `A|B|0x40`: known names, then the unknown bits in one number; `0` where none is set.
macro_rules! display {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut names = self.iter_names();
                let mut bar = "";
                for (name, _) in names.by_ref() {
                    write!(f, "{bar}{name}")?;
                    bar = "|";
                }
                let rest = names.remaining().bits();
                if rest != 0 {
                    write!(f, "{bar}{rest:#x}")
                } else if bar.is_empty() {
                    f.write_str("0")
                } else {
                    Ok(())
                }
            }
        }
    )*};
}

display! {
    InitFlags OpenFlags SetattrValid GetattrFlags OpenInFlags WriteFlags ReadFlags ReleaseFlags FsyncFlags SetxattrFlags
    AttrFlags LkFlags InvalEntryFlags IoctlFlags PollFlags SetupmappingFlags
}

impl InitFlags {
    /// Joins the two halves of the wire. `flags2` counts only when `flags` holds INIT_EXT: older kernels send none.
    pub fn join(flags: u32, flags2: u32) -> Self {
        let low = Self::from_bits_retain(flags.into());
        if low.contains(Self::INIT_EXT) {
            Self::from_bits_retain(u64::from(flags) | u64::from(flags2) << 32)
        } else {
            low
        }
    }

    /// The halves of the wire, `(flags, flags2)`.
    pub fn split(self) -> (u32, u32) {
        (self.bits() as u32, (self.bits() >> 32) as u32)
    }
}
