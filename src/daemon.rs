//! The wiring: from options to a served mount and back to nothing.

use crate::cli::{LogLevel, Options};
use crate::ctl;
use crate::fs::Fs;
use crate::fs::backing::registry::Reach;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use crate::log;
use crate::mount::{self, Attached, Detached};
use crate::printable::{plain, tame};
use crate::session::{Session, handshake};
use crate::sys::background::Readiness;
use crate::sys::signals::Signals;
use crate::sys::{final_kill, limits, privileges, seccomp};
use crate::trace;
use crate::watchdog;
use anyhow::{Context as _, Result};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::Wish;
use rustix::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Directories that hold a descriptor: a quarter of what the process may open, the rest being for files.
const DIR_SHARE: usize = 4;

/// And not more of them than this: each keeps an inode in memory.
const MOST_DIRS: usize = 8192;

/// How long the last lines of `-d` may take to be printed at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Serves until the mount is gone or a signal ends it. Call it in a process that has one thread.
///
/// A failure is told here, in one line that names the path and the remedy; nothing is left mounted then. In the
/// background nobody reads what goes wrong after readiness.
pub fn run(options: &Options, signals: &Signals, readiness: Readiness) -> ExitCode {
    log::set_level(match options.log {
        LogLevel::Error => log::Level::Error,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Info => log::Level::Info,
        LogLevel::Debug => log::Level::Debug,
    });
    for left in limits::settle() {
        match left.matters {
            true => log::warn(format_args!("{}", left.text)),
            false => log::info(format_args!("{}", left.text)),
        }
    }
    if options.survive_shutdown
        && let Err(errno) = final_kill::be_spared()
    {
        log::warn(format_args!(
            "systemd will not spare this process at shutdown: its command line cannot be marked ({errno}); mount /proc before the start"
        ));
    }
    // In the background stderr ends with readiness; what takes its place is opened before there is a mount.
    let system = (!options.foreground).then(log::System::open);
    let Mounted {
        session,
        attached,
        printer,
    } = match start(options) {
        Ok(started) => started,
        Err(error) => {
            readiness.failed(&tame(&plain(&format!("etcfs: {error:#}"))));
            return ExitCode::FAILURE;
        }
    };
    if readiness.ready().is_err() {
        // Whoever started the daemon has given up waiting for it.
        let _ = attached.detach_lazily();
        return ExitCode::FAILURE;
    }
    if let Some(system) = system {
        system.use_from_now_on();
    }
    let ended = wait(&session, &attached, signals, options.survive_shutdown);
    if let Some(printer) = printer {
        printer.flush(LAST_LINES);
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A mount that is being served.
struct Mounted {
    session: Arc<Session>,
    attached: Attached,
    /// What prints for `-d`.
    printer: Option<Arc<trace::Printer>>,
}

fn start(options: &Options) -> Result<Mounted> {
    let mountpoint = std::path::absolute(&options.mount.mountpoint)
        .with_context(|| format!("{}", options.mount.mountpoint.display()))?;
    // Where there is no such directory, that is said below.
    let beneath = mount::take_base(&mountpoint).ok();
    let _starting = beneath.map(|base| mount::Starting::wait(base.into_dir()));
    let found = mount::make_room(&mountpoint, options.mount.way, &ctl::door::serving)?;
    for remark in found.remarks(&mountpoint) {
        log::warn(format_args!("{remark}"));
    }
    if let Some(live) = found.live.filter(|_| !options.stack) {
        return Err(live.refuse(&mountpoint).into());
    }
    let point = mount::Point::open(&mountpoint)?;
    let local = point.base().context("the local directory")?;
    let global_dir = options.global_dir(&mountpoint);
    let global = mount::take_base(&global_dir)
        .context("the global directory (name another one with -o global=DIR)")?;
    // Nothing relative is left to be found, and a daemon that stays where it was started keeps that file system busy.
    std::env::set_current_dir("/").context("/")?;
    let mut request = options.mount.clone();
    if local.is_noexec() || global.is_noexec() {
        log::info(format_args!(
            "{}: nothing can be executed, as on the mounts beneath",
            mountpoint.display()
        ));
        request.noexec = true;
    }
    let (local, of_local) = local.with_times_of(&request);
    let (global, of_global) = global.with_times_of(&request);
    let times = of_local.and(of_global);
    if let Err(errno) = times {
        log::info(format_args!(
            "{}: access times change as on the mounts beneath ({errno}); with noatime and ro, files that this user may \
             open so are opened with O_NOATIME",
            mountpoint.display()
        ));
    }
    let keeps_times = times.is_err() && request.keeps_access_times();
    let fs = tree(options, &request, &mountpoint, local, global, keeps_times)?;
    let prepared = mount::prepare(&request, point)?;
    let (device, number) = (prepared.pending.device(), prepared.pending.number());
    let root = rustix::process::geteuid().is_root();
    if root {
        privileges::reduce().context("giving up what serving does not need")?;
    }
    let (session, printer) = serve(prepared.device, fs, options)?;
    ctl::serve(
        &session,
        ctl::Start {
            device,
            mount: number,
            global: std::path::absolute(&global_dir).unwrap_or(global_dir),
            local: mountpoint,
            wished: wish(options).flags,
            passthrough: options.passthrough,
        },
    );
    let attached = prepared.pending.attach()?;
    if root && let Err(error) = filter(options) {
        let _ = attached.detach_lazily();
        return Err(error);
    }
    Ok(Mounted {
        session,
        attached,
        printer,
    })
}

/// Filters the system calls of all threads. An ordinary user's daemon has nothing but its user's own rights, and needs a
/// set-uid program to unmount, which a filter would forbid.
fn filter(options: &Options) -> Result<()> {
    if let Some(value) = &options.odd_seccomp {
        log::error(format_args!(
            "ETCFS_SECCOMP is {value:?}, and only log, kill and off are known: it is taken for log"
        ));
    }
    let mode = options.seccomp.unwrap_or_default();
    match seccomp::apply(mode) {
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

/// The tree over both base directories, which were taken beneath any FUSE mount before there is a mount of our own
/// (contract F1, D8).
fn tree(
    options: &Options,
    request: &mount::MountRequest,
    mountpoint: &Path,
    local: mount::Base,
    global: mount::Base,
    keeps_access_times: bool,
) -> Result<Fs> {
    let stratum = stratum(options)?;
    log::set_stratum(&stratum);
    let base = |base: mount::Base| BaseDir::new(&base.into_dir());
    let local = base(local).context("opening the local directory")?;
    let global = base(global).context("opening the global directory")?;
    let files = usize::try_from(limits::files()).unwrap_or(usize::MAX);
    let settings = Settings {
        stratum: stratum.into(),
        mountpoint: mountpoint.as_os_str().as_bytes().into(),
        exact_globals: options.legacy_global,
        dir_limit: (files / DIR_SHARE).min(MOST_DIRS),
        max_cross_copy: options.max_cross_copy,
        privileged: rustix::process::geteuid().is_root(),
        keeps_access_times,
        generation: rand_generation(),
        suid: request.suid,
        dev: request.dev,
        // Directories give their descriptors up to files.
        open_limit: Some(files / 5 * 4),
    };
    let fs = Fs::new(local, global, settings).context("looking at the base directories")?;
    if options.noforget {
        fs.lower.nodes.keep_forgotten();
    }
    Ok(fs)
}

/// A number that an earlier daemon of the same mountpoint hardly had. The standard library seeds these at random.
fn rand_generation() -> u32 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(0) as u32 | 1
}

/// The stratum's name: an option, or what Bedrock has written on the stratum's root (contract D8).
fn stratum(options: &Options) -> Result<Vec<u8>> {
    if let Some(name) = &options.stratum {
        return Ok(name.as_bytes().to_vec());
    }
    let mut value = vec![0; 4096];
    let len = rustix::fs::lgetxattr(c"/", c"user.bedrock.stratum", &mut value[..]).context(
        "reading attribute user.bedrock.stratum of / (outside a stratum, give -o stratum=NAME)",
    )?;
    value.truncate(len);
    Ok(value)
}

/// Answers INIT and starts the workers, and with `-d` what prints.
fn serve(
    device: OwnedFd,
    fs: Fs,
    options: &Options,
) -> Result<(Arc<Session>, Option<Arc<trace::Printer>>)> {
    let wish = wish(options);
    let agreed = handshake(rustix::fd::AsFd::as_fd(&device), &wish).context("/dev/fuse")?;
    let session = Session::new(device, fs, agreed, None).context("making the session")?;
    session.waiters.set_most(options.max_lock_waiters);
    let threads = options.threads.map(|n| usize::from(n.get()));
    let reach = match options.passthrough {
        true => Reach::Everything,
        false => Reach::GlobalMappings,
    };
    if wish.flags.contains(InitFlags::PASSTHROUGH) {
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
    session.start(threads).context("starting the workers")?;
    if options.watchdog > 0 {
        let limit = Duration::from_secs(options.watchdog.into());
        watchdog::start(&session, limit).context("starting the watchdog")?;
    }
    Ok((session, printer))
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

/// What etcfs wants of the kernel.
pub(crate) fn wish(options: &Options) -> Wish {
    let mut flags = InitFlags::INIT_EXT
        | InitFlags::ASYNC_READ
        | InitFlags::POSIX_LOCKS
        | InitFlags::FLOCK_LOCKS
        | InitFlags::ATOMIC_O_TRUNC
        | InitFlags::EXPORT_SUPPORT
        | InitFlags::AUTO_INVAL_DATA
        | InitFlags::BIG_WRITES
        | InitFlags::DONT_MASK
        | InitFlags::ASYNC_DIO
        | InitFlags::PARALLEL_DIROPS
        | InitFlags::POSIX_ACL
        | InitFlags::ABORT_ERROR
        | InitFlags::MAX_PAGES
        | InitFlags::HANDLE_KILLPRIV_V2
        | InitFlags::SETXATTR_EXT
        | InitFlags::CREATE_SUPP_GROUP
        | InitFlags::DIRECT_IO_ALLOW_MMAP;
    // Where nobody has asked for passthrough, root's daemon uses it for mappings of global files.
    let registers = options.passthrough || rustix::process::geteuid().is_root();
    if registers {
        flags |= InitFlags::PASSTHROUGH;
    }
    Wish {
        flags,
        max_stack_depth: registers.then(|| options.max_stack_depth.into()),
        default_permissions: true,
        ..Wish::default()
    }
}

/// Waits for the end: the last worker's, or a signal's, which unmounts lazily (contract D18, D19). `survives`: a signal that
/// a shutdown sends to all is none to end upon, also once the mount is gone for newcomers, since others have files open still.
fn wait(session: &Session, attached: &Attached, signals: &Signals, survives: bool) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(session.ended(), PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno).context("waiting for the end"),
            Ok(_) => {}
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        match signals.read().context("reading a signal")? {
            Some(signal) if survives && sent_to_all(signal) => log::info(format_args!(
                "{}: {} does not end the daemon (-o survive_shutdown), umount does",
                attached.mountpoint().display(),
                signal_name(signal)
            )),
            Some(signal) => return unmount(attached, signal),
            None => {}
        }
    }
}

/// What is on top of the mountpoint goes only if it is our mount; the rest of it ends with this process.
fn unmount(attached: &Attached, signal: i32) -> Result<()> {
    if attached.detach_lazily()? == Detached::NotOnTop {
        let at = attached.mountpoint().display();
        log::warn(format_args!(
            "{at}: not unmounted upon {}: another mount covers this one, or it was unmounted already; the daemon ends all the same",
            signal_name(signal)
        ));
    }
    Ok(())
}

/// What an init sends to every process before it sends SIGKILL.
fn sent_to_all(signal: i32) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGHUP)
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        _ => "a signal",
    }
}
