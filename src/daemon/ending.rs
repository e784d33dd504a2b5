//! How things end here: words, numbers, and taking the mount away.

use crate::ledger::Ledger;
use crate::log;
use crate::mount::{Attached, Detached};
use anyhow::Result;
use rustix::process::{Pid, Signal, WaitStatus, kill_process};
use std::process::ExitCode;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

/// Within this time `max_deaths` servers may die: then something is wrong that a further one will not mend.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// How long the last lines of `-d` may take to be printed at the end.
pub(super) const LAST_LINES: Duration = Duration::from_secs(1);

/// The exit code, after what went wrong has been told.
pub(super) fn code(ended: Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What is on top of the mountpoint goes only if it is our mount; the rest of it ends with this process.
pub(super) fn unmount(attached: &Attached, signal: i32) -> Result<()> {
    if attached.detach_lazily()? == Detached::NotOnTop {
        let at = attached.mountpoint().display();
        log::warn(format_args!(
            "{at}: not unmounted upon {}: another mount covers this one, or it was unmounted already; the daemon ends all the same",
            signal_name(signal)
        ));
    }
    Ok(())
}

pub(super) fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        _ => "a signal",
    }
}

/// What an init sends to every process before it sends SIGKILL.
pub(super) fn sent_to_all(signal: i32) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGHUP)
}

/// How a process has ended, as a number: see [`crate::ledger::header::FirstPage::status`].
pub(super) fn number_of(status: WaitStatus) -> i32 {
    let code = status.exit_status().map_or(0, |code| -code);
    status.terminating_signal().unwrap_or(code)
}

/// How a process has ended, in words.
pub(super) fn told(status: i32) -> String {
    match status {
        0 => "unknown how".to_owned(),
        signal @ 1.. => format!("signal {signal}"),
        code => format!("exit code {}", -code),
    }
}

/// The keeper decides what a signal does, whichever of the processes it reaches.
pub(super) fn forward(ledger: &Ledger, signal: i32) {
    let header = ledger.header();
    let keeper = Pid::from_raw(header.keeper.load(Acquire));
    let (Some(keeper), Some(named)) = (keeper, Signal::from_named_raw(signal)) else {
        return;
    };
    if kill_process(keeper, named).is_err() {
        // It has just died; whoever takes its place sees this.
        header.signal.store(signal, Release);
    }
}
