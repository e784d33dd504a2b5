//! The `-o` options: one row each, in one table that parsing, `--help`'s test and the spelling hint read.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::CliError;
use super::likely::likely;
use super::options::{Cache, LogLevel, Options};
use crate::mount::{Atime, Method};
use crate::sys::seccomp::Mode;

/// What may follow an option's name, and what it does.
pub(super) enum Takes {
    /// Nothing follows.
    Nothing(fn(&mut Options)),
    /// `=` and a value, called so in messages; an `Err` says what the value must be.
    Value(
        &'static str,
        fn(&mut Options, &OsStr) -> Result<(), &'static str>,
    ),
    /// Anything: the option is accepted and has no effect.
    Ignored,
    /// Known, and not to be had: the reason or the remedy.
    Refused(&'static str),
}

use Takes::{Ignored, Nothing, Refused, Value};

/// One option.
pub(super) struct OptionRow {
    /// Its name, without `=`.
    pub(crate) name: &'static str,
    /// What it takes and does.
    pub(crate) takes: Takes,
}

const fn row(name: &'static str, takes: Takes) -> OptionRow {
    OptionRow { name, takes }
}

const KERNELS_OWN: &str = "is set by etcfs itself; leave it out";
const HIGH_LEVEL: &str = "etcfs never caches names or attributes and takes ids, modes and inode numbers from the lower files; leave it out";

/// All options that have a name of their own; `x-*` and `X-*` are ignored besides.
pub(super) const ROWS: &[OptionRow] = &[
    // etcfs's own.
    row(
        "global",
        Value("DIR", |o, v| path(v).map(|v| o.global = Some(v))),
    ),
    row(
        "stratum",
        Value("NAME", |o, v| name(v).map(|v| o.stratum = Some(v))),
    ),
    row(
        "mount",
        Value("direct|fusermount3|auto", |o, v| {
            way(v).map(|v| o.mount.way = v)
        }),
    ),
    row(
        "threads",
        Value("N", |o, v| threads(v).map(|v| o.threads = Some(v))),
    ),
    row("passthrough", Nothing(|o| o.passthrough = true)),
    row(
        "max_stack_depth",
        Value("1|2", |o, v| depth(v).map(|v| o.max_stack_depth = v)),
    ),
    row(
        "max_lock_waiters",
        Value("N", |o, v| waiters(v).map(|v| o.max_lock_waiters = v)),
    ),
    row(
        "max_cross_copy",
        Value("BYTES", |o, v| copied(v).map(|v| o.max_cross_copy = v)),
    ),
    row(
        "seccomp",
        Value("log|kill|off", |o, v| {
            seccomp(v).map(|v| o.seccomp = Some(v))
        }),
    ),
    row(
        "log",
        Value("error|warn|info|debug", |o, v| level(v).map(|v| o.log = v)),
    ),
    row(
        "watchdog",
        Value("SECONDS", |o, v| seconds(v).map(|v| o.watchdog = v)),
    ),
    row(
        "legacy_global",
        Value("exact", |o, v| exact(v).map(|()| o.legacy_global = true)),
    ),
    row("stack", Nothing(|o| o.stack = true)),
    row("noforget", Nothing(|o| o.noforget = true)),
    row(
        "keeper",
        Value("yes|no", |o, v| yes_or_no(v).map(|v| o.keeper = Some(v))),
    ),
    row(
        "cache",
        Value("strict|watch", |o, v| {
            cache(v).map(|v| {
                o.said_cache = Some(v);
                o.cache = v;
            })
        }),
    ),
    row(
        "watches",
        Value("N", |o, v| watches(v).map(|v| o.watches = v)),
    ),
    row(
        "max_deaths",
        Value("N", |o, v| deaths(v).map(|v| o.max_deaths = v)),
    ),
    row("survive_shutdown", Nothing(|o| o.survive_shutdown = true)),
    row("debug", Nothing(Options::set_debug)),
    // The kernel's and mount(8)'s.
    row("ro", Nothing(|o| o.mount.read_only = true)),
    row("rw", Nothing(|o| o.mount.read_only = false)),
    row("exec", Nothing(|o| o.mount.noexec = false)),
    row("noexec", Nothing(|o| o.mount.noexec = true)),
    row("sync", Nothing(|o| o.mount.sync = true)),
    row("async", Nothing(|o| o.mount.sync = false)),
    row("dirsync", Nothing(|o| o.mount.dirsync = true)),
    row("atime", Nothing(|o| o.mount.atime = Some(Atime::Relatime))),
    row(
        "relatime",
        Nothing(|o| o.mount.atime = Some(Atime::Relatime)),
    ),
    row("noatime", Nothing(|o| o.mount.atime = Some(Atime::Noatime))),
    row(
        "norelatime",
        Nothing(|o| o.mount.atime = Some(Atime::Strictatime)),
    ),
    row(
        "strictatime",
        Nothing(|o| o.mount.atime = Some(Atime::Strictatime)),
    ),
    row(
        "nostrictatime",
        Nothing(|o| o.mount.atime = Some(Atime::Relatime)),
    ),
    row("diratime", Nothing(|o| o.mount.nodiratime = false)),
    row("nodiratime", Nothing(|o| o.mount.nodiratime = true)),
    // The default is nosuid and nodev (contract D13).
    row("nosuid", Nothing(|o| o.mount.suid = false)),
    row("nodev", Nothing(|o| o.mount.dev = false)),
    row("suid", Nothing(|o| o.mount.suid = true)),
    row("dev", Nothing(|o| o.mount.dev = true)),
    row(
        "remount",
        Refused("etcfs cannot change a mount; use: mount -i -o remount,OPTION,... MOUNTPOINT"),
    ),
    row("fd", Refused(KERNELS_OWN)),
    row("rootmode", Refused(KERNELS_OWN)),
    row("user_id", Refused(KERNELS_OWN)),
    row("group_id", Refused(KERNELS_OWN)),
    row(
        "blksize",
        Refused("is for block devices only; leave it out"),
    ),
    row(
        "max_read",
        Value("BYTES", |o, v| bytes(v).map(|v| o.mount.max_read = Some(v))),
    ),
    // libfuse's.
    row("allow_other", Nothing(|o| o.mount.allow_other = true)),
    row(
        "allow_root",
        Refused("is not supported; use allow_other, or leave it out for yourself alone"),
    ),
    row("default_permissions", Ignored),
    row(
        "fsname",
        Value("SOURCE", |o, v| name(v).map(|v| o.fsname = Some(v))),
    ),
    row(
        "subtype",
        Value("etcfs", |_, v| {
            if v == "etcfs" {
                Ok(())
            } else {
                Err("etcfs, for the type is always fuse.etcfs")
            }
        }),
    ),
    row("nonempty", Ignored),
    row("auto_unmount", Ignored),
    row("clone_fd", Ignored),
    row(
        "max_threads",
        Value("N", |_, v| number(v).map(drop).ok_or("a number")),
    ),
    row(
        "max_idle_threads",
        Value("N", |_, v| number(v).map(drop).ok_or("a number")),
    ),
    row(
        "idle_threads",
        Value("N", |_, v| number(v).map(drop).ok_or("a number")),
    ),
    row("entry_timeout", Refused(HIGH_LEVEL)),
    row("attr_timeout", Refused(HIGH_LEVEL)),
    row("negative_timeout", Refused(HIGH_LEVEL)),
    row("kernel_cache", Refused(HIGH_LEVEL)),
    row("auto_cache", Refused(HIGH_LEVEL)),
    row("umask", Refused(HIGH_LEVEL)),
    row("uid", Refused(HIGH_LEVEL)),
    row("gid", Refused(HIGH_LEVEL)),
    // Meant for mount(8) and fstab's other readers, which pass them on at times.
    row("defaults", Ignored),
    row("auto", Ignored),
    row("noauto", Ignored),
    row("nofail", Ignored),
    row("_netdev", Ignored),
    row("user", Ignored),
    row("nouser", Ignored),
    row("users", Ignored),
    row("nousers", Ignored),
    row("owner", Ignored),
    row("group", Ignored),
    row("comment", Ignored),
    row("helper", Ignored),
    row("uhelper", Ignored),
    row("silent", Ignored),
    row("loud", Ignored),
];

/// Carries out one `name` or `name=value`.
pub(super) fn apply(options: &mut Options, item: &OsStr) -> Result<(), CliError> {
    let bytes = item.as_bytes();
    let (name, value) = match bytes.iter().position(|&b| b == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
        None => (bytes, None),
    };
    if name.starts_with(b"x-") || name.starts_with(b"X-") {
        return Ok(());
    }
    let Some(row) = ROWS.iter().find(|row| row.name.as_bytes() == name) else {
        let likely = likely(&item.to_string_lossy(), ROWS.iter().map(|row| row.name));
        return Err(CliError::Unknown(item.to_owned(), likely));
    };
    match (&row.takes, value) {
        (Ignored, _) => Ok(()),
        (Refused(why), _) => Err(CliError::Refused(item.to_owned(), why)),
        (Nothing(set), None) => {
            set(options);
            Ok(())
        }
        (Nothing(_), Some(_)) => Err(CliError::TakesNoValue(item.to_owned())),
        (Value(what, _), None) => Err(CliError::NeedsValue(row.name, what)),
        (Value(_, set), Some(value)) => {
            set(options, value).map_err(|what| CliError::BadValue(item.to_owned(), what))
        }
    }
}

fn number(value: &OsStr) -> Option<u32> {
    let digits = value
        .to_str()
        .filter(|v| v.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn path(value: &OsStr) -> Result<PathBuf, &'static str> {
    let fits = !value.is_empty() && !value.as_bytes().contains(&0);
    fits.then(|| PathBuf::from(value)).ok_or("a directory")
}

/// A word that appears in the mount table, in an attribute or in a log line.
fn name(value: &OsStr) -> Result<OsString, &'static str> {
    let fits = !value.is_empty() && !value.as_bytes().iter().any(u8::is_ascii_control);
    fits.then(|| value.to_owned())
        .ok_or("a name, not empty and without control characters")
}

fn way(value: &OsStr) -> Result<Method, &'static str> {
    match value.as_bytes() {
        b"auto" => Ok(Method::Auto),
        b"direct" => Ok(Method::Direct),
        b"fusermount3" => Ok(Method::Fusermount3),
        _ => Err("direct, fusermount3 or auto"),
    }
}

fn threads(value: &OsStr) -> Result<NonZeroU16, &'static str> {
    let threads = number(value)
        .and_then(|n| u16::try_from(n).ok())
        .and_then(NonZeroU16::new);
    threads
        .filter(|n| n.get() <= 1024)
        .ok_or("a number from 1 to 1024")
}

fn depth(value: &OsStr) -> Result<u8, &'static str> {
    match value.as_bytes() {
        b"1" => Ok(1),
        b"2" => Ok(2),
        _ => Err("1 or 2"),
    }
}

fn waiters(value: &OsStr) -> Result<usize, &'static str> {
    number(value)
        .filter(|n| (1..=100_000).contains(n))
        .map(|n| n as usize)
        .ok_or("a number from 1 to 100000")
}

fn deaths(value: &OsStr) -> Result<u8, &'static str> {
    number(value)
        .filter(|n| (0..=64).contains(n))
        .map(|n| n as u8)
        .ok_or("a number from 0 to 64")
}

fn copied(value: &OsStr) -> Result<u64, &'static str> {
    let digits = value
        .to_str()
        .filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|v| v.parse().ok())
        .ok_or("a number of bytes; 0: nothing that has content")
}

fn seconds(value: &OsStr) -> Result<u32, &'static str> {
    number(value)
        .filter(|&n| n <= 86_400)
        .ok_or("a number of seconds from 0 (never) to 86400")
}

/// Reads `yes` or `no`.
pub(super) fn yes_or_no(value: &OsStr) -> Result<bool, &'static str> {
    match value.as_bytes() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err("yes or no"),
    }
}

/// What the kernel may keep.
pub(super) fn cache(value: &OsStr) -> Result<Cache, &'static str> {
    match value.as_bytes() {
        b"strict" => Ok(Cache::Strict),
        b"watch" => Ok(Cache::Watch),
        _ => Err("strict or watch"),
    }
}

fn watches(value: &OsStr) -> Result<usize, &'static str> {
    number(value)
        .filter(|n| (1..=1_000_000).contains(n))
        .map(|n| n as usize)
        .ok_or("a number from 1 to 1000000")
}

/// A mode of the filter of system calls.
pub(super) fn seccomp(value: &OsStr) -> Result<Mode, &'static str> {
    match value.as_bytes() {
        b"log" => Ok(Mode::Log),
        b"kill" => Ok(Mode::Kill),
        b"off" => Ok(Mode::Off),
        _ => Err("log, kill or off"),
    }
}

fn level(value: &OsStr) -> Result<LogLevel, &'static str> {
    match value.as_bytes() {
        b"error" => Ok(LogLevel::Error),
        b"warn" => Ok(LogLevel::Warn),
        b"info" => Ok(LogLevel::Info),
        b"debug" => Ok(LogLevel::Debug),
        _ => Err("error, warn, info or debug"),
    }
}

fn exact(value: &OsStr) -> Result<(), &'static str> {
    if value == "exact" {
        Ok(())
    } else {
        Err("exact")
    }
}

fn bytes(value: &OsStr) -> Result<u32, &'static str> {
    number(value)
        .filter(|&n| n > 0)
        .ok_or("a number of bytes above 0")
}
