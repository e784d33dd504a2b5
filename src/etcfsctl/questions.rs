//! `etcfsctl which`, `journal` and `doctor`.

use crate::client::{How, report};
use crate::find::{self, Mount};
use crate::stats::duration;
use anyhow::{Context as _, Result};
use argh::{ArgsInfo, FromArgs};
use etcfs::ctl::report::{Doctor, Dropped, Enforcement, JournalReport, Severity, Which};
use etcfs::ctl::wire::Query;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tell where a path really lives, and which rule says so.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "which")]
pub(crate) struct WhichArgs {
    /// the mount point, if PATH does not begin with it
    #[argh(option)]
    mount: Option<PathBuf>,
    /// the path
    #[argh(positional)]
    path: PathBuf,
}

/// Tell which overrides were enforced, whose change they undid and who came upon it.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "journal")]
pub(crate) struct JournalArgs {
    /// the mount point
    #[argh(positional)]
    mount: Option<PathBuf>,
}

/// Tell what is not as it should be. Exits with 2 if there is a problem.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "doctor")]
pub(crate) struct DoctorArgs {
    /// the mount point
    #[argh(positional)]
    mount: Option<PathBuf>,
}

/// Have the kernel let go of what it keeps.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "drop")]
pub(crate) struct DropArgs {
    /// the mount point, if PATH does not begin with it
    #[argh(option)]
    mount: Option<PathBuf>,
    /// a name, or a directory with the names in it (default: everything)
    #[argh(positional)]
    path: Option<PathBuf>,
}

/// Lets go.
pub(crate) fn drop_kept(how: &How, args: &DropArgs) -> Result<ExitCode> {
    let (mount, path) = match (&args.mount, &args.path) {
        (Some(at), path) => {
            let mount = find::mount(Some(at))?;
            let path = path.as_ref();
            let below = path.map(|path| path.strip_prefix(&mount.at).unwrap_or(path).to_owned());
            (mount, below)
        }
        (None, Some(path)) => {
            let (mount, path) = find::mount_of(path)?;
            (mount, Some(path))
        }
        (None, None) => (find::mount(None)?, None),
    };
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    let path = match path {
        Some(path) => Some(text(path).context("only paths in UTF-8 can be asked about")?),
        None => None,
    };
    let ask = Query::Drop { path };
    let (dropped, text): (Dropped, _) = report(how, &mount, &ask)?;
    print(how, text, || match dropped.names {
        1 => "1 name dropped\n".to_owned(),
        n => format!("{n} names dropped\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Explains a path.
pub(crate) fn which(how: &How, args: &WhichArgs) -> Result<ExitCode> {
    let (mount, path): (Mount, PathBuf) = match &args.mount {
        Some(at) => {
            let mount = find::mount(Some(at))?;
            let path = args.path.strip_prefix(&mount.at).unwrap_or(&args.path);
            (mount.clone(), path.to_owned())
        }
        None => find::mount_of(&args.path)?,
    };
    let path = path
        .to_str()
        .context("only paths in UTF-8 can be asked about")?;
    let ask = Query::Which {
        path: path.to_owned(),
    };
    let (which, text): (Which, _) = report(how, &mount, &ask)?;
    print(how, text, || explain(&mount, &which))?;
    Ok(ExitCode::SUCCESS)
}

fn explain(mount: &Mount, which: &Which) -> String {
    let mut lines = vec![format!("{}{}", mount.shown(), which.path)];
    let why = match (&which.global_rule, which.side.as_str()) {
        (Some(rule), "global") if *rule == which.path => "a global rule names it".to_owned(),
        (Some(rule), "global") => format!("the global rule {rule} covers it"),
        _ => "no global rule names it".to_owned(),
    };
    lines.push(format!("side: {} ({why})", which.side));
    lines.push(format!("lower: {} (beneath the mount)", which.lower));
    match &which.over {
        Some(over) if over.kind == "symlink" => {
            lines.push(format!("override: a symlink to {}", over.content));
        }
        Some(over) if over.kind == "inject" => {
            lines.push(format!("override: the text of {} injected", over.content));
        }
        Some(over) => lines.push(format!("override: {}", over.kind)),
        None => lines.push("override: none".to_owned()),
    }
    lines.push(format!("kept by the kernel: {}", which.kept));
    if let Some(path) = &which.hidden_by {
        lines.push(format!("not reached: {path} is overridden by a symlink"));
    }
    if let Some(object) = &which.object {
        lines.push(format!(
            "object: {}, mode {}, owner {}:{}, inode {} on device {}",
            object.kind, object.mode, object.uid, object.gid, object.ino, object.dev
        ));
        lines.push(match object.node {
            Some(node) => format!("node: {node}, open {} times", object.handles),
            None => "node: the kernel does not know it at the moment".to_owned(),
        });
        lines.push(match object.backing_id {
            Some(id) => format!("backing id: {id} (the kernel reads and writes it itself)"),
            None => "backing id: none".to_owned(),
        });
    }
    if let Some(error) = &which.error {
        lines.push(format!("object: {error}"));
    }
    for entry in &which.enforcements {
        lines.push(format!("enforced: {}", enforcement(entry)));
    }
    lines.join("\n") + "\n"
}

/// Prints the journal.
pub(crate) fn journal(how: &How, args: &JournalArgs) -> Result<ExitCode> {
    let mount = find::mount(args.mount.as_deref())?;
    let (journal, text): (JournalReport, _) = report(how, &mount, &Query::Journal)?;
    print(how, text, || {
        let mut out = String::new();
        for entry in &journal.entries {
            out.push_str(&format!("{} {}\n", entry.path, enforcement(entry)));
        }
        let left_out = journal.total.saturating_sub(journal.entries.len() as u64);
        for restart in &journal.restarts {
            let (age, stall) = (age(restart.time), duration(restart.stall));
            let why = &restart.why;
            out.push_str(&format!(
                "restarted {age} ago: {why}; nobody served for {stall}\n"
            ));
        }
        let left_out = left_out
            + journal
                .restarted
                .saturating_sub(journal.restarts.len() as u64);
        if journal.total == 0 {
            out.push_str("no override has been enforced since the start\n");
        }
        if left_out > 0 {
            out.push_str(&format!("{left_out} older ones are not kept\n"));
        }
        out
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How long `time` is past, in words.
fn age(time: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    duration((now.unwrap_or_default().as_secs_f64() - time).max(0.0))
}

fn enforcement(entry: &Enforcement) -> String {
    format!(
        "{} ago, {} ({}): {}",
        age(entry.time),
        entry.kind,
        entry.side,
        entry.text
    )
}

/// Prints the findings.
pub(crate) fn doctor(how: &How, args: &DoctorArgs) -> Result<ExitCode> {
    let mount = find::mount(args.mount.as_deref())?;
    let (doctor, text): (Doctor, _) = report(how, &mount, &Query::Doctor)?;
    print(how, text, || {
        let line = |finding: &etcfs::ctl::report::Finding| {
            let level = match finding.level {
                Severity::Ok => "ok",
                Severity::Note => "note",
                Severity::Problem => "PROBLEM",
            };
            format!("{level:<8} {}: {}\n", finding.about, finding.text)
        };
        doctor.findings.iter().map(line).collect()
    })?;
    let worst = doctor.findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Severity::Problem) => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    })
}

/// Prints a report, as it came or for people.
fn print(how: &How, mut text: String, people: impl FnOnce() -> String) -> Result<()> {
    if how.json {
        text.push('\n');
    } else {
        text = people();
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
