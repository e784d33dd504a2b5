//! `etcfsctl bedrock`: what in a Bedrock Linux keeps etcfs from doing its best.
//!
//! It looks at files and asks daemons through their own doors. No mount is touched, so a dead one does not hang it.

use crate::check::check;
use crate::client::{How, report};
use crate::find;
use crate::within;
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use etcfs::ctl::door;
use etcfs::ctl::report::Stats;
use etcfs::ctl::wire::Query;
use etcfs::printable::{plain, printable, tame, tame_json};
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tell what in a Bedrock Linux keeps etcfs from doing its best, each with what to do about it: its bedrock.conf, its scripts,
/// its kernel, its daemons. Ends with 0 if there is nothing to say, with 1 if there is, with 2 if it could not look.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "bedrock")]
pub(crate) struct Args {
    /// the root directory of the Bedrock (default /)
    #[argh(option, default = "PathBuf::from(\"/\")")]
    root: PathBuf,
}

/// The last release of which it is known what its scripts cannot do.
const KNOWN: [u32; 3] = [0, 7, 31];

/// A script or a configuration longer than this is none.
const TEXT_MAX: u64 = 1 << 20;

/// And so is a program longer than this.
const PROGRAM_MAX: u64 = 1 << 28;

/// What every build of this program holds and the C program does not: the beginning of the label on its door.
const MARK: &[u8] = b"etcfs-control";

/// One thing to do something about.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Advice {
    /// The file or the mount, as it is called in the Bedrock.
    path: String,
    /// What is so, and what it costs.
    text: String,
    /// What to do.
    remedy: String,
}

/// Findings as they come up, in one Bedrock.
struct Inspection<'a> {
    root: &'a Path,
    findings: Vec<Advice>,
}

/// Looks, and prints what there is to say.
pub(crate) fn run(how: &How, args: &Args) -> Result<ExitCode> {
    let root = std::path::absolute(&args.root).context("--root wants a directory")?;
    match look(how, &root) {
        Ok(findings) => print(how, &findings),
        Err(error) => {
            crate::say(&format!("etcfsctl: {error:#}"));
            Ok(ExitCode::from(2))
        }
    }
}

fn print(how: &How, findings: &[Advice]) -> Result<ExitCode> {
    let mut out = String::new();
    if how.json {
        let value = serde_json::json!({ "findings": findings });
        out = tame_json(&value.to_string());
        out.push('\n');
    } else {
        for Advice { path, text, remedy } in findings {
            let line = format!("{path}: {text}; {remedy}");
            out.push_str(&tame(&line));
            out.push('\n');
        }
    }
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(match findings {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

fn look(how: &How, root: &Path) -> Result<Vec<Advice>> {
    let conf = root.join("bedrock/etc/bedrock.conf");
    let text = within::read(root, Path::new("bedrock/etc/bedrock.conf"), TEXT_MAX)
        .with_context(|| format!("{}: no Bedrock Linux can be looked at here", conf.display()))?;
    if !rustix::process::geteuid().is_root() {
        bail!("only root may ask the daemons of all strata; say sudo etcfsctl bedrock");
    }
    let mut look = Inspection {
        root,
        findings: Vec::new(),
    };
    look.at_conf(&String::from_utf8_lossy(&text));
    look.at_scripts();
    let new_enough = look.at_kernel();
    look.at_program();
    look.at_daemons(how, new_enough)?;
    Ok(look.findings)
}

impl Inspection<'_> {
    fn say(&mut self, path: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Advice {
            path: path.to_owned(),
            text: text.into(),
            remedy: remedy.into(),
        });
    }

    fn read(&self, path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
        let rest = path.strip_prefix(self.root).unwrap_or(path);
        within::read(self.root, rest, most)
    }

    /// A file's text, if it has one.
    fn text(&self, path: &Path) -> Option<String> {
        String::from_utf8(self.read(path, TEXT_MAX).ok()?).ok()
    }

    /// A path as it is called within the Bedrock.
    fn within(&self, path: &Path) -> String {
        let rest = path.strip_prefix(self.root).unwrap_or(path);
        format!("/{}", printable(rest.as_os_str().as_encoded_bytes()))
    }

    fn at_conf(&mut self, text: &str) {
        let checked = check(text, self.root);
        let path = "/bedrock/etc/bedrock.conf";
        if !checked
            .commands
            .iter()
            .any(|c| c == "add_global /.pwd.lock")
        {
            self.say(
                path,
                "/etc/.pwd.lock is not global: useradd, passwd and the like in two strata at once lose each other's accounts",
                "add .pwd.lock to etc in [global], then brl apply",
            );
        }
        for warning in checked.warnings {
            let place = format!("{path}:{}", warning.line);
            self.say(&place, warning.text, "correct the line, then brl apply");
        }
    }

    fn at_scripts(&mut self) {
        let mut files = vec![self.root.join("bedrock/share/common-code")];
        let libexec = fs::read_dir(self.root.join("bedrock/libexec"));
        files.extend(libexec.into_iter().flatten().flatten().map(|e| e.path()));
        files.sort();
        for file in &files {
            let Some(text) = self.text(file) else {
                continue;
            };
            let path = self.within(file);
            if let Some(line) = text.lines().position(sends_empty_path) {
                self.say(
                    &format!("{path}:{}", line + 1),
                    "a name that is taken out of etc in [global] is removed with an empty path, so it stays global until its \
                     stratum's /etc is mounted anew",
                    "send the second field where the first is global; until then: echo rm_global /NAME \
                     >>/bedrock/strata/STRATUM/etc/.bedrock-config-filesystem for each stratum",
                );
            }
        }
        let repair = self.root.join("bedrock/libexec/brl-repair");
        if repair.exists() && self.release().is_none_or(|release| release <= KNOWN) {
            self.say(
                &self.within(&repair),
                "brl repair cannot mend an /etc whose daemon is dead, and refuses the init and bedrock strata",
                "start that daemon anew, which replaces the dead mount: chroot /bedrock/strata/STRATUM /bedrock/libexec/etcfs \
                 -o allow_other /etc && brl apply",
            );
        }
    }

    /// The release, from `Bedrock Linux 0.7.31 Poki`.
    fn release(&self) -> Option<[u32; 3]> {
        let text = self.text(&self.root.join("bedrock/etc/bedrock-release"))?;
        let words = text.split_whitespace();
        words
            .filter_map(numbers)
            .find(|found| found.len() == 3)?
            .try_into()
            .ok()
    }

    /// True if the kernel can do what etcfs likes best.
    fn at_kernel(&mut self) -> bool {
        let file = self.root.join("proc/sys/kernel/osrelease");
        let release = self.text(&file).unwrap_or_else(|| {
            let name = rustix::system::uname();
            name.release().to_string_lossy().into_owned()
        });
        let release = release.trim();
        let found = numbers(release).unwrap_or_default();
        if found < vec![5, 4] {
            let text = format!("Linux {release} is too old for etcfs");
            self.say(
                "kernel",
                text,
                "boot Linux 5.4 or newer, 6.9 for everything",
            );
        } else if found < vec![6, 9] {
            let text = format!(
                "Linux {release} has no passthrough: files are read and written through the daemon, and strata do not share \
                 mapped memory of global files"
            );
            self.say("kernel", text, "boot Linux 6.9 or newer");
        }
        found >= vec![6, 9]
    }

    fn at_program(&mut self) {
        let file = self.root.join("bedrock/libexec/etcfs");
        let holds_mark = |bytes: &[u8]| bytes.windows(MARK.len()).any(|part| part == MARK);
        match self.read(&file, PROGRAM_MAX) {
            Ok(bytes) if holds_mark(&bytes) => {}
            Ok(_) => self.say(
                &self.within(&file),
                "this is another program than the one that etcfsctl belongs to",
                "keep it as etcfs.c, copy this etcfs in its place, reboot",
            ),
            // A tree that is no running Bedrock.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.say(
                &self.within(&file),
                format!("it cannot be read: {}", plain(&error.to_string())),
                "copy etcfs there, with mode 755",
            ),
        }
    }

    /// Asks the daemons whose mounts are below the root.
    fn at_daemons(&mut self, how: &How, new_enough: bool) -> Result<()> {
        for mount in find::mounts()? {
            if !mount.at.starts_with(self.root) {
                continue;
            }
            let path = self.within(&mount.at);
            if door::serving(mount.device, mount.user).is_none() {
                let stratum = self.within(mount.at.parent().unwrap_or(self.root));
                self.say(
                    &path,
                    "no daemon of this program serves it: it is dead (Socket not connected), another program, or not to be seen \
                     from here",
                    format!(
                        "if it is dead: chroot {stratum} /bedrock/libexec/etcfs -o allow_other /etc && brl apply"
                    ),
                );
                continue;
            }
            let ask = Query::Stats { reset: false };
            match report::<Stats>(how, &mount, &ask) {
                Ok((stats, _)) if new_enough && !stats.passthrough.asked => self.say(
                    &path,
                    "passthrough is not switched on: files are read and written through the daemon",
                    "boot with ETCFS_ENABLE_PASSTHROUGH=1 on the kernel's command line, which init and all that it starts have \
                     in their environment",
                ),
                Ok((stats, _)) if new_enough && !stats.passthrough.reasons.is_empty() => {
                    let text = format!("passthrough is off: {}", stats.passthrough.reasons.join("; "));
                    self.say(&path, text, format!("see etcfsctl doctor {path}"));
                }
                Ok(_) => {}
                Err(error) => self.say(
                    &path,
                    format!("its daemon does not answer: {error:#}"),
                    format!("see etcfsctl doctor {path}"),
                ),
            }
        }
        Ok(())
    }
}

/// Whether a line of awk sends a removal with the third field alone: of `global /path`, that is empty.
fn sends_empty_path(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with('#')
        && line.contains("rm_")
        && line.contains("$1")
        && line.contains("$3")
        && !line.contains("$2")
}

/// `6.12.3-cloud` as 6, 12, 3; none for what is no number.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let digits = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    digits.split('.').map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_by_the_third_field_is_recognised() {
        for line in [
            r#"printf "rm_%s %s\n", $1, $3 > config"#,
            r#"    print "rm_"$1" "$3 >> fs"#,
        ] {
            assert!(sends_empty_path(line), "{line}");
        }
        for line in [
            r#"printf "rm_%s %s\n", $1, ($1 == "global" ? $2 : $3) > config"#,
            r#"# rm_$1 $3"#,
            "rm_pid $3",
            "",
        ] {
            assert!(!sends_empty_path(line), "{line}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("6.12.3-cloud"), Some(vec![6, 12, 3]));
        assert!(numbers("6.18.44-fc-v669") >= Some(vec![6, 9]));
        assert!(numbers("5.15.0") < Some(vec![6, 9]));
        assert_eq!(numbers("Linux"), None);
    }
}
