//! `etcfsctl`: asks a running etcfs what it does, and why.
//!
//! It finds the daemon by the mount's device number and never touches the mount, so a mount that hangs does not hang
//! it; whatever the daemon does, an answer or a reason is there within `--timeout`.

#![deny(unreachable_pub)]

mod arguments;
mod bedrock;
mod check;
mod client;
mod files;
mod find;
mod follow;
mod help;
mod questions;
mod record;
mod recording;
mod replace;
mod stats;
mod top;
mod within;

use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use arguments::Arranged;
use etcfs::printable::{plain, tame};
use std::process::ExitCode;

/// Ask a running etcfs what it does, and why. MOUNT is a mount point of etcfs; without it, the only one there is.
#[derive(FromArgs, ArgsInfo)]
struct Args {
    /// print JSON, for programs
    #[argh(switch, short = 'j')]
    json: bool,
    /// seconds to wait for the daemon (default 5)
    #[argh(option, default = "5.0")]
    timeout: f64,
    #[argh(subcommand)]
    command: Subcommand,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Subcommand {
    Stats(stats::Args),
    Log(follow::LogArgs),
    Trace(follow::TraceArgs),
    Record(record::Args),
    Decode(recording::DecodeArgs),
    Replay(recording::ReplayArgs),
    Top(top::Args),
    Which(questions::WhichArgs),
    Journal(questions::JournalArgs),
    Doctor(questions::DoctorArgs),
    Drop(questions::DropArgs),
    Restart(replace::RestartArgs),
    Upgrade(replace::UpgradeArgs),
    Check(check::Args),
    Bedrock(bedrock::Args),
    Version(VersionArgs),
}

/// Print the version.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "version")]
struct VersionArgs {}

/// Takes the arguments, whose command and options may come in any order.
fn parse() -> Result<Args, ExitCode> {
    // Where 1 means that there is something to say, what is wrong with the line must be told from it.
    let wrong = match std::env::args_os().any(|arg| arg == "bedrock") {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    };
    let refused = |line: &str| {
        say(&format!("etcfsctl: {line}"));
        wrong
    };
    let mut args = Vec::new();
    for arg in std::env::args_os().skip(1) {
        let arg = arg.into_string();
        args.push(arg.map_err(|arg| refused(&format!("{}: is not UTF-8", arg.to_string_lossy())))?);
    }
    let line = arguments::arrange(&Args::get_args_info(), args).map_err(|why| refused(&why))?;
    let args = match line {
        Arranged::Run(args) => args,
        Arranged::Help(about) => return Err(help::show(about.as_deref())),
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Args::from_args(&["etcfsctl"], &args).map_err(|exit| {
        let lines: Vec<&str> = exit
            .output
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        let commands = Args::get_args_info().commands;
        let is_command = |arg: &&&str| commands.iter().any(|command| command.name == **arg);
        let command = args.iter().find(is_command).map(|name| format!(" {name}"));
        let help = format!("etcfsctl help{}", command.unwrap_or_default());
        refused(&format!("{}; see {help}", lines.join(" ")))
    })
}

fn main() -> ExitCode {
    match parse() {
        Ok(args) => finish(run(args)),
        Err(code) => code,
    }
}

fn run(args: Args) -> Result<ExitCode> {
    let how = client::How {
        json: args.json,
        timeout: args.timeout,
    };
    match args.command {
        Subcommand::Stats(args) => stats::run(&how, &args),
        Subcommand::Log(args) => follow::log(&how, &args),
        Subcommand::Trace(args) => follow::trace(&how, &args),
        Subcommand::Record(args) => record::run(&how, &args),
        Subcommand::Decode(args) => recording::decode(&how, &args),
        Subcommand::Replay(args) => recording::replay(&how, &args),
        Subcommand::Top(args) => top::run(&how, &args),
        Subcommand::Which(args) => questions::which(&how, &args),
        Subcommand::Journal(args) => questions::journal(&how, &args),
        Subcommand::Doctor(args) => questions::doctor(&how, &args),
        Subcommand::Drop(args) => questions::drop_kept(&how, &args),
        Subcommand::Restart(args) => replace::restart(&how, &args),
        Subcommand::Upgrade(args) => replace::upgrade(&how, &args),
        Subcommand::Check(args) => check::run(&how, &args),
        Subcommand::Bedrock(args) => bedrock::run(&how, &args),
        Subcommand::Version(VersionArgs {}) => {
            println!("etcfsctl {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    }
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
    eprintln!("{}", tame(&plain(line)));
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
