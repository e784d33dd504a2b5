//! `etcfsctl stats`.

use crate::client::{How, report};
use crate::find;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use etcfs::ctl::report::{Op, Stats};
use etcfs::ctl::wire::Query;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Counts, errors and latencies by request, and the state of the session.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "stats")]
pub(crate) struct Args {
    /// count anew from now on; the figures so far are printed
    #[argh(switch)]
    reset: bool,
    /// print in the text format of Prometheus
    #[argh(switch)]
    prometheus: bool,
    /// the mount point
    #[argh(positional)]
    mount: Option<PathBuf>,
}

/// Prints the figures.
pub(crate) fn run(how: &How, args: &Args) -> Result<ExitCode> {
    let mount = find::mount(args.mount.as_deref())?;
    let ask = Query::Stats { reset: args.reset };
    let (stats, mut text): (Stats, _) = report(how, &mount, &ask)?;
    if args.prometheus {
        text = prometheus(&stats);
    } else if how.json {
        text.push('\n');
    } else {
        text = people(&stats);
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn people(stats: &Stats) -> String {
    let mut out = String::new();
    // Writing to a string never fails.
    let _ = head(&mut out, stats);
    if let Some(since) = &stats.since_reset {
        let _ = writeln!(out, "\nsince the reset {} ago:", duration(since.seconds));
        let _ = table(&mut out, &since.ops, since.seconds);
    }
    let _ = writeln!(out, "\nsince the start {} ago:", duration(stats.uptime_s));
    let _ = table(&mut out, &stats.ops, stats.uptime_s);
    out
}

fn head(out: &mut String, stats: &Stats) -> std::fmt::Result {
    let init = &stats.init;
    writeln!(
        out,
        "{} (stratum {}), etcfs {}, pid {}",
        stats.mountpoint, stats.stratum, stats.version, stats.pid
    )?;
    writeln!(
        out,
        "protocol {} over {}, max_write {}, max_pages {}, max_readahead {}, flags {}",
        init.protocol,
        stats.transport,
        init.max_write,
        init.max_pages,
        init.max_readahead,
        init.flags.join(" ")
    )?;
    let state = match stats.passthrough.on {
        true => "on",
        false => "off",
    };
    write!(out, "passthrough {state}")?;
    for reason in &stats.passthrough.reasons {
        write!(out, "; {reason}")?;
    }
    writeln!(
        out,
        "\nnodes {}, handles {}, backing ids {}, lock waiters {}, listeners {}",
        stats.nodes, stats.handles, stats.backing_ids, stats.lock_waiters, stats.listeners
    )?;
    let cache = &stats.cache;
    write!(out, "cache {}", cache.mode)?;
    if cache.mode == "watch" {
        write!(
            out,
            ": {} names kept in {} directories watched (of {}), {} KiB; dropped by event {}, by overflow {} times, directories given \
             up {}; oldest unhandled event {} ms",
            cache.kept,
            cache.watched,
            cache.most,
            cache.bytes >> 10,
            cache.dropped_by_event,
            cache.overflows,
            cache.evicted,
            cache.oldest_event_ms
        )?;
    }
    writeln!(out)?;
    match stats.servers {
        0 => writeln!(out, "no keeper: the mount ends with this process")?,
        1 => writeln!(out, "kept; no process has had to take over")?,
        n => writeln!(out, "kept; {} have taken over (etcfsctl journal)", n - 1)?,
    }
    if let Some(upgrade) = &stats.upgrade {
        writeln!(out, "the last upgrade: {upgrade}")?;
    }
    for role in ["worker", "aside"] {
        let busy: Vec<String> = stats
            .threads
            .iter()
            .filter(|thread| thread.role == role && thread.tid != 0)
            .map(|thread| format!("{:.1} %", thread.busy * 100.0))
            .collect();
        if !busy.is_empty() {
            writeln!(
                out,
                "{role} threads {}, busy {}",
                busy.len(),
                busy.join(" ")
            )?;
        }
    }
    match stats.in_flight.first() {
        None => writeln!(out, "no request in flight"),
        Some(oldest) => writeln!(
            out,
            "requests in flight {}, the oldest for {}: {} {} by pid {} (uid {})",
            stats.in_flight.len(),
            duration(oldest.age_us / 1e6),
            oldest.op,
            oldest.path.as_deref().unwrap_or("?"),
            oldest.pid,
            oldest.uid
        ),
    }
}

fn table(out: &mut String, ops: &[Op], seconds: f64) -> std::fmt::Result {
    if ops.is_empty() {
        return writeln!(out, "  no request");
    }
    writeln!(
        out,
        "{:<16} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  errors",
        "request", "count", "per s", "p50 us", "p90 us", "p99 us", "max us", "KiB read", "written"
    )?;
    let mut sorted: Vec<&Op> = ops.iter().collect();
    sorted.sort_by(|a, b| b.count.cmp(&a.count).then(a.op.cmp(&b.op)));
    for op in sorted {
        let errors: Vec<String> = op.errors.iter().map(|(e, n)| format!("{e} {n}")).collect();
        let line = format!(
            "{:<16} {:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9} {:>9}  {}",
            op.op,
            op.count,
            op.count as f64 / seconds.max(0.001),
            op.p50_us,
            op.p90_us,
            op.p99_us,
            op.max_us,
            op.bytes_read >> 10,
            op.bytes_written >> 10,
            errors.join(", ")
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A time for people.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..=9 if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        0..=9 if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        0..=119 => format!("{seconds:.1} s"),
        120..=7199 => format!("{} min", whole / 60),
        7200..=172_799 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Upper ends of the exported histogram, seconds.
const LE: [f64; 13] = [
    1e-6, 4e-6, 1e-5, 2e-5, 4e-5, 1e-4, 4e-4, 1e-3, 4e-3, 1e-2, 1e-1, 1.0, 10.0,
];

fn prometheus(stats: &Stats) -> String {
    let mut out = String::new();
    let _ = export(&mut out, stats);
    out
}

fn export(out: &mut String, stats: &Stats) -> std::fmt::Result {
    let escape = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let mount = format!(
        "mount=\"{}\",stratum=\"{}\"",
        escape(&stats.mountpoint),
        escape(&stats.stratum)
    );
    writeln!(
        out,
        "# HELP etcfs_errors_total Requests answered with an error."
    )?;
    writeln!(out, "# TYPE etcfs_errors_total counter")?;
    for op in &stats.ops {
        for (errno, n) in &op.errors {
            let (name, errno) = (escape(&op.op), escape(errno));
            writeln!(
                out,
                "etcfs_errors_total{{{mount},op=\"{name}\",errno=\"{errno}\"}} {n}"
            )?;
        }
    }
    type Figure = (&'static str, &'static str, fn(&Op) -> u64);
    let moved: [Figure; 2] = [
        (
            "etcfs_read_bytes_total",
            "Bytes that clients read through the daemon.",
            |op| op.bytes_read,
        ),
        (
            "etcfs_written_bytes_total",
            "Bytes that clients wrote through the daemon.",
            |op| op.bytes_written,
        ),
    ];
    for (name, help, get) in moved {
        let sum: u64 = stats.ops.iter().map(get).sum();
        writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name}{{{mount}}} {sum}"
        )?;
    }
    let name = "etcfs_request_duration_seconds";
    writeln!(
        out,
        "# HELP {name} From reading a request to having its answer."
    )?;
    writeln!(out, "# TYPE {name} histogram")?;
    for op in &stats.ops {
        let labels = format!("{mount},op=\"{}\"", op.op);
        for le in LE {
            let within = op
                .latencies_ns
                .iter()
                .take_while(|(end, _)| *end as f64 <= le * 1e9);
            let n = within.last().map_or(0, |(_, n)| *n);
            writeln!(out, "{name}_bucket{{{labels},le=\"{le}\"}} {n}")?;
        }
        writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", op.count)?;
        writeln!(out, "{name}_sum{{{labels}}} {}", op.seconds)?;
        writeln!(out, "{name}_count{{{labels}}} {}", op.count)?;
    }
    let oldest = stats
        .in_flight
        .first()
        .map_or(0.0, |oldest| oldest.age_us / 1e6);
    let gauges: [(&str, &str, f64); 8] = [
        (
            "etcfs_uptime_seconds",
            "Time since the session began.",
            stats.uptime_s,
        ),
        ("etcfs_nodes", "Known nodes.", stats.nodes as f64),
        (
            "etcfs_handles",
            "Open files and directories.",
            stats.handles as f64,
        ),
        (
            "etcfs_backing_ids",
            "Registered backing files.",
            stats.backing_ids as f64,
        ),
        (
            "etcfs_lock_waiters",
            "Requests that wait for a file lock.",
            stats.lock_waiters as f64,
        ),
        (
            "etcfs_passthrough",
            "1 if the kernel reads and writes files itself.",
            f64::from(u8::from(stats.passthrough.on)),
        ),
        (
            "etcfs_in_flight",
            "Requests being worked on.",
            stats.in_flight.len() as f64,
        ),
        ("etcfs_oldest_seconds", "Age of the oldest of them.", oldest),
    ];
    for (name, help, value) in gauges {
        writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{mount}}} {value}"
        )?;
    }
    Ok(())
}
