//! `etcfs`: mounts and serves one stratum's /etc.

use anyhow::{Context as _, Result};
use etcfs::cli::{HELP, Options, Parsed};
use etcfs::daemon;
use std::process::ExitCode;

fn main() -> ExitCode {
    let parsed = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Version) => {
            println!("etcfs {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Run(options)) => Ok(options),
        Err(error) => Err(error),
    };
    match parsed
        .context("the command line")
        .and_then(|options| run(*options))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etcfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options) -> Result<()> {
    options.take_environment(std::env::var_os("ETCFS_ENABLE_PASSTHROUGH").as_deref());
    daemon::run(options)
}
