//! `etcfsctl restart` and `upgrade`.

use crate::client::{Connection, How, read, report};
use crate::find::{self, Mount};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use etcfs::ctl::report::{BROKEN_OFF, Replaced, Stats};
use etcfs::ctl::wire::Query;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long another server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon it is asked.
const AGAIN: Duration = Duration::from_millis(10);

/// Have another process of the same program serve the mount, without anybody noticing; also in place of one that hangs.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "restart")]
pub(crate) struct RestartArgs {
    /// the mount point
    #[argh(positional)]
    mount: Option<PathBuf>,
}

/// Have another program serve the mount, without anybody noticing. It is tried out first, and gone back from if it does not
/// serve.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "upgrade")]
pub(crate) struct UpgradeArgs {
    /// all mounts, one after the other
    #[argh(switch)]
    all: bool,
    /// the program (default: the etcfs beside this etcfsctl), and the mount point
    #[argh(positional, arg_name = "BINARY_OR_MOUNT")]
    what: Vec<PathBuf>,
}

/// Replaces the server.
pub(crate) fn restart(how: &How, args: &RestartArgs) -> Result<ExitCode> {
    let mount = find::mount(args.mount.as_deref())?;
    let (before, _): (Replaced, _) = match report(how, &mount, &Query::Restart) {
        Ok(told) => told,
        Err(error) => match etcfs::ctl::door::end_server(mount.device, mount.user) {
            Some(pid) => {
                eprintln!("etcfsctl: {error:#}; its process {pid} has been ended");
                (Replaced { servers: 0 }, String::new())
            }
            None => return Err(error),
        },
    };
    let stats = next(how, &mount, before.servers)?;
    println!(
        "{}: served by process {} (the {}. server of this mount)",
        mount.shown(),
        stats.pid,
        stats.servers
    );
    Ok(ExitCode::SUCCESS)
}

/// Replaces the program.
pub(crate) fn upgrade(how: &How, args: &UpgradeArgs) -> Result<ExitCode> {
    let (mounts, binaries): (Vec<_>, Vec<_>) = args.what.iter().partition(|path| path.is_dir());
    if mounts.len() > 1 || binaries.len() > 1 || (args.all && !mounts.is_empty()) {
        bail!("upgrade takes one program and one mount point, or --all");
    }
    let binary = match binaries.first() {
        Some(binary) => binary.to_path_buf(),
        None => beside()?,
    };
    let program = File::open(&binary).with_context(|| format!("{}", binary.display()))?;
    let mounts = match args.all {
        true => find::mounts()?,
        false => vec![find::mount(mounts.first().map(|path| path.as_path()))?],
    };
    let mut code = ExitCode::SUCCESS;
    for mount in &mounts {
        match upgrade_one(how, mount, &program) {
            Ok(stats) => println!(
                "{}: etcfs {} serves, process {}",
                mount.shown(),
                stats.version,
                stats.pid
            ),
            Err(error) if args.all => {
                eprintln!("etcfsctl: {}: {error:#}", mount.shown());
                code = ExitCode::FAILURE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}

/// The daemon's program that lies where this one does.
fn beside() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the etcfs beside this program")?;
    let beside = own.parent().unwrap_or(Path::new("/")).join("etcfs");
    match beside.exists() {
        true => Ok(beside),
        false => bail!("{} does not exist: name the program", beside.display()),
    }
}

fn upgrade_one(how: &How, mount: &Mount, program: &File) -> Result<Stats> {
    let (before, _): (Stats, _) = report(how, mount, &Query::Stats { reset: false })?;
    if before.servers == 0 {
        bail!(
            "this daemon has no keeper; only one that was started with -o keeper=yes can be upgraded"
        );
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let id = RandomState::new().hash_one(0);
        let ask = Query::Upgrade {
            program: program.as_raw_fd(),
            id,
        };
        // Where all goes well the server is ended before it answers, and another one knows what became of it.
        let refused = Connection::ask_once(how, mount, &ask);
        match became_of(how, mount, id, end)? {
            Some((stats, became)) => match became.as_str() {
                "it serves" => return Ok(stats),
                BROKEN_OFF if Instant::now() < end => {}
                _ => bail!("{became}"),
            },
            // It was not taken.
            None if Instant::now() < end => refused?,
            None => bail!("the daemon does not take the program; its log may say why"),
        }
        std::thread::sleep(AGAIN);
    }
}

/// What became of the program that was brought as `id`. None: another one was, or none.
fn became_of(how: &How, mount: &Mount, id: u64, end: Instant) -> Result<Option<(Stats, String)>> {
    loop {
        let (stats, _): (Stats, _) = report(how, mount, &Query::Stats { reset: false })?;
        if stats.upgrade_id != id {
            return Ok(None);
        }
        match stats.upgrade.clone() {
            Some(became) => return Ok(Some((stats, became))),
            None if Instant::now() > end => bail!("the keeper does not answer"),
            None => std::thread::sleep(AGAIN),
        }
    }
}

/// The figures of a server after the one with this number, as soon as it answers.
fn next(how: &How, mount: &Mount, before: u32) -> Result<Stats> {
    let end = Instant::now() + PATIENCE;
    loop {
        let asked = Connection::ask(how, mount, &Query::Stats { reset: false })
            .and_then(Connection::report)
            .and_then(|text| read::<Stats>(&text));
        match asked {
            Ok((stats, _)) if stats.servers > before => return Ok(stats),
            Err(error) if Instant::now() > end => return Err(error),
            _ if Instant::now() > end => bail!("the server before this one answers still"),
            _ => std::thread::sleep(AGAIN),
        }
    }
}
