//! The wiring: from options to a served mount and back to nothing.
//!
//! A start makes the mount and answers INIT ([`start`]). Then either this process serves it itself, or it becomes the
//! [`keeper`] of a process that does ([`server`]), which shares its descriptors and finds everything else in the
//! [ledger](crate::ledger), so that the next one goes on where it was killed.

mod candidate;
mod deaths;
mod ending;
mod facts;
mod handover;
mod heir;
mod keeper;
mod resume;
mod serve;
mod server;
mod settle;
mod spare;
mod start;
mod stuck;
mod trial;

pub use resume::{asked, resume, resumed, try_out};
#[cfg(test)]
pub(crate) use start::wish;

use crate::cli::Options;
use crate::ledger::Ledger;
use crate::log;
use crate::mount::Attached;
use crate::printable::{plain, tame};
use crate::session::Session;
use crate::sys::background::Readiness;
use crate::sys::inherit::Inherited;
use crate::sys::signals::{self, Signals};
use anyhow::{Context as _, Result};
use ending::{LAST_LINES, code, sent_to_all, signal_name, unmount};
use keeper::Keeper;
use settle::{settle, with_cache_to_be_had};
use start::Unserved;
use std::process::ExitCode;

/// Serves until the mount is gone or a signal ends it. Call it in a process that has one thread.
///
/// A failure is told here, in one line that names the path and the remedy; nothing is left mounted then. In the
/// background nobody reads what goes wrong after readiness.
pub fn run(options: &Options, signals: &Signals, readiness: Readiness) -> ExitCode {
    settle(options);
    let options = &with_cache_to_be_had(options);
    // In the background stderr ends with readiness; what takes its place is opened before there is a mount.
    if !options.foreground {
        log::System::open().use_when_told();
    }
    let made = match start::make(options) {
        Ok(made) => made,
        Err(error) => return failed(readiness, &error),
    };
    match ledger(options) {
        Some(ledger) => keep(options, signals, readiness, made, ledger),
        None => alone(options, signals, readiness, made),
    }
}

fn failed(readiness: Readiness, error: &anyhow::Error) -> ExitCode {
    readiness.failed(&tame(&plain(&format!("etcfs: {error:#}"))));
    ExitCode::FAILURE
}

/// The state that outlives a server, if there is to be a keeper.
fn ledger(options: &Options) -> Option<&'static Ledger> {
    if !options.is_kept() {
        return None;
    }
    match Ledger::create() {
        Ok(ledger) => Some(ledger),
        Err(errno) => {
            log::warn(format_args!(
                "no keeper: the state that a successor needs has no memory ({errno}); the mount works, and ends if the daemon dies"
            ));
            None
        }
    }
}

/// Becomes the keeper of a process that serves.
fn keep(
    options: &Options,
    signals: &Signals,
    readiness: Readiness,
    made: Unserved,
    ledger: &'static Ledger,
) -> ExitCode {
    let Unserved {
        facts,
        pending,
        starting,
    } = made;
    facts.write(ledger);
    let begun = Keeper::new(options, facts, ledger, signals).and_then(|mut keeper| {
        let server = keeper.begin()?;
        Ok((keeper, server))
    });
    let (mut keeper, server) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            drop(pending);
            return failed(readiness, &error);
        }
    };
    let attached = match pending.attach() {
        Ok(attached) => attached,
        Err(error) => {
            crate::sys::child::kill(server);
            return failed(readiness, &error.into());
        }
    };
    drop(starting);
    drop(attached);
    code(keeper.run(server, || readiness.ready()))
}

/// Serves in this process.
fn alone(options: &Options, signals: &Signals, readiness: Readiness, made: Unserved) -> ExitCode {
    let Unserved {
        facts,
        pending,
        starting,
    } = made;
    let inherited = Inherited::of(facts.descriptors());
    let served = Ledger::private()
        .context("memory for what is known of the tree")
        .and_then(|ledger| {
            let server = serve::start(options, &facts, ledger, &inherited, || {})?;
            Ok((server, ledger))
        });
    let (server, ledger) = match served {
        Ok(served) => served,
        Err(error) => {
            drop(pending);
            return failed(readiness, &error);
        }
    };
    let attached = match pending.attach() {
        Ok(attached) => attached,
        Err(error) => return failed(readiness, &error.into()),
    };
    drop(starting);
    if rustix::process::geteuid().is_root() {
        if let Err(error) = serve::filter(options, None) {
            let _ = attached.detach_lazily();
            return failed(readiness, &error);
        }
    }
    if readiness.ready().is_err() {
        let _ = attached.detach_lazily();
        return ExitCode::FAILURE;
    }
    log::use_system();
    let ended = wait(
        &server.session,
        &attached,
        signals,
        options.survive_shutdown,
    );
    if let Some(printer) = server.printer {
        printer.flush(LAST_LINES);
    }
    // A thread that waits for answers would stay, and with it whoever it waits for.
    stuck::end_waits(ledger.header());
    code(ended)
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
            Some(signal) if signals::ends(signal) => return unmount(attached, signal),
            _ => {}
        }
    }
}
