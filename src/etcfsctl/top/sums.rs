//! Requests of one interval, added up in four ways.

use etcfs::ctl::access::Access;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;

/// Rows of one view that are told apart in an interval; the rest are one row.
const ROWS: usize = 10_000;

/// A way of adding up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// By process.
    Process,
    /// By path.
    Path,
    /// By request.
    Opcode,
    /// By side and rule.
    Rule,
}

impl View {
    /// All of them, in the order of the Tab key.
    pub(super) const ALL: [View; 4] = [View::Process, View::Path, View::Opcode, View::Rule];

    /// The key that chooses it.
    pub(super) fn key(self) -> char {
        match self {
            View::Process => 'p',
            View::Path => 'f',
            View::Opcode => 'o',
            View::Rule => 'r',
        }
    }

    /// What its rows are.
    pub(super) fn title(self) -> &'static str {
        match self {
            View::Process => "process",
            View::Path => "path",
            View::Opcode => "request",
            View::Rule => "side and rule",
        }
    }
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct SumsRow {
    /// What it is about.
    pub name: String,
    /// Requests per second.
    pub ops: f64,
    /// Milliseconds per second that the daemon spent on them.
    pub busy_ms: f64,
    /// Their average latency, microseconds.
    pub average_us: f64,
    /// How many failed, per second.
    pub failed: f64,
}

/// An interval, added up.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sums {
    /// Seconds.
    pub seconds: f64,
    /// Requests that came too fast to be told apart.
    pub lost: u64,
    /// Rows by process.
    pub processes: Vec<SumsRow>,
    /// Rows by path.
    pub paths: Vec<SumsRow>,
    /// Rows by request.
    pub opcodes: Vec<SumsRow>,
    /// Rows by side and rule.
    pub rules: Vec<SumsRow>,
}

impl Sums {
    /// The rows of a view.
    pub(super) fn rows(&self, view: View) -> &[SumsRow] {
        match view {
            View::Process => &self.processes,
            View::Path => &self.paths,
            View::Opcode => &self.opcodes,
            View::Rule => &self.rules,
        }
    }
}

#[derive(Default, Clone, Copy)]
struct Sum {
    count: u64,
    failed: u64,
    us: f64,
}

type Map = HashMap<String, Sum>;

/// An interval in progress.
pub(super) struct Window {
    since: Instant,
    lost: u64,
    maps: [Map; 4],
    /// Strata of processes, asked once.
    strata: HashMap<u32, Option<String>>,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            since: Instant::now(),
            lost: 0,
            maps: Default::default(),
            strata: HashMap::new(),
        }
    }
}

impl Window {
    /// Adds a request.
    pub(super) fn add(&mut self, record: &Access) {
        self.lost += record.lost;
        let names = [
            self.process(record),
            record.path.clone().unwrap_or_else(|| "?".to_owned()),
            record.op.clone(),
            rule(record),
        ];
        for (map, name) in self.maps.iter_mut().zip(names) {
            let name = match map.len() < ROWS || map.contains_key(&name) {
                true => name,
                false => "(all others)".to_owned(),
            };
            let sum = map.entry(name).or_default();
            sum.count += 1;
            sum.failed += u64::from(record.errno != 0);
            sum.us += record.latency_us;
        }
    }

    fn process(&mut self, record: &Access) -> String {
        if record.pid == 0 {
            return "(the kernel)".to_owned();
        }
        if self.strata.len() > ROWS {
            self.strata.clear();
        }
        let stratum = self
            .strata
            .entry(record.pid)
            .or_insert_with(|| stratum(record.pid));
        let comm = record.comm.as_deref().unwrap_or("?");
        match stratum {
            Some(stratum) => format!("{comm}[{}] {stratum}", record.pid),
            None => format!("{comm}[{}]", record.pid),
        }
    }

    /// The sums so far; a new interval begins.
    pub(super) fn take(&mut self) -> Sums {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-3);
        self.since = Instant::now();
        let mut rows = self.maps.each_mut().map(|map| {
            let rows = map.drain().map(|(name, sum)| SumsRow {
                name,
                ops: sum.count as f64 / seconds,
                busy_ms: sum.us / 1e3 / seconds,
                average_us: sum.us / sum.count as f64,
                failed: sum.failed as f64 / seconds,
            });
            rows.collect::<Vec<_>>()
        });
        for rows in &mut rows {
            rows.sort_by(|a, b| b.ops.total_cmp(&a.ops).then_with(|| a.name.cmp(&b.name)));
        }
        let [processes, paths, opcodes, rules] = rows;
        Sums {
            seconds,
            lost: std::mem::take(&mut self.lost),
            processes,
            paths,
            opcodes,
            rules,
        }
    }
}

fn rule(record: &Access) -> String {
    let side = record.side.as_deref().unwrap_or("?");
    let mut name = match record.rule.as_deref() {
        Some(rule) if rule != side => format!("{side}, {rule}"),
        _ => side.to_owned(),
    };
    if record.passthrough {
        name.push_str(", passthrough");
    }
    name
}

/// The stratum whose root a process has, as Bedrock has written it there.
fn stratum(pid: u32) -> Option<String> {
    let mut value = [0; 256];
    let root = format!("/proc/{pid}/root");
    let len = rustix::fs::getxattr(root, c"user.bedrock.stratum", &mut value[..]).ok()?;
    Some(String::from_utf8_lossy(&value[..len]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pid: u32, path: &str, errno: i32) -> Access {
        Access {
            pid,
            comm: Some("x".to_owned()),
            op: "LOOKUP".to_owned(),
            path: Some(path.to_owned()),
            errno,
            latency_us: 10.0,
            side: Some("global".to_owned()),
            rule: Some("global".to_owned()),
            ..Access::default()
        }
    }

    #[test]
    fn requests_are_added_up_in_every_view() {
        let mut window = Window::default();
        for _ in 0..9 {
            window.add(&record(u32::MAX, "/etc/a", 0));
        }
        window.add(&record(0, "/etc/b", 2));
        let sums = window.take();
        let names = |view| {
            let rows: Vec<&str> = sums.rows(view).iter().map(|r| r.name.as_str()).collect();
            rows
        };
        assert_eq!(names(View::Process), ["x[4294967295]", "(the kernel)"]);
        assert_eq!(names(View::Path), ["/etc/a", "/etc/b"]);
        assert_eq!(names(View::Opcode), ["LOOKUP"]);
        assert_eq!(names(View::Rule), ["global"]);
        let row = &sums.opcodes[0];
        assert!((row.average_us - 10.0).abs() < 1e-6 && row.failed > 0.0);
        assert!(window.take().opcodes.is_empty());
    }

    #[test]
    fn more_rows_than_are_told_apart_become_one() {
        let mut window = Window::default();
        for n in 0..ROWS + 500 {
            window.add(&record(0, &format!("/etc/{n}"), 0));
        }
        let sums = window.take();
        assert_eq!(sums.paths.len(), ROWS + 1);
        assert_eq!(sums.paths[0].name, "(all others)");
    }
}
