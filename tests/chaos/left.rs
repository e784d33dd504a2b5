//! What is left when the clients have ended and the kernel has forgotten all: nothing.

use crate::harness::{Etcfs, Processes, forget_names, stats};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What of memory may be kept for the latest forgotten nodes and the like.
const KEPT_KIB: u64 = 4 * 1024;

/// The root's node.
const NODES: u64 = 1;

/// Within this time all is given back. It takes longer the busier the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a daemon holds.
#[derive(Debug, Clone)]
pub struct Figures {
    nodes: u64,
    handles: u64,
    backing_ids: u64,
    waiters: u64,
    descriptors: Descriptors,
    locks: u64,
    /// Of all three processes, their own and in the ledger.
    anonymous_kib: u64,
    ledger_kib: u64,
}

impl Figures {
    /// Asks the daemon and the kernel.
    pub fn of(etcfs: &Etcfs) -> Figures {
        let stats = stats(etcfs);
        let figure = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("no {name}"));
        let found = Processes::of(&etcfs.mnt());
        let server = found.server.unwrap_or_default();
        Figures {
            nodes: figure("nodes"),
            handles: figure("handles"),
            backing_ids: figure("backing_ids"),
            waiters: figure("lock_waiters"),
            descriptors: Descriptors::of(server),
            locks: locks(etcfs),
            anonymous_kib: found.numbers().map(|pid| kib(pid, "RssAnon:")).sum(),
            ledger_kib: kib(server, "RssShmem:"),
        }
    }
}

/// What a process has open, by number.
#[derive(Debug, Clone)]
struct Descriptors(BTreeMap<u32, PathBuf>);

impl Descriptors {
    fn of(pid: i32) -> Descriptors {
        let dir = PathBuf::from(format!("/proc/{pid}/fd"));
        let numbers = fs::read_dir(&dir).into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // One may be closed meanwhile.
        let leads = |number: u32| fs::read_link(dir.join(number.to_string())).ok();
        Descriptors(numbers.filter_map(|n| Some((n, leads(n)?))).collect())
    }
}

/// Locks on files of the lower file systems.
fn locks(etcfs: &Etcfs) -> u64 {
    let devices = [etcfs.local(), etcfs.global()].map(|dir| {
        let dev = fs::metadata(dir).expect("stat").dev();
        format!(
            " {:02x}:{:02x}:",
            rustix::fs::major(dev),
            rustix::fs::minor(dev)
        )
    });
    let text = fs::read_to_string("/proc/locks").expect("read");
    let is_there = |line: &&str| devices.iter().any(|device| line.contains(device));
    text.lines().filter(is_there).count() as u64
}

/// A figure of `/proc/PID/status`, KiB.
pub fn kib(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.unwrap_or(0)
}

/// What is held still that should not be.
pub fn over(etcfs: &Etcfs, before: &Figures) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        forget_names(&etcfs.mnt());
        let now = Figures::of(etcfs);
        let most = [
            ("nodes", now.nodes, NODES),
            ("handles", now.handles, 0),
            ("backing ids", now.backing_ids, 0),
            ("waiters for locks", now.waiters, 0),
            (
                "descriptors",
                now.descriptors.0.len() as u64,
                before.descriptors.0.len() as u64,
            ),
            ("locks", now.locks, 0),
            (
                "KiB of memory",
                now.anonymous_kib,
                before.anonymous_kib + KEPT_KIB,
            ),
            (
                "KiB of the ledger",
                now.ledger_kib,
                before.ledger_kib + KEPT_KIB,
            ),
        ];
        let over = most.iter().filter(|(_, is, most)| is > most);
        let over: Vec<_> = over
            .map(|(what, is, most)| format!("left: {is} {what}, and {most} at most are expected"))
            .collect();
        if over.is_empty() || Instant::now() > until {
            println!("left: {now:?}");
            if !over.is_empty() {
                println!("at first: {before:?}");
            }
            return over;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How long nobody served, each time.
pub struct Stalls {
    mountpoint: String,
    restarted: u64,
    /// Milliseconds, sorted.
    each: Vec<f64>,
}

impl Stalls {
    /// What the journal says of their number, and the daemon's words of their length.
    pub fn of(etcfs: &Etcfs) -> Stalls {
        let output = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
            .args(["--json", "journal"])
            .arg(etcfs.mnt())
            .output()
            .expect("run etcfsctl");
        let journal: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let told = etcfs.stderr();
        let stalls = told.lines().filter_map(|line| {
            let (_, after) = line.split_once("; nobody served for ")?;
            after.split(' ').next()?.parse().ok()
        });
        let mut each: Vec<f64> = stalls.collect();
        each.sort_by(f64::total_cmp);
        Stalls {
            mountpoint: etcfs.mnt().display().to_string(),
            restarted: journal["restarted"].as_u64().expect("a number"),
            each,
        }
    }
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: f64| {
            let at = (self.each.len() as f64 * part) as usize;
            self.each.get(at.min(self.each.len().saturating_sub(1)))
        };
        let [half, most, longest] = [0.5, 0.99, 1.0].map(|at| part(at).copied().unwrap_or(0.0));
        write!(
            f,
            "{}: {} restarts; nobody served for {half} ms (p50), {most} ms (p99), {longest} ms (longest)",
            self.mountpoint, self.restarted
        )
    }
}
