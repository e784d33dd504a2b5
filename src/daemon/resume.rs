//! Going on with the state of a process that was here before, as a program that has just been executed in its place; and
//! being tried out, whether that could be done.

use super::ending::{code, unmount};
use super::facts::{Facts, OTHER_OPTIONS, OTHER_STATE, STATE, UNDERSTANDS};
use super::keeper::Keeper;
use super::settle::settle;
use crate::cli::{Options, Parsed};
use crate::fs::Fs;
use crate::ledger::{Ledger, Unreadable};
use crate::log;
use crate::sys::inherit::{self, Inherited};
use crate::sys::signals::Signals;
use anyhow::Result;
use rustix::fd::{AsFd as _, AsRawFd as _, RawFd};
use rustix::process::{Pid, getpid, getppid};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering::{Acquire, Release};

/// The descriptor of the state to go on with, if this process was executed for that: the environment says so.
#[must_use]
pub fn resumed() -> Option<RawFd> {
    let number = std::env::var(STATE).ok()?;
    number.parse().ok().filter(|&fd| fd > 2)
}

/// The descriptor of the state of which only is to be said whether it could be gone on with: the one argument says so.
#[must_use]
pub fn asked() -> Option<RawFd> {
    let mut arguments = std::env::args().skip(1);
    let number = arguments.next()?;
    let number = number.strip_prefix(UNDERSTANDS)?;
    let number = number.parse().ok().filter(|&fd| fd > 2);
    number.filter(|_| arguments.next().is_none())
}

/// The ledger in the descriptor `file`, whose keeper is `keeper`, and what it says of the mount. Anybody may set a variable: a
/// state that is somebody else's is left alone.
fn adopt(file: RawFd, keeper: Option<Pid>) -> Result<(&'static Ledger, Facts), Unreadable> {
    let file = inherit::take_over(file).ok_or(Unreadable::Broken("it is not open"))?;
    let ledger = Ledger::adopt(file)?;
    let of = Pid::from_raw(ledger.header().keeper.load(Acquire));
    if keeper.is_none() || of != keeper {
        return Err(Unreadable::Broken("it is another daemon's"));
    }
    let facts = Facts::read(ledger)?;
    Ok((ledger, facts))
}

/// Whether the state could be gone on with, as an exit code.
#[must_use]
pub fn try_out(file: RawFd) -> ExitCode {
    let keeper = getppid();
    let Ok((ledger, _)) = adopt(file, keeper) else {
        return ExitCode::from(OTHER_STATE as u8);
    };
    if !keeper.is_some_and(has_known_options) {
        return ExitCode::from(OTHER_OPTIONS as u8);
    }
    // By the name that whoever asks has for it.
    let page = ledger.told_page();
    let version = page.version.load(Acquire);
    page.understood.store(version, Release);
    ExitCode::SUCCESS
}

/// True if the arguments of this process, as which this program would be executed, mean something to it; or cannot be seen.
fn has_known_options(process: Pid) -> bool {
    let path = format!("/proc/{}/cmdline", process.as_raw_nonzero());
    let Ok(line) = std::fs::read(path) else {
        return true;
    };
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let arguments = line.split(|&byte| byte == 0).skip(1);
    let arguments = arguments.map(|bytes| OsString::from_vec(bytes.to_vec()));
    matches!(Options::parse(arguments), Ok(Parsed::Run(_)))
}

/// Goes on as the keeper of the mount. Call it first of all, in a process that has one thread.
pub fn resume(options: &Options, signals: &Signals, file: RawFd) -> ExitCode {
    settle(options);
    if !options.foreground {
        log::System::open().use_when_told();
        log::use_system();
    }
    let (ledger, facts) = match adopt(file, Some(getpid())) {
        Ok(adopted) => adopted,
        Err(why) => {
            eprintln!("etcfs: {STATE}={file} is no state to go on with ({why}); unset it");
            log::error(format_args!("the state cannot be gone on with: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let go_on = || {
        let named = Fs::descriptors_in(ledger).into_iter();
        let before = ledger.before().map(|before| before.file());
        let own = ledger.file().into_iter().chain(before);
        let own = own.chain([signals.as_fd()]).map(|fd| fd.as_raw_fd());
        let left = named.chain(facts.descriptors()).chain(own);
        // Those of this program's own log, too: their numbers would be other files' soon, and lines be written to those.
        let left = left.chain(log::descriptors());
        let previous = ledger.header().previous.load(Acquire);
        drop(Inherited::keep(left.chain([previous])));
        log::set_stratum(&facts.stratum);
        if rustix::process::geteuid().is_root() {
            crate::sys::privileges::reduce()?;
        }
        let signal = ledger.header().signal.load(Acquire);
        if signal != 0 {
            return unmount(&facts.mount, signal);
        }
        let mut keeper = Keeper::new(options, facts, ledger, signals)?;
        let server = keeper.resume()?;
        keeper.run(server, || Ok(()))
    };
    code(go_on())
}
