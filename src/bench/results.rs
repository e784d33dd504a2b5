//! What was measured: medians, ratios, a table, JSON, and the part of a document between two marks.

use super::peers;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// What the counts of the smallest files are divided by: less than others, so that even a tenth of them are more than the
/// backing ids that etcfs keeps (512), beyond which every open costs the end of another id.
pub(crate) fn small_scale(scale: usize) -> usize {
    (scale * 2 / 5).max(1)
}

/// The marks in the document.
const BEGIN: &str =
    "<!-- benchmark: scripts/bench --update-numbers writes what is between these marks -->";
const END: &str = "<!-- /benchmark -->";

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds: less is better.
    Seconds,
    /// Operations per second: more is better.
    PerSecond,
}

/// One row of one lower file system.
pub(crate) struct ResultRow {
    /// The lower file system.
    pub lower: &'static str,
    /// What was done.
    pub name: String,
    /// What the values are.
    pub unit: Unit,
    /// By mode, in the order of rounds.
    pub values: BTreeMap<&'static str, Vec<f64>>,
}

impl ResultRow {
    /// The median of a mode.
    pub(crate) fn median(&self, mode: &str) -> Option<f64> {
        median(self.values.get(mode)?.clone())
    }

    /// How many times slower than native a mode is: the median of the rounds' ratios.
    pub(crate) fn ratio(&self, mode: &str) -> Option<f64> {
        let native = self.values.get(NATIVE)?;
        let values = self.values.get(mode)?;
        match self.unit {
            Unit::Seconds => median_of_pairs(values, native),
            Unit::PerSecond => median_of_pairs(native, values),
        }
    }
}

/// The median of `over` divided by `under`, round by round.
pub(crate) fn median_of_pairs(over: &[f64], under: &[f64]) -> Option<f64> {
    median(over.iter().zip(under).map(|(a, b)| a / b).collect())
}

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Everything measured in one run.
pub(crate) struct Results {
    /// The rows, in the order of measurement.
    pub rows: Vec<ResultRow>,
    rounds: usize,
    scale: usize,
}

/// The lower file system itself.
pub(crate) const NATIVE: &str = "native";
/// etcfs as it starts without being asked for anything.
pub(crate) const STRICT: &str = "etcfs";
/// With passthrough.
pub(crate) const PASSED: &str = "etcfs passthrough";
/// With passthrough, and names that the kernel keeps while they are watched.
pub(crate) const WATCH: &str = "etcfs watch";
/// bindfs with its caches.
pub(crate) const BINDFS: &str = "bindfs";

/// The modes in the order of the table's columns.
pub(crate) const MODES: [&str; 5] = [NATIVE, STRICT, PASSED, WATCH, BINDFS];

impl Results {
    /// Nothing yet.
    pub(crate) fn new(rounds: usize, scale: usize) -> Results {
        Results {
            rows: Vec::new(),
            rounds,
            scale,
        }
    }

    /// Notes one value.
    pub(crate) fn add(
        &mut self,
        lower: &'static str,
        name: &str,
        mode: &'static str,
        value: f64,
        unit: Unit,
    ) {
        let known = |row: &ResultRow| row.lower == lower && row.name == name;
        let at = match self.rows.iter().position(known) {
            Some(at) => at,
            None => {
                self.rows.push(ResultRow {
                    lower,
                    name: name.to_owned(),
                    unit,
                    values: BTreeMap::new(),
                });
                self.rows.len() - 1
            }
        };
        self.rows[at].values.entry(mode).or_default().push(value);
    }

    /// The row of that name.
    pub(crate) fn row(&self, lower: &str, name: &str) -> Option<&ResultRow> {
        let is_it = |row: &&ResultRow| row.lower == lower && row.name == name;
        self.rows.iter().find(is_it)
    }

    /// What every count was divided by.
    pub(crate) fn scale(&self) -> usize {
        self.scale
    }

    /// The machine, the kernel, and how often each value was measured.
    fn conditions(&self) -> String {
        let uname = rustix::system::uname();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1))
            .map_or("unknown CPU", str::trim);
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let scale = match self.scale {
            1 => String::new(),
            n => format!(
                " Every count is the named one divided by {n}, of 4 KiB files by {}.",
                small_scale(n)
            ),
        };
        format!(
            "{cpus} CPUs ({model}), Linux {}, medians of {} rounds; in brackets times slower than native in the same round (C etcfs: in another run).{scale}",
            uname.release().to_string_lossy(),
            self.rounds
        )
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n", self.conditions());
        for (unit, title) in [
            (Unit::Seconds, "seconds"),
            (Unit::PerSecond, "operations per second"),
        ] {
            let rows: Vec<&ResultRow> = self.rows.iter().filter(|row| row.unit == unit).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = write!(text, "\n| lower file system, {title} |");
            for mode in MODES {
                let _ = write!(text, " {mode} |");
            }
            let _ = writeln!(text, " C etcfs |\n|{}", "---|".repeat(MODES.len() + 2));
            for row in rows {
                let _ = write!(text, "| {}, {} |", row.lower, row.name);
                for mode in MODES {
                    match (row.median(mode), row.ratio(mode)) {
                        (Some(value), _) if mode == NATIVE => {
                            let _ = write!(text, " {} |", show(value, unit));
                        }
                        (Some(value), Some(ratio)) => {
                            let _ = write!(text, " {} ({ratio:.1}) |", show(value, unit));
                        }
                        _ => text.push_str(" - |"),
                    }
                }
                match peers::traditional(row.lower, &row.name) {
                    Some(ratio) => writeln!(text, " ({ratio:.0}) |"),
                    None => writeln!(text, " - |"),
                }
                .unwrap_or_default();
            }
        }
        text
    }

    /// Every value and every target, for programs.
    pub(crate) fn json(&self, targets: serde_json::Value) -> String {
        let rows: Vec<serde_json::Value> = self
            .rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "lower": row.lower,
                    "row": row.name,
                    "unit": match row.unit { Unit::Seconds => "s", Unit::PerSecond => "1/s" },
                    "values": row.values,
                })
            })
            .collect();
        let all = serde_json::json!({
            "conditions": self.conditions(), "rows": rows, "targets": targets,
        });
        format!("{all:#}\n")
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 1.0 => format!("{value:.3}"),
        Unit::Seconds => format!("{value:.2}"),
        Unit::PerSecond if value >= 1e6 => format!("{:.2} M", value / 1e6),
        Unit::PerSecond => format!("{:.1} k", value / 1e3),
    }
}

/// Replaces what stands between the marks by the table and, if there is one, a link to the chart beside the document.
pub(crate) fn update_numbers(path: &Path, table: &str, chart: Option<&Path>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let marks = text.find(BEGIN).zip(text.find(END));
    let (begin, end) =
        marks.with_context(|| format!("{} has no lines {BEGIN} and {END}", path.display()))?;
    let head = &text[..begin + BEGIN.len()];
    let chart = chart.map_or(String::new(), |chart| {
        let name = chart.file_name().unwrap_or_default();
        format!(
            "\n![times slower than native]({})\n",
            name.to_string_lossy()
        )
    });
    let new = format!("{head}\n{table}{chart}\n{}", &text[end..]);
    std::fs::write(path, new).with_context(|| path.display().to_string())
}
