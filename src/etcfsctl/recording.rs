//! `etcfsctl decode` and `etcfsctl replay`: what to do with a recording, on any machine and without a daemon.

use crate::client::How;
use crate::{files, find};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use etcfs::fs::ids::CONFIG_NAME;
use etcfs::printable::{tame, tame_json};
use etcfs::replay::run::{Trees, run};
use etcfs::replay::tally::{Tally, median};
use etcfs::replay::{Recording, decode, pcapng, sides, tree};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Show a recording in words, and what is wrong with the conversation: requests without an answer, second answers, wrong
/// lengths, lookups never forgotten. Ends with 1 if there is a fault.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "decode")]
pub(crate) struct DecodeArgs {
    /// write a file for Wireshark instead; scripts/etcfs-fuse.lua explains it there
    #[argh(option)]
    pcapng: Option<PathBuf>,
    /// the recording
    #[argh(positional)]
    file: PathBuf,
}

/// Carry a recording out again, without a kernel or a mount, and compare the answers with the recorded ones. Ends with 1
/// if any differs.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "replay")]
pub(crate) struct ReplayArgs {
    /// on a copy of this directory, a copy of the tree as it was when the recording began; without it, on a tree made
    /// up from what the recording tells
    #[argh(option)]
    against: Option<PathBuf>,
    /// the global side for --against; without it, what the recorded rules say is global is taken from the same tree
    #[argh(option)]
    global: Option<PathBuf>,
    /// on a copy of the tree as this mount shows it; the mount itself is only read
    #[argh(option)]
    mount: Option<PathBuf>,
    /// the recording
    #[argh(positional)]
    file: PathBuf,
}

/// Tells a recording.
pub(crate) fn decode(how: &How, args: &DecodeArgs) -> Result<ExitCode> {
    let bytes = read(&args.file)?;
    if let Some(path) = &args.pcapng {
        let mut out = BufWriter::new(files::create(path, 0o666)?);
        let packets =
            pcapng::write(&bytes, &mut out).with_context(|| format!("{}", args.file.display()))?;
        out.flush().with_context(|| format!("{}", path.display()))?;
        crate::say(&format!("{}: {packets} packets", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let summary = decode::decode(&bytes, how.json, &mut out)
        .with_context(|| format!("{}", args.file.display()))?;
    out.flush()?;
    Ok(match summary.faults {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Carries a recording out.
pub(crate) fn replay(how: &How, args: &ReplayArgs) -> Result<ExitCode> {
    let bytes = read(&args.file)?;
    let recording = Recording::read(&bytes).with_context(|| format!("{}", args.file.display()))?;
    if let Some(error) = recording.cut {
        crate::say(&format!("etcfsctl: {}: {error}", args.file.display()));
    }
    if recording.lost > 0 {
        crate::say(&format!(
            "etcfsctl: {}: {} records are missing, which may make differences",
            args.file.display(),
            recording.lost
        ));
    }
    let scratch = Scratch::new()?;
    let (local, global) = (scratch.0.join("local"), scratch.0.join("global"));
    if args.global.is_some() && args.against.is_none() {
        bail!("--global goes with --against");
    }
    match &args.global {
        Some(dir) => copy(dir, &global)?,
        None => {
            fs::create_dir(&global).with_context(|| format!("creating {}", global.display()))?;
        }
    }
    let rules = recording.first_rules();
    if rules.missing > 0 {
        crate::say(&format!(
            "etcfsctl: {}: {} rules are missing, which may make differences",
            args.file.display(),
            rules.missing
        ));
    }
    match (&args.against, &args.mount) {
        (Some(_), Some(_)) => bail!("--against and --mount exclude each other"),
        (Some(dir), None) => copy(dir, &local)?,
        (None, Some(mount)) => {
            copy(&find::mount(Some(mount))?.at, &local)?;
            // Every tree that is served has one of its own.
            let _ = fs::remove_file(local.join(OsStr::from_bytes(CONFIG_NAME.to_bytes())));
        }
        (None, None) => {
            fs::create_dir(&local).with_context(|| format!("creating {}", local.display()))?;
            tree::make_up(&recording, &local, &global)
                .with_context(|| format!("making up the tree in {}", scratch.0.display()))?;
        }
    }
    if args.global.is_none() && trees_are_copied(args) {
        sides::part(&rules, &local, &global)
            .with_context(|| format!("parting the tree in {}", scratch.0.display()))?;
    }
    let trees = Trees {
        local: &local,
        global: &global,
        are_copies: trees_are_copied(args),
    };
    let report = run(&recording, &trees)?;
    match how.json {
        true => println!("{}", tame_json(&json(&report).to_string())),
        false => {
            for line in report.to_string().lines() {
                println!("{}", tame(line));
            }
        }
    }
    Ok(match report.differing() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn trees_are_copied(args: &ReplayArgs) -> bool {
    args.against.is_some() || args.mount.is_some()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    files::read_any(path, "name one that etcfsctl record has made")
}

/// Copies a tree with everything that `cp` can copy. The recording is carried out on the copy, so that DIR stays.
fn copy(dir: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .arg("-a")
        .arg("--")
        .args([dir, to])
        .status()
        .context("running cp -a")?;
    if !status.success() {
        bail!("cp -a {} {} failed", dir.display(), to.display());
    }
    Ok(())
}

fn json(report: &Tally) -> serde_json::Value {
    let ops = report.ops.iter().map(|(opcode, figures)| {
        let value = serde_json::json!({
            "count": figures.replayed.len(),
            "differences": figures.differences,
            "median_ns": median(&figures.replayed),
            "recorded_median_ns": median(&figures.recorded),
        });
        (opcode.to_string(), value)
    });
    let differences = report.differences.iter().map(|difference| {
        serde_json::json!({
            "number": difference.number,
            "request": difference.request,
            "differences": difference.lines,
        })
    });
    serde_json::json!({
        "requests": report.requests(),
        "differing": report.differing(),
        "total_ns": report.total_ns(),
        "left_out": report.left_out,
        "ops": ops.collect::<serde_json::Map<_, _>>(),
        "differences": differences.collect::<Vec<_>>(),
    })
}

/// A directory of its own among the temporary files, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("etcfsctl-replay-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("creating {} (TMPDIR says where)", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
