//! One request of the access log, as it is sent.

use serde::{Deserialize, Serialize};

/// A request and how it went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// When the request was read: microseconds since 1970.
    pub time_us: u64,
    /// The process (or thread) that asks, as the daemon sees it; 0: the kernel itself, or one of another pid namespace.
    pub pid: u32,
    /// Its command name.
    pub comm: Option<String>,
    /// Its user (the file system user id).
    pub uid: u32,
    /// The opcode.
    pub op: String,
    /// The path with the mount point; none: not known any more.
    pub path: Option<String>,
    /// The second path of a rename or a link.
    pub path2: Option<String>,
    /// The arguments.
    pub args: String,
    /// `ok` or the name of the error; `-`: not answered.
    pub result: String,
    /// The error number, or 0.
    pub errno: i32,
    /// From reading the request to having its answer, microseconds.
    pub latency_us: f64,
    /// `local` or `global`.
    pub side: Option<String>,
    /// `global`, or `override` and its kind.
    pub rule: Option<String>,
    /// The answer lets the kernel read and write the file itself.
    pub passthrough: bool,
    /// Records before this one that the listener was too slow for.
    pub lost: u64,
    /// `trace` only: the request as on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// `trace` only: the answer as on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}
