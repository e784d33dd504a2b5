//! `etcfs`: mounts and serves one stratum's /etc.

use std::process::ExitCode;

use etcfs::cli::{HELP, Options, Parsed, asked_of_mount};
use etcfs::daemon;
use etcfs::printable::{plain, tame};
use etcfs::sys::background::{Forked, Readiness, background};
use etcfs::sys::heap::Patient;
use etcfs::sys::signals::{self, Signals};

#[global_allocator]
static HEAP: Patient = Patient;

fn main() -> ExitCode {
    if let Some(state) = daemon::asked() {
        signals::settle(true);
        return daemon::try_out(state);
    }
    match Options::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Parsed::Version) => {
            println!("etcfs {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Parsed::Run(options)) => run(*options).unwrap_or_else(|line| {
            say(&line);
            ExitCode::FAILURE
        }),
        Err(error) => {
            say(&format!("etcfs: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves, or lets a child serve and waits until it is ready.
///
/// # Errors
/// The line that nobody has printed yet.
fn run(mut options: Options) -> Result<ExitCode, String> {
    let resumed = daemon::resumed();
    signals::settle(resumed.is_some());
    options.take_environment(std::env::var_os("ETCFS_ENABLE_PASSTHROUGH").as_deref());
    options.take_survival(std::env::var_os("ETCFS_SURVIVE_SHUTDOWN").as_deref());
    options.take_keeper(std::env::var_os("ETCFS_KEEPER").as_deref());
    options.take_cache(std::env::var_os("ETCFS_CACHE").as_deref());
    options.take_seccomp(std::env::var_os("ETCFS_SECCOMP").as_deref());
    options.take_appended(asked_of_mount);
    if let Err(error) = options.check_user(rustix::process::geteuid().as_raw()) {
        say(&error.to_string());
        if let Some(remedy) = error.remedy() {
            say(&format!("etcfs: {remedy}"));
        }
        return Ok(ExitCode::FAILURE);
    }
    if let Some(state) = resumed {
        return Ok(daemon::resume(&options, &block()?, state));
    }
    let readiness = if options.foreground {
        Readiness::foreground()
    } else {
        match background().map_err(|e| format!("etcfs: going to the background: {e}"))? {
            Forked::Parent(parent) => return parent.wait().map(|()| ExitCode::SUCCESS),
            Forked::Child(readiness) => readiness,
        }
    };
    Ok(daemon::run(&options, &block()?, readiness))
}

fn block() -> Result<Signals, String> {
    Signals::block().map_err(|e| format!("etcfs: blocking the signals: {e}"))
}

/// Tells people one line on stderr.
fn say(line: &str) {
    eprintln!("{}", tame(&plain(line)));
}
