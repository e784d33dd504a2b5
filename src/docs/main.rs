//! `etcfs-docs`: man pages and shell completions from one source, the programs' own `--help`.
//!
//!     etcfs-docs OUT ETCFS ETCFSCTL
//!
//! writes `OUT/man/{etcfs.8,etcfsctl.8,etcfs-config.5}` and `OUT/completions/{bash,zsh,fish}/...`. What help does not say,
//! the pages take from the text files beside this one, which have the same form.

#![deny(unreachable_pub)]

mod completions;
mod help;
mod pages;

use anyhow::{Context as _, Result, bail};
use help::Help;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, etcfs, etcfsctl] = args.as_slice() else {
        bail!("usage: etcfs-docs OUT ETCFS ETCFSCTL");
    };
    let etcfs = help_of(etcfs, &[])?;
    let ctl = help_of(etcfsctl, &[])?;
    let mut commands = Vec::new();
    for item in ctl.items("Commands") {
        let name = item.term.split_whitespace().next().unwrap_or("").to_owned();
        let help = help_of(etcfsctl, &[&name])?;
        commands.push((name, item.text.clone(), help));
    }
    let man = Path::new(out).join("man");
    write(&man.join("etcfs.8"), &pages::etcfs(&etcfs))?;
    write(&man.join("etcfsctl.8"), &pages::etcfsctl(&ctl, &commands))?;
    write(&man.join("etcfs-config.5"), &pages::config())?;
    let to = Path::new(out).join("completions");
    write(&to.join("bash/etcfs"), &completions::bash_etcfs(&etcfs))?;
    write(&to.join("bash/etcfsctl"), &completions::bash_ctl(&commands))?;
    write(&to.join("zsh/_etcfs"), &completions::zsh_etcfs(&etcfs))?;
    write(&to.join("zsh/_etcfsctl"), &completions::zsh_ctl(&commands))?;
    write(
        &to.join("fish/etcfs.fish"),
        &completions::fish_etcfs(&etcfs),
    )?;
    write(
        &to.join("fish/etcfsctl.fish"),
        &completions::fish_ctl(&commands),
    )?;
    Ok(())
}

/// What `program arguments --help` prints.
fn help_of(program: &str, arguments: &[&str]) -> Result<Help> {
    let output = Command::new(program)
        .args(arguments)
        .arg("--help")
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} {arguments:?} --help: {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("the help text")?;
    Ok(Help::parse(&text))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let dir = path.parent().context("a directory")?;
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}
