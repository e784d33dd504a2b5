//! From what a start has made to threads that serve it.

use super::facts::Facts;
use super::start::wish;
use crate::cli::{LogLevel, Options};
use crate::ctl;
use crate::ctl::door::Door;
use crate::fs::backing::registry::Reach;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use crate::fs::{Fs, NotBegun};
use crate::ledger::{Ledger, Unreadable};
use crate::log;
use crate::replay::recorder::Recorder;
use crate::session::Session;
use crate::sys::inherit::Inherited;
use crate::sys::{limits, seccomp};
use crate::trace;
use crate::watchdog;
use anyhow::{Context as _, Result};
use etcfs_proto::flags::InitFlags;
use rustix::fd::OwnedFd;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Directories that hold a descriptor: a quarter of what the process may open, the rest being for files.
const DIR_SHARE: usize = 4;

/// And not more of them than this: each keeps an inode in memory.
const MOST_DIRS: usize = 8192;

/// What serves a mount.
pub(super) struct Server {
    /// The connection.
    pub(super) session: Arc<Session>,
    /// What prints for `-d`.
    pub(super) printer: Option<Arc<trace::Printer>>,
}

/// Starts what serves the mount of `facts`: goes on with what `ledger` holds, and with the descriptors that were left. Calls
/// `before` when all of that has been made sense of, and before the first request is read.
///
/// # Errors
/// [`Unreadable`] among them: what a predecessor has left cannot be gone on with.
pub(super) fn start(
    options: &Options,
    facts: &Facts,
    ledger: &'static Ledger,
    inherited: &Inherited,
    before: impl FnOnce(),
) -> Result<Server> {
    log::set_stratum(&facts.stratum);
    if let Some(value) = &options.odd_keeper {
        log::error(format_args!(
            "ETCFS_KEEPER is {value:?}, and only yes and no are known: it counts for nothing"
        ));
    }
    if let Some(value) = &options.odd_cache {
        log::error(format_args!(
            "ETCFS_CACHE is {value:?}, and only strict and watch are known: it counts for nothing"
        ));
    }
    let left = |number, what| -> Result<OwnedFd> {
        let fd = inherited.take(number);
        Ok(fd.ok_or(Unreadable::Broken(what))?)
    };
    let device = left(facts.device, "/dev/fuse is not open")?;
    let local = left(facts.local, "the local directory is not open")?;
    let global = left(facts.global, "the global directory is not open")?;
    let fs = tree(options, facts, (ledger, inherited), local, global)?;
    let session =
        Session::over(ledger, device, fs, facts.agreed(), None).context("making the session")?;
    before();
    session.waiters.set_most(options.max_lock_waiters);
    if options.cache.is_watch() {
        session.watch(options.watches);
    }
    let threads = options.threads.map(|n| usize::from(n.get()));
    let reach = match options.passthrough {
        true => Reach::Everything,
        false => Reach::GlobalMappings,
    };
    let wished = wish(options).flags;
    if wished.contains(InitFlags::PASSTHROUGH) {
        session
            .pass_through(reach)
            .context("starting the sweeper")?;
    }
    if !options.passthrough {
        say_why_not(options);
    }
    // In the background there is no stderr to print every request on.
    let printer = match options.log {
        LogLevel::Debug if options.foreground => {
            Some(trace::debug(&session).context("starting the printer of -d")?)
        }
        _ => None,
    };
    let left = Recorder::left(&session, inherited);
    session.start(threads).context("starting the workers")?;
    crate::fs::watch::start(&session.fs).context("starting the threads that watch")?;
    if options.watchdog > 0 {
        let limit = Duration::from_secs(options.watchdog.into());
        watchdog::start(&session, limit).context("starting the watchdog")?;
    }
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    if let Some(door) = facts
        .door
        .as_ref()
        .and_then(|door| Door::over(door, inherited))
    {
        ctl::serve(
            &session,
            door,
            ctl::Start {
                global: path(&facts.global_dir),
                local: path(&facts.mountpoint),
                wished,
                passthrough: options.passthrough,
                keeper: ledger.file().map(|_| ledger.header()),
            },
            left,
        );
    }
    // What a predecessor has left of this may wait for others.
    session.fs.go_on_with_config();
    Ok(Server { session, printer })
}

/// The tree over both base directories.
fn tree(
    options: &Options,
    facts: &Facts,
    (ledger, inherited): (&'static Ledger, &Inherited),
    local: OwnedFd,
    global: OwnedFd,
) -> Result<Fs> {
    let files = usize::try_from(limits::files()).unwrap_or(usize::MAX);
    let settings = Settings {
        stratum: facts.stratum.clone().into(),
        mountpoint: facts.mountpoint.clone().into(),
        exact_globals: options.legacy_global,
        dir_limit: (files / DIR_SHARE).min(MOST_DIRS),
        max_cross_copy: options.max_cross_copy,
        privileged: rustix::process::geteuid().is_root(),
        keeps_access_times: facts.keeps_access_times,
        generation: facts.generation,
        suid: facts.suid,
        dev: facts.dev,
        below: facts.below,
        // Directories give their descriptors up to files.
        open_limit: Some(files / 5 * 4),
    };
    let base = |fd: OwnedFd| BaseDir::of(fd).context("looking at the base directories");
    let fs =
        Fs::over(ledger, inherited, base(local)?, base(global)?, settings).map_err(
            |why| match why {
                NotBegun::Lower(errno) => {
                    anyhow::Error::new(errno).context("looking at the base directories")
                }
                NotBegun::State(why) => why.into(),
            },
        )?;
    if options.noforget {
        fs.lower.nodes.keep_forgotten();
    }
    Ok(fs)
}

/// Filters the system calls of all threads. An ordinary user's daemon has nothing but its user's own rights, and needs a
/// set-uid program to unmount, which a filter would forbid.
pub(super) fn filter(options: &Options, keeper: Option<u32>) -> Result<()> {
    if let Some(value) = &options.odd_seccomp {
        log::error(format_args!(
            "ETCFS_SECCOMP is {value:?}, and only log, kill and off are known: it is taken for log"
        ));
    }
    let mode = options.seccomp.unwrap_or_default();
    match seccomp::apply(mode, keeper) {
        Ok(()) => Ok(()),
        Err(error) if mode == seccomp::Mode::Kill => Err(error).context(
            "the filter of system calls that -o seccomp=kill asks for (leave it out, or say off)",
        ),
        Err(error) => {
            log::info(format_args!("no filter of system calls: {error}"));
            Ok(())
        }
    }
}

/// Says that passthrough was not asked for: to whoever seems to have tried, and to whoever wants to know.
fn say_why_not(options: &Options) {
    if let Some(value) = &options.odd_passthrough {
        log::error(format_args!(
            "passthrough is off: ETCFS_ENABLE_PASSTHROUGH is {value:?}, and only 1 and yes switch it on; everything works without it"
        ));
    } else if options.log >= LogLevel::Info {
        log::info(format_args!(
            "passthrough is off: nobody asked for it (ETCFS_ENABLE_PASSTHROUGH=1, or -o passthrough); everything works without it"
        ));
    }
}
