//! What a command line can say.

use super::mount8::Wanted;
use crate::mount::MountRequest;
use crate::sys::seccomp;
use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// How much the daemon says, on stderr or in the background in the system's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    /// Only what failed.
    Error,
    /// And what is doubtful.
    #[default]
    Warn,
    /// And what was decided at the start: passthrough, threads, kernel.
    Info,
    /// And one line per request.
    Debug,
}

/// What the kernel may keep of names, attributes and listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cache {
    /// Nothing: whoever names a path is told what is so.
    #[default]
    Strict,
    /// What lies in local directories, which are watched.
    Watch,
}

impl Cache {
    /// True for [`Cache::Watch`].
    pub(crate) fn is_watch(self) -> bool {
        self == Cache::Watch
    }
}

/// Everything a command line can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to mount and where.
    pub(crate) mount: MountRequest,
    /// Stay in the foreground; `-d` implies it.
    pub foreground: bool,
    /// Worker threads; none: one per CPU.
    pub(crate) threads: Option<NonZeroU16>,
    /// `-s` was given: one worker.
    pub(super) single: bool,
    /// `fsname=`, which goes before a positional source.
    pub(super) fsname: Option<OsString>,
    /// What mount.fuse3 has said of its own accord.
    pub(crate) appended: Wanted,
    /// The directory with the global files; none: see [`Options::global_dir`].
    pub(crate) global: Option<PathBuf>,
    /// The stratum's name; none: attribute `user.bedrock.stratum` of "/".
    pub(crate) stratum: Option<OsString>,
    /// Let the kernel read and write lower files itself.
    pub(crate) passthrough: bool,
    /// What `ETCFS_ENABLE_PASSTHROUGH` said, if that means neither on nor off.
    pub(crate) odd_passthrough: Option<OsString>,
    /// What happens at a system call that the daemon is not known to make; none: nobody said.
    pub(crate) seccomp: Option<seccomp::Mode>,
    /// What `ETCFS_SECCOMP` said, if it is none of the modes.
    pub(crate) odd_seccomp: Option<OsString>,
    /// How deep passthrough may stack: 1 (lower files on no stacked file system) or 2 (they may be on overlayfs).
    pub(crate) max_stack_depth: u8,
    /// How many requests of one user may wait for locks at a time.
    pub(crate) max_lock_waiters: usize,
    /// How many bytes are copied for an ordinary user's rename to the other side.
    pub(crate) max_cross_copy: u64,
    /// Mount over an etcfs that is served already.
    pub(crate) stack: bool,
    /// How much to say.
    pub(crate) log: LogLevel,
    /// Seconds after which a request that is still being worked on is logged; 0: never.
    pub(crate) watchdog: u32,
    /// Keep all that a file handle may lead back to.
    pub(crate) noforget: bool,
    /// Whether another process keeps the descriptors, so that the mount outlives the one that serves; none: nobody said.
    pub(crate) keeper: Option<bool>,
    /// How many servers may die within 10 s until the keeper takes the mount away; 0: as many as like.
    pub(crate) max_deaths: u8,
    /// What `ETCFS_KEEPER` said, if that is neither yes nor no.
    pub(crate) odd_keeper: Option<OsString>,
    /// What the kernel may keep; none: nobody said. Once everything was read: [`Options::cache`].
    pub(super) said_cache: Option<Cache>,
    /// What `ETCFS_CACHE` said, if it is none of the modes.
    pub(crate) odd_cache: Option<OsString>,
    /// What the kernel may keep.
    pub(crate) cache: Cache,
    /// How many directories may be watched.
    pub(crate) watches: usize,
    /// TERM and HUP, which shutdown sends to all, do not end the daemon.
    pub(crate) survive_shutdown: bool,
    /// A global directory's children stay local unless listed themselves (contract D39).
    pub(crate) legacy_global: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mount: MountRequest::default(),
            foreground: false,
            threads: None,
            single: false,
            fsname: None,
            appended: Wanted::default(),
            global: None,
            stratum: None,
            passthrough: false,
            odd_passthrough: None,
            seccomp: None,
            odd_seccomp: None,
            max_stack_depth: 1,
            max_lock_waiters: crate::session::MAX_LOCK_WAITERS,
            max_cross_copy: crate::fs::settings::MAX_CROSS_COPY,
            stack: false,
            log: LogLevel::default(),
            watchdog: 10,
            noforget: false,
            keeper: None,
            max_deaths: 5,
            odd_keeper: None,
            said_cache: None,
            odd_cache: None,
            cache: Cache::default(),
            watches: crate::fs::watch::WATCHES,
            survive_shutdown: false,
            legacy_global: false,
        }
    }
}
