//! The reports, as they are sent: what `--json` prints.

use crate::session::meter::Counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `etcfsctl stats`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stats {
    /// The daemon's version.
    pub version: String,
    /// Its process id, as it sees itself.
    pub pid: u32,
    /// The mount point as the stratum sees it.
    pub mountpoint: String,
    /// The stratum.
    pub stratum: String,
    /// Seconds since the session began.
    pub uptime_s: f64,
    /// Requests since then, by opcode.
    pub ops: Vec<Op>,
    /// Requests since `--reset`.
    pub since_reset: Option<SinceReset>,
    /// Requests being worked on, the oldest first.
    pub in_flight: Vec<RequestReport>,
    /// The threads that answer.
    pub threads: Vec<ThreadReport>,
    /// Known nodes.
    pub nodes: usize,
    /// Open files and directories.
    pub handles: usize,
    /// Backing ids in force.
    pub backing_ids: usize,
    /// Whether the kernel reads and writes files itself.
    pub passthrough: PassthroughReport,
    /// What carries the requests.
    pub transport: String,
    /// What INIT agreed on.
    pub init: Init,
    /// What the kernel keeps.
    #[serde(default)]
    pub cache: CacheReport,
    /// Requests that wait for a file lock.
    #[serde(default)]
    pub lock_waiters: usize,
    /// Who listens to `log`, `trace` or `top`.
    pub listeners: usize,
    /// How many servers have begun to serve the mount; 0: no keeper would make another one.
    #[serde(default)]
    pub servers: u32,
    /// What became of the last program that was to take this one's place, if there has been one.
    #[serde(default)]
    pub upgrade: Option<String>,
    /// The number by which the client that has brought that program knows it.
    #[serde(default)]
    pub upgrade_id: u64,
}

/// [`Stats::upgrade`] where it can be asked for once more.
pub const BROKEN_OFF: &str =
    "a process that had to do with it has died, or been replaced, meanwhile; nothing has changed";

/// Figures since `--reset`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SinceReset {
    /// Seconds since then.
    pub seconds: f64,
    /// Requests, by opcode.
    pub ops: Vec<Op>,
}

/// The figures of one opcode. Latencies run from reading the request to having its answer, the time in a queue included.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Op {
    /// The opcode; `other` for unknown ones and malformed requests.
    pub op: String,
    /// Requests.
    pub count: u64,
    /// Errors, by name.
    pub errors: BTreeMap<String, u64>,
    /// Bytes that clients read through the daemon.
    pub bytes_read: u64,
    /// Bytes that clients wrote through the daemon.
    pub bytes_written: u64,
    /// Sum of latencies, seconds.
    pub seconds: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 90 % took at most so long, microseconds.
    pub p90_us: f64,
    /// 99 % took at most so long, microseconds.
    pub p99_us: f64,
    /// The slowest, microseconds.
    pub max_us: f64,
    /// Pairs of a latency in nanoseconds and how many requests took at most so long.
    pub latencies_ns: Vec<(u64, u64)>,
}

impl Op {
    /// The figures of the opcode called `op`.
    pub(crate) fn new(op: String, counts: &Counts) -> Op {
        let us = |share| counts.quantile(share) as f64 / 1e3;
        Op {
            op,
            count: counts.count,
            errors: counts
                .errors
                .iter()
                .map(|(errno, n)| (errno_name(*errno), *n))
                .collect(),
            bytes_read: counts.read,
            bytes_written: counts.written,
            seconds: counts.total_ns as f64 / 1e9,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            max_us: counts.max_ns as f64 / 1e3,
            latencies_ns: counts.cumulative().collect(),
        }
    }
}

/// The name of an error number, or the number.
pub fn errno_name(errno: i32) -> String {
    let shown = etcfs_proto::show::errno(errno.unsigned_abs()).to_string();
    match shown.split_once('(') {
        Some((name, _)) => name.to_owned(),
        None => shown,
    }
}

/// One request being worked on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestReport {
    /// The opcode.
    pub op: String,
    /// The path it is about, or the directory of the name it is about.
    pub path: Option<String>,
    /// Who asks.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// The daemon's thread.
    pub(crate) tid: u32,
    /// How long it has taken so far, microseconds.
    pub age_us: f64,
}

/// One thread that answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThreadReport {
    /// `worker` or `aside`.
    pub role: String,
    /// Its id; 0: none at the moment.
    pub tid: u32,
    /// Share of the time since the start that it spent on requests, 0 to 1.
    pub busy: f64,
}

/// The state of passthrough.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PassthroughReport {
    /// `-o passthrough` or the environment asked for it.
    pub asked: bool,
    /// It is in force.
    pub on: bool,
    /// Why not, or not everywhere.
    pub reasons: Vec<String>,
}

/// What the kernel keeps of names, attributes and listings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CacheReport {
    /// `strict` or `watch`; with the reason where that is not what was asked for.
    pub mode: String,
    /// Names that it may keep.
    pub kept: u64,
    /// Directories that are watched.
    pub watched: u64,
    /// How many may be.
    pub most: u64,
    /// Bytes that the daemon holds for them, about.
    pub bytes: u64,
    /// What events have made it let go of: names and attributes.
    pub dropped_by_event: u64,
    /// Times at which events were lost and everything was let go of.
    pub overflows: u64,
    /// Directories given up for others.
    pub evicted: u64,
    /// How long the oldest event waits that was not dealt with, milliseconds.
    pub oldest_event_ms: u64,
    /// A watch was not to be had.
    #[serde(default)]
    pub failed: bool,
}

/// `etcfsctl drop`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dropped {
    /// Names that were let go of.
    pub names: u64,
}

/// What INIT agreed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Init {
    /// The protocol, `7.45`.
    pub protocol: String,
    /// The flags by name.
    pub flags: Vec<String>,
    /// Flags that were wanted and that the kernel does not offer.
    pub(crate) missing: Vec<String>,
    /// Most bytes of one WRITE.
    pub max_write: u32,
    /// Most pages of one request.
    pub max_pages: u16,
    /// Largest readahead, bytes.
    pub max_readahead: u32,
    /// How deep passthrough may stack; 0 without it.
    pub(crate) max_stack_depth: u32,
}

/// `etcfsctl which`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Which {
    /// The path below the mount, with a leading slash.
    pub path: String,
    /// `local` or `global`.
    pub side: String,
    /// The base directory of that side, as the daemon was told at its start, and the path below it.
    pub lower: String,
    /// The configured path whose rule makes it global.
    pub global_rule: Option<String>,
    /// The override of this path.
    pub over: Option<OverrideReport>,
    /// A symlink override above it, under which this path is not reached.
    pub hidden_by: Option<String>,
    /// Whether the kernel keeps it, and why not.
    #[serde(default)]
    pub kept: String,
    /// What is there below.
    pub object: Option<ObjectReport>,
    /// Why there is nothing to say about what is there.
    pub error: Option<String>,
    /// The newest entries of the journal about this path.
    pub enforcements: Vec<Enforcement>,
}

/// An override.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverrideReport {
    /// `symlink`, `directory` or `inject`.
    pub kind: String,
    /// As configured.
    pub content: String,
}

/// A lower object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectReport {
    /// `file`, `directory`, `symlink` or `special file`.
    pub kind: String,
    /// Its device number below, `major:minor`.
    pub dev: String,
    /// Its inode number below.
    pub ino: u64,
    /// Permission bits, octal.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The number by which the kernel knows it; none: it does not at the moment.
    pub node: Option<u64>,
    /// How often it is open.
    pub handles: usize,
    /// The id under which the kernel reads and writes it itself.
    pub backing_id: Option<u32>,
}

/// `etcfsctl journal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalReport {
    /// How many there were since the start.
    pub total: u64,
    /// The newest, oldest first.
    pub entries: Vec<Enforcement>,
    /// How many servers have taken another one's place since the mount was made.
    #[serde(default)]
    pub restarted: u64,
    /// The newest of those, oldest first.
    #[serde(default)]
    pub restarts: Vec<RestartReport>,
}

/// One server in place of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestartReport {
    /// When it began to serve, in seconds since 1970.
    pub time: f64,
    /// Why there is another one.
    pub why: String,
    /// How long nobody served, in seconds.
    pub stall: f64,
}

/// `etcfsctl restart` and `upgrade`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replaced {
    /// How many servers have begun, the one that says this included: the next one has a larger number.
    pub servers: u32,
}

/// One enforcement of an override.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enforcement {
    /// Seconds since 1970.
    pub time: f64,
    /// The path below the mount, with a leading slash.
    pub path: String,
    /// `symlink`, `directory` or `inject`.
    pub kind: String,
    /// `local` or `global`.
    pub side: String,
    /// What stood there.
    pub(crate) found: String,
    /// Who made that so, `comm[pid]`.
    pub(crate) changed_by: Option<String>,
    /// Whose access came upon it, `comm[pid]`.
    pub(crate) met_by: Option<String>,
    /// Why it could not be undone; none: it was.
    pub(crate) error: Option<String>,
    /// All of that in a sentence, but for the time and the path.
    #[serde(default)]
    pub text: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Something to do something about.
    Problem,
}

/// One thing that the doctor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Severity,
    /// What it is about, one or two words.
    pub about: String,
    /// The finding, a sentence without a full stop.
    pub text: String,
}

/// `etcfsctl doctor`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Doctor {
    /// What was found.
    pub findings: Vec<Finding>,
}
