//! `etcfsctl`: asks a running etcfs what it does, and why.
//!
//! It finds the daemon by the mount's device number and never touches the mount, so a mount that hangs does not hang
//! it; whatever the daemon does, an answer or a reason is there within `--timeout`.

mod check;
mod client;
mod find;
mod follow;
mod record;
mod recording;
mod report;
mod stats;
mod top;

use anyhow::Result;
use argh::FromArgs;
use etcfs::printable::tame;
use std::process::ExitCode;

/// Ask a running etcfs what it does, and why. MOUNT is a mount point of etcfs; without it, the only one there is.
#[derive(FromArgs)]
struct Args {
    /// print JSON, for programs
    #[argh(switch)]
    json: bool,
    /// seconds to wait for the daemon (default 5)
    #[argh(option, default = "5.0")]
    timeout: f64,
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Stats(stats::Args),
    Log(follow::LogArgs),
    Trace(follow::TraceArgs),
    Record(record::Args),
    Decode(recording::DecodeArgs),
    Replay(recording::ReplayArgs),
    Top(top::Args),
    Which(report::WhichArgs),
    Journal(report::JournalArgs),
    Doctor(report::DoctorArgs),
    Check(check::Args),
    Version(VersionArgs),
}

/// Print the version.
#[derive(FromArgs)]
#[argh(subcommand, name = "version")]
struct VersionArgs {}

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let how = client::How {
        json: args.json,
        timeout: args.timeout,
    };
    let result = match args.command {
        Command::Stats(args) => stats::run(&how, &args),
        Command::Log(args) => follow::log(&how, &args),
        Command::Trace(args) => follow::trace(&how, &args),
        Command::Record(args) => record::run(&how, &args),
        Command::Decode(args) => recording::decode(&how, &args),
        Command::Replay(args) => recording::replay(&how, &args),
        Command::Top(args) => top::run(&how, &args),
        Command::Which(args) => report::which(&how, &args),
        Command::Journal(args) => report::journal(&how, &args),
        Command::Doctor(args) => report::doctor(&how, &args),
        Command::Check(args) => check::run(&how, &args),
        Command::Version(VersionArgs {}) => {
            println!("etcfsctl {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    finish(result)
}

/// A reader that has seen enough (`etcfsctl log | head`) is no failure.
fn finish(result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("etcfsctl: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells people one line on stderr. Paths may be in it, and what a daemon says that is not to be trusted: an ordinary user's.
fn say(line: &str) {
    eprintln!("{}", tame(line));
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
