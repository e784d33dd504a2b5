//! `etcfsctl log` and `etcfsctl trace`: requests as they come.

use crate::client::{Connection, How, read};
use crate::find::{self, Mount};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use etcfs::ctl::access::Access;
use etcfs::ctl::report::errno_name;
use etcfs::ctl::wire::{Filter, Query};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Both commands take the same arguments, and argh wants a type for each.
macro_rules! command {
    ($name:ident, $word:literal, $what:literal) => {
        #[doc = $what]
        #[derive(FromArgs, ArgsInfo)]
        #[argh(subcommand, name = $word)]
        pub(crate) struct $name {
            /// only these requests, such as LOOKUP,OPEN
            #[argh(option)]
            op: Option<String>,
            /// only this path and what is below; with or without the mount point before it
            #[argh(option)]
            path: Option<PathBuf>,
            /// only this process (as the daemon sees it)
            #[argh(option)]
            pid: Option<u32>,
            /// only this user
            #[argh(option)]
            uid: Option<u32>,
            /// only these errors, such as ENOENT,13, or `any`
            #[argh(option)]
            errno: Option<String>,
            /// only what took at least so many microseconds
            #[argh(option, default = "0")]
            min_latency: u64,
            /// end after so many requests
            #[argh(option)]
            count: Option<u64>,
            /// the mount point
            #[argh(positional)]
            mount: Option<PathBuf>,
        }

        impl $name {
            /// Which mount is meant, and which of its requests.
            fn choose(&self) -> Result<(Mount, Filter)> {
                if self.count == Some(0) {
                    bail!("--count 0: ends before the first request; give a number above 0, or leave it out");
                }
                let mount = find::mount(self.mount.as_deref())?;
                let filter = Filter {
                    ops: list(self.op.as_deref()),
                    path: below(self.path.as_deref(), &mount)?,
                    pid: self.pid,
                    uid: self.uid,
                    errnos: errnos(self.errno.as_deref())?,
                    failed: self.errno.is_some(),
                    min_us: self.min_latency,
                };
                Ok((mount, filter))
            }
        }
    };
}

command!(
    LogArgs,
    "log",
    "Show every request as it comes, one line each, until interrupted."
);
command!(
    TraceArgs,
    "trace",
    "Show every request and its answer as on the wire, in the manner of strace, until interrupted."
);

/// Follows the access log.
pub(crate) fn log(how: &How, args: &LogArgs) -> Result<ExitCode> {
    let (mount, filter) = args.choose()?;
    follow(how, &mount, &Query::Log(filter), args.count, &line)
}

/// Follows the wire.
pub(crate) fn trace(how: &How, args: &TraceArgs) -> Result<ExitCode> {
    let (mount, filter) = args.choose()?;
    follow(how, &mount, &Query::Trace(filter), args.count, &pair)
}

fn follow(
    how: &How,
    mount: &Mount,
    ask: &Query,
    count: Option<u64>,
    show: &dyn Fn(&Access) -> String,
) -> Result<ExitCode> {
    let mut connection = Connection::ask(how, mount, ask)?;
    connection.wait_for_ever()?;
    let mut left = count.unwrap_or(u64::MAX);
    let mut out = std::io::stdout();
    while left > 0 {
        let Some(message) = connection.message()? else {
            // A server that took the place of the one that was asked, if there is one.
            let Ok(next) = Connection::ask(how, mount, ask) else {
                eprintln!("etcfsctl: the daemon has ended");
                return Ok(ExitCode::FAILURE);
            };
            eprintln!("etcfsctl: another server goes on; some requests before this are not shown");
            connection = next;
            connection.wait_for_ever()?;
            continue;
        };
        let (record, json): (Access, String) = read(message).context("a record of the log")?;
        let text = match how.json {
            true => json + "\n",
            false => show(&record),
        };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        left -= 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line of the access log.
fn line(record: &Access) -> String {
    let mut line = lost(record);
    line.push_str(&format!(
        "{} {}[{}] uid={} {} {}",
        clock(record.time_us),
        record.comm.as_deref().unwrap_or("?"),
        record.pid,
        record.uid,
        record.op,
        record.path.as_deref().unwrap_or("?")
    ));
    if let Some(second) = &record.path2 {
        line.push_str(&format!(" -> {second}"));
    }
    if !record.args.is_empty() {
        line.push_str(&format!(" ({})", record.args));
    }
    line.push_str(&format!(
        " = {} <{:.1} us>",
        record.result, record.latency_us
    ));
    for word in [&record.side, &record.rule].into_iter().flatten() {
        if !line.ends_with(word.as_str()) {
            line.push_str(&format!(" {word}"));
        }
    }
    if record.passthrough {
        line.push_str(" passthrough");
    }
    line.push('\n');
    line
}

/// A request and its answer.
fn pair(record: &Access) -> String {
    let mut text = lost(record);
    text.push_str(&format!(
        "{} {} {}\n    -> {}\n",
        clock(record.time_us),
        record.comm.as_deref().unwrap_or("?"),
        record.path.as_deref().unwrap_or("?"),
        record.request.as_deref().unwrap_or(&record.op)
    ));
    let answer = record.answer.as_deref().unwrap_or("not answered");
    text.push_str(&format!("    <- {answer} <{:.1} us>\n", record.latency_us));
    text
}

fn lost(record: &Access) -> String {
    match record.lost {
        0 => String::new(),
        n => format!("... {n} requests were too fast for this listener and are not shown\n"),
    }
}

/// The time of day in UTC: asking for the local time zone would read /etc/localtime.
fn clock(time_us: u64) -> String {
    let (seconds, us) = (time_us / 1_000_000, time_us % 1_000_000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{us:06}", seconds % 60)
}

fn list(text: Option<&str>) -> Vec<String> {
    let items = text.unwrap_or_default().split(',');
    items
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn errnos(text: Option<&str>) -> Result<Vec<i32>> {
    let mut errnos = Vec::new();
    for item in list(text) {
        let by_name = || (1..=133).find(|errno| errno_name(*errno) == item.to_ascii_uppercase());
        match item.parse().ok().or_else(by_name) {
            Some(errno) => errnos.push(errno),
            None if item == "any" => {}
            None => bail!("{item}: no such error; give names as ENOENT, numbers, or any"),
        }
    }
    Ok(errnos)
}

/// A path from the root of the mount.
fn below(path: Option<&Path>, mount: &Mount) -> Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let path = path.strip_prefix(&mount.at).unwrap_or(path);
    match path.to_str() {
        Some(path) => Ok(Some(path.to_owned())),
        None => bail!("{}: only paths in UTF-8 can be looked for", path.display()),
    }
}
