//! `etcfsctl check`: what a bedrock.conf would make a daemon do, without one.

mod conf;

use crate::client::How;
use crate::{files, within};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use conf::{Conf, Warning};
use etcfs::fs::config::{Command, Config, Problem, parse_line};
use etcfs::fs::configuration::INJECT_MAX;
use etcfs::fs::rules::{Override, OverrideKind, RulePath};
use etcfs::printable::{tame, tame_json};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Tell what a bedrock.conf makes a daemon do, and what in it can never match. Needs no daemon. Exits with 2 if there
/// is something wrong.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "check")]
pub(crate) struct Args {
    /// where the sources of [etc-inject] are looked for, as in a stratum (default /)
    #[argh(option, default = "PathBuf::from(\"/\")")]
    root: PathBuf,
    /// the file (default /bedrock/etc/bedrock.conf)
    #[argh(positional, default = "PathBuf::from(\"/bedrock/etc/bedrock.conf\")")]
    file: PathBuf,
}

/// The whole result.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Checked {
    /// The lines that `brl apply` sends to a freshly mounted daemon, in this order.
    pub commands: Vec<String>,
    /// What is wrong.
    pub warnings: Vec<Warning>,
    /// The same, for a quick look.
    #[serde(skip)]
    told: BTreeSet<Warning>,
}

/// Checks a file.
pub(crate) fn run(how: &How, args: &Args) -> Result<ExitCode> {
    let text = files::read(
        &args.file,
        "name another one; Bedrock's is /bedrock/etc/bedrock.conf",
    )?;
    let checked = check(&String::from_utf8_lossy(&text), &args.root);
    let mut out = std::io::stdout().lock();
    if how.json {
        out.write_all(tame_json(&serde_json::to_string(&checked)?).as_bytes())?;
        out.write_all(b"\n")?;
    } else {
        for command in &checked.commands {
            writeln!(out, "{}", tame(command))?;
        }
        for warning in &checked.warnings {
            let file = args.file.display();
            let line = format!("{file}:{}: {}", warning.line, warning.text);
            writeln!(out, "{}", tame(&line))?;
        }
        writeln!(
            out,
            "{} commands, {} warnings",
            checked.commands.len(),
            checked.warnings.len()
        )?;
    }
    Ok(match checked.warnings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(2),
    })
}

/// Feeds the file to the daemon's own configuration code.
pub(crate) fn check(text: &str, root: &Path) -> Checked {
    let conf = Conf::parse(text);
    let mut checked = Checked {
        commands: Vec::new(),
        told: conf.warnings.iter().cloned().collect(),
        warnings: conf.warnings.clone(),
    };
    let mut config = Config::new();
    let mut at_line = Vec::new();
    for (line, command) in commands(&conf) {
        match parse_line(command.as_bytes()) {
            Ok(parsed) => {
                checked.look(&config, line, &parsed);
                let source = source(&parsed, root);
                if let Some(Err(error)) = &source {
                    let text = format!("the daemon will refuse `{command}`: its source: {error}");
                    checked.warn(line, text);
                }
                let text = source.map(|read| read.unwrap_or_default());
                match config.apply(&parsed, text) {
                    Ok(changed) => config = changed,
                    Err(error) => checked.warn(line, error.to_string()),
                }
                at_line.push((line, parsed));
            }
            Err(error) => {
                let text = match error.problem() {
                    Problem::Path(problem) => format!("`{command}`: {problem}"),
                    _ => error.to_string(),
                };
                checked.warn(line, text);
            }
        }
        if !checked.commands.contains(&command) {
            checked.commands.push(command);
        }
    }
    checked.look_at_hidden(&config, &at_line);
    checked.warnings.sort_by_key(|warning| warning.line);
    checked
}

/// The commands in the order of the file, each with its line. A nested override is preceded by one for each directory
/// above it (contract D42).
fn commands(conf: &Conf) -> Vec<(usize, String)> {
    let slashed = |path: &str| format!("/{}", path.trim_start_matches('/'));
    let mut all = Vec::new();
    for (line, path) in &conf.globals {
        all.push((*line, format!("add_global {}", slashed(path))));
    }
    for (kind, entries) in [("symlink", &conf.symlinks), ("inject", &conf.injects)] {
        for (line, path, content) in entries {
            let path = slashed(path);
            let above: Vec<usize> = path.match_indices('/').map(|(at, _)| at).skip(1).collect();
            for at in above {
                all.push((*line, format!("add_override directory {} x", &path[..at])));
            }
            all.push((*line, format!("add_override {kind} {path} {content}")));
        }
    }
    all
}

/// The text of an inject's source.
fn source(command: &Command, root: &Path) -> Option<std::io::Result<Arc<[u8]>>> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::OsStr::from_bytes(command.source()?);
    let path = Path::new(path);
    Some(within::read(root, path, INJECT_MAX).map(Arc::from))
}

impl Checked {
    fn warn(&mut self, line: usize, text: String) {
        let warning = Warning { line, text };
        if self.told.insert(warning.clone()) {
            self.warnings.push(warning);
        }
    }

    /// What a command does to what came before.
    fn look(&mut self, config: &Config, line: usize, command: &Command) {
        match command {
            Command::AddGlobal(path) if config.is_global(path) => {
                self.warn(line, format!("/{} is listed twice", shown(path)));
            }
            Command::AddOverride {
                kind,
                path,
                content,
            } => {
                let differs =
                    |before: &Override| before.kind != *kind || before.content != *content;
                if let Some(before) = config.override_of(path).filter(|before| differs(before)) {
                    let text = format!(
                        "/{}: the {} override replaces the {} override before it",
                        shown(path),
                        kind.word(),
                        before.kind.word()
                    );
                    self.warn(line, text);
                }
                if *kind == OverrideKind::Symlink && !content.starts_with(b"/") {
                    let text = format!(
                        "/{}: the target of the symlink is not absolute",
                        shown(path)
                    );
                    self.warn(line, text);
                }
            }
            _ => {}
        }
    }

    /// Rules that other rules keep from ever being reached, or that add nothing.
    fn look_at_hidden(&mut self, config: &Config, commands: &[(usize, Command)]) {
        let rules = config.compile(1);
        let mut seen = BTreeSet::new();
        for (line, command) in commands {
            let path = match command {
                Command::AddGlobal(path) => path,
                Command::AddOverride { path, kind, .. } if *kind != OverrideKind::Directory => path,
                _ => continue,
            };
            if !seen.insert((*line, path.as_bytes().to_vec())) {
                continue;
            }
            let found = rules.find(path.as_bytes());
            if let Some(over) = found.hidden_by {
                let text = format!(
                    "/{} can never match: /{} is overridden by a symlink",
                    shown(path),
                    String::from_utf8_lossy(&over.path)
                );
                self.warn(*line, text);
            }
            let above = found.global.filter(|at| *at != found.place);
            if let (Command::AddGlobal(_), Some(at)) = (command, above) {
                let text = format!(
                    "/{} is global already, below /{}",
                    shown(path),
                    rules.path(at).to_string_lossy()
                );
                self.warn(*line, text);
            }
            let is_symlink = found
                .over
                .is_some_and(|over| over.kind == OverrideKind::Symlink);
            if matches!(command, Command::AddGlobal(_)) && is_symlink {
                let text = format!(
                    "/{} is global and overridden by a symlink: the symlink is enforced in the global directory",
                    shown(path)
                );
                self.warn(*line, text);
            }
        }
    }
}

fn shown(path: &RulePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(checked: &Checked) -> Vec<(usize, &str)> {
        let warnings = checked.warnings.iter();
        warnings.map(|w| (w.line, w.text.as_str())).collect()
    }

    #[test]
    fn commands_come_as_brl_apply_sends_them() {
        let conf = "[global]\netc = hosts, default/grub\n[etc-symlinks]\nlocaltime = /run/l\n";
        let checked = check(conf, Path::new("/"));
        assert_eq!(
            checked.commands,
            [
                "add_global /hosts",
                "add_global /default/grub",
                "add_override symlink /localtime /run/l"
            ]
        );
        assert_eq!(texts(&checked), []);
    }

    #[test]
    fn parents_of_nested_overrides_are_made_once() {
        let conf = "[etc-symlinks]\nzsh/zprofile = /a\nzsh/zshenv = /b\n";
        let checked = check(conf, Path::new("/"));
        let parents = checked.commands.iter().filter(|c| c.contains("directory"));
        assert_eq!(parents.count(), 1);
        assert_eq!(texts(&checked), []);
    }

    #[test]
    fn what_can_never_match_is_told_with_its_line() {
        let conf = "[global]\netc = a, a/b, a,\n  x/y, ../z\n[etc-symlinks]\nx = /elsewhere\n";
        let checked = check(conf, Path::new("/"));
        let texts = texts(&checked);
        let has = |line: usize, what: &str| {
            assert!(
                texts.iter().any(|(l, t)| *l == line && t.contains(what)),
                "{line} {what}: {texts:?}"
            );
        };
        has(2, "/a/b is global already, below /a");
        has(2, "/a is listed twice");
        has(2, "/x/y can never match: /x is overridden by a symlink");
        has(2, "component . or ..");
    }

    #[test]
    fn an_inject_without_a_source_is_told() {
        let conf = "[etc-inject]\nprofile = /no/such/file\n";
        let checked = check(conf, Path::new("/"));
        assert_eq!(checked.warnings.len(), 1, "{:?}", checked.warnings);
        assert!(checked.warnings[0].text.contains("No such file"));
    }
}
