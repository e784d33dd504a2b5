//! `etcfs-bench`: the headline table, measured; `scripts/bench` builds and starts it.
//!
//! Every row is measured in every mode in turn, round by round, so that the machine's moods meet all of them, and the
//! ratio to native is that of the same round.

#![deny(unreachable_pub)]

mod chart;
mod client;
mod modes;
mod peers;
mod plan;
mod results;
mod targets;

use anyhow::{Context as _, Result, bail};
use argh::FromArgs;
use std::path::PathBuf;

/// Measures etcfs against the native file system and against bindfs. Run by root in a mount namespace of its own.
#[derive(FromArgs)]
struct Arguments {
    /// rounds; the table shows medians (default 3)
    #[argh(option, default = "3")]
    rounds: usize,
    /// five times smaller counts, bindfs in the first round only, no rows of four clients: some four minutes
    #[argh(switch)]
    short: bool,
    /// divide every count by this, for a quick look (default 1, with --short 5)
    #[argh(option)]
    scale: Option<usize>,
    /// only rows whose name contains this
    #[argh(option)]
    only: Option<String>,
    /// only this lower file system: tmpfs or ext4
    #[argh(option)]
    lower: Option<String>,
    /// leave bindfs out
    #[argh(switch)]
    without_bindfs: bool,
    /// the daemon to measure (default: etcfs beside this program)
    #[argh(option)]
    etcfs: Option<PathBuf>,
    /// where the results are written as JSON
    #[argh(option)]
    json: Option<PathBuf>,
    /// where the chart is written as SVG; --update-numbers links it by its name
    #[argh(option)]
    svg: Option<PathBuf>,
    /// put the table into this file, between its benchmark marks
    #[argh(option)]
    update_numbers: Option<PathBuf>,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("client") {
        return client::main(&args.collect::<Vec<_>>());
    }
    let arguments: Arguments = argh::from_env();
    if !rustix::process::geteuid().is_root() {
        bail!("the benchmark mounts file systems: run it as root (scripts/bench does)");
    }
    let lowers = modes::LowerFs::named(arguments.lower.as_deref())?;
    let etcfs = match arguments.etcfs {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("etcfs"),
    };
    let scale = arguments
        .scale
        .unwrap_or(if arguments.short { 5 } else { 1 });
    let options = plan::Selection {
        rounds: arguments.rounds,
        scale: scale.max(1),
        only: arguments.only,
        short: arguments.short,
    };
    let mut results = results::Results::new(options.rounds, options.scale);
    for lower in lowers {
        let bench = modes::Bench::new(lower, &etcfs, !arguments.without_bindfs)
            .with_context(|| format!("setting up {}", lower.name()))?;
        plan::measure(&bench, &options, &mut results)?;
    }
    let verdicts = targets::verdicts(&results);
    print!("{}{}", results.table(), targets::list(&verdicts));
    if let Some(path) = arguments.json {
        std::fs::write(&path, results.json(targets::json(&verdicts)))
            .with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.svg {
        chart::draw(&results, path).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = arguments.update_numbers {
        results::update_numbers(&path, &results.table(), arguments.svg.as_deref())?;
    }
    Ok(())
}
