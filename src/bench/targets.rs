//! What was wanted, what was measured, and whether that is enough.

use super::peers::HP;
use super::results::{BINDFS, NATIVE, PASSED, ResultRow, Results, STRICT, Unit, WATCH};
use std::fmt::Write as _;

/// Times native, at most: lower file system, row, bound.
const RATIOS: [(&str, &str, f64); 19] = [
    ("tmpfs", "write 25,000 x 4 KiB", 9.0),
    ("tmpfs", "read 25,000 x 4 KiB", 11.0),
    ("tmpfs", "unlink 25,000 x 4 KiB", 8.0),
    ("tmpfs", "write 10,000 x 64 KiB", 5.0),
    ("tmpfs", "read 10,000 x 64 KiB", 5.0),
    ("tmpfs", "read 1,000 x 1 MiB", 1.4),
    ("tmpfs", "read 100 x 10 MiB", 1.1),
    ("ext4", "read 25,000 x 4 KiB", 8.0),
    ("ext4", "read 10,000 x 64 KiB", 5.0),
    ("ext4", "read 1,000 x 1 MiB", 1.8),
    ("ext4", "read 100 x 10 MiB", 1.1),
    ("tmpfs", "random 4 KiB reads of a 1 GiB file", 1.1),
    ("tmpfs", "random 4 KiB overwrites of a 1 GiB file", 1.1),
    ("tmpfs", "sequential read of a 1 GiB file", 1.1),
    ("tmpfs", "sequential overwrite of a 1 GiB file", 1.1),
    ("ext4", "random 4 KiB reads of a 1 GiB file", 1.1),
    ("ext4", "random 4 KiB overwrites of a 1 GiB file", 1.1),
    ("ext4", "sequential read of a 1 GiB file", 1.1),
    ("ext4", "sequential overwrite of a 1 GiB file", 1.1),
];

/// Operations per second, at least, on a machine with two CPUs.
const RATES: [(&str, f64); 4] = [
    ("stat, 1 client", 60_000.0),
    ("stat, 2 clients", 150_000.0),
    ("open + read 4 KiB + close, 1 client", 22_000.0),
    ("open + read 4 KiB + close, 2 clients", 45_000.0),
];

/// Seconds for the whole storm, at most.
const STORM: f64 = 8.0;

/// An ordinary user against root, at most.
const USER: f64 = 1.15;

/// Times native where the kernel keeps local names, at most: row, bound.
const KEEPING: [(&str, f64); 17] = [
    ("stat, 1 client", 1.25),
    ("stat, 2 clients", 1.25),
    ("stat, uid 1000", 1.25),
    ("stat of a missing name, 1 client", 1.25),
    ("readlink, 1 client", 1.5),
    ("readlink, 2 clients", 1.5),
    ("readlink, uid 1000", 1.5),
    ("systemd storm", 4.0),
    ("find of 5,000 files", 1.3),
    ("ls -lR of 5,000 files", 2.5),
    ("grep -r of 5,000 files", 4.0),
    ("tar of 5,000 files", 4.0),
    ("list 20 entries, 1 client", 3.0),
    ("open + read 4 KiB + close, 1 client", 6.0),
    ("open + read 4 KiB + close, uid 1000", 6.5),
    ("read 25,000 x 4 KiB", 6.0),
    ("write 25,000 x 4 KiB", 8.0),
];

/// The rows of buffers, up to their sizes.
pub(crate) const BUFFERS: &str = "open + read 4 KiB + close, fresh buffer of";

/// Ties with bindfs are within the noise up to this.
const TIE: f64 = 1.1;

/// A 4 KiB file read into a buffer of 1 MiB against one of 4 KiB, at most: the file's size is what it may cost.
const BUFFER: f64 = 1.5;

/// Ten times the files, and at most so many times the time.
const TENFOLD: f64 = 10.5;

/// Rows that neither open nor read nor create nor remove a file: there bindfs answers from what the kernel keeps.
const KEPT: [&str; 5] = ["stat", "readlink", "find", "ls -lR", "list"];

/// One target.
pub(crate) struct Judgement {
    /// What was measured.
    pub what: String,
    /// What it has to be.
    pub wanted: String,
    /// What it is.
    pub measured: String,
    /// Whether that is enough.
    pub met: bool,
}

/// Every target of which there are measurements.
pub(crate) fn verdicts(results: &Results) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (lower, name, bound) in RATIOS {
        let what = format!("{lower}, {name}: times native");
        let ratio = results.row(lower, name).and_then(|row| row.ratio(PASSED));
        all.extend(ratio.map(|ratio| at_most(what, ratio, bound)));
    }
    for lower in ["tmpfs", "ext4"] {
        all.extend(rates(results, lower));
        all.extend(storm(results, lower));
        all.extend(users(results, lower));
        all.extend(buffers(results, lower));
        all.extend(keeping(results, lower));
        all.extend(growth(results, lower));
    }
    all.extend(results.rows.iter().filter_map(against_bindfs));
    for (lower, name, theirs) in HP {
        let what = format!("{lower}, {name}: times native, under passthrough_hp's");
        let ratio = results.row(lower, name).and_then(|row| row.ratio(PASSED));
        all.extend(ratio.map(|ratio| at_most(what, ratio, theirs)));
    }
    all
}

fn at_most(what: String, measured: f64, bound: f64) -> Judgement {
    Judgement {
        what,
        wanted: format!("<= {bound}"),
        measured: format!("{measured:.2}"),
        met: measured <= bound,
    }
}

fn rates(results: &Results, lower: &str) -> Vec<Judgement> {
    let verdict = |(name, least): (&str, f64)| {
        let rate = results.row(lower, name)?.median(PASSED)?;
        Some(Judgement {
            what: format!("{lower}, {name}: per second"),
            wanted: format!(">= {least}"),
            measured: format!("{rate:.0}"),
            met: rate >= least,
        })
    };
    RATES.into_iter().filter_map(verdict).collect()
}

fn storm(results: &Results, lower: &str) -> Option<Judgement> {
    let is_it = |row: &&ResultRow| row.lower == lower && row.name.contains("storm");
    let time = results.rows.iter().find(is_it)?.median(PASSED)?;
    let whole = time * results.scale() as f64;
    Some(at_most(
        format!("{lower}, the whole systemd storm: seconds"),
        whole,
        STORM,
    ))
}

/// Every row that both have.
fn users(results: &Results, lower: &str) -> Vec<Judgement> {
    let verdict = |user: &ResultRow| {
        let name = user.name.strip_suffix(", uid 1000")?;
        let root = results.row(lower, &format!("{name}, 1 client"))?;
        let of = |mode: &'static str| {
            let times = root.median(mode)? / user.median(mode)?;
            let what = format!("{lower}, {name}, {mode}: uid 1000 with five groups, times root");
            Some(at_most(what, times, USER))
        };
        Some(
            [STRICT, PASSED]
                .into_iter()
                .filter_map(of)
                .collect::<Vec<_>>(),
        )
    };
    let rows = results.rows.iter().filter(|row| row.lower == lower);
    rows.filter_map(verdict).flatten().collect()
}

/// What a large buffer costs that little is read into.
fn buffers(results: &Results, lower: &str) -> Vec<Judgement> {
    let of = |size: &str| results.row(lower, &format!("{BUFFERS} {size}"));
    let Some((small, large)) = of("4 KiB").zip(of("1 MiB")) else {
        return Vec::new();
    };
    let verdict = |mode: &'static str| {
        let times = small.median(mode)? / large.median(mode)?;
        let what = format!("{lower}, {BUFFERS} 1 MiB, {mode}: times 4 KiB");
        Some(at_most(what, times, BUFFER))
    };
    [STRICT, PASSED, WATCH]
        .into_iter()
        .filter_map(verdict)
        .collect()
}

/// What a kernel that keeps names makes of every row, beside native and bindfs.
fn keeping(results: &Results, lower: &str) -> Vec<Judgement> {
    let mut all = Vec::new();
    for row in results.rows.iter().filter(|row| row.lower == lower) {
        let bound = KEEPING.iter().find(|(name, _)| row.name.starts_with(name));
        if let Some((bound, ratio)) = bound.zip(row.ratio(WATCH)) {
            let what = format!("{lower}, {}, {WATCH}: times native", row.name);
            all.push(at_most(what, ratio, bound.1));
        }
        if let Some(times) = row.against(WATCH, BINDFS) {
            let what = format!("{lower}, {}, {WATCH}: times bindfs", row.name);
            all.push(at_most(what, times, TIE));
        }
    }
    all
}

/// How much longer ten times the files take, by mode; native's own growth is named beside it.
fn growth(results: &Results, lower: &str) -> Vec<Judgement> {
    let mut all = Vec::new();
    for verb in ["write", "read", "unlink"] {
        let of = |what: &str| results.row(lower, &format!("{verb} {what} x 4 KiB"));
        let Some((few, many)) = of("2,500").zip(of("25,000")) else {
            continue;
        };
        let native = many.times(few, NATIVE).unwrap_or(f64::NAN);
        for mode in [STRICT, PASSED] {
            let what = format!("{lower}, {verb} ten times the files, {mode}: times the time");
            if let Some(times) = many.times(few, mode) {
                let mut verdict = at_most(what, times, TENFOLD);
                let _ = write!(verdict.measured, " (native {native:.2})");
                all.push(verdict);
            }
        }
    }
    all
}

/// bindfs keeps names, attributes and pages in the kernel as it is installed.
fn against_bindfs(row: &ResultRow) -> Option<Judgement> {
    let judged_with_tenfold = row.name.contains("2,500");
    if judged_with_tenfold || KEPT.iter().any(|kept| row.name.starts_with(kept)) {
        return None;
    }
    // Of the same rounds, so that a round which one of them has not had does not count.
    let times = row.against(PASSED, BINDFS)?;
    Some(Judgement {
        what: format!("{}, {}: times bindfs", row.lower, row.name),
        wanted: "< 1".to_owned(),
        measured: format!("{times:.2}"),
        met: times < 1.0,
    })
}

/// The list, the missed ones last, and how many are met.
pub(crate) fn list(verdicts: &[Judgement]) -> String {
    let mut text = String::from("\n| target | wanted | measured | |\n|---|---|---|---|\n");
    for met in [true, false] {
        for verdict in verdicts.iter().filter(|verdict| verdict.met == met) {
            let Judgement {
                what,
                wanted,
                measured,
                ..
            } = verdict;
            let word = if met { "met" } else { "MISSED" };
            let _ = writeln!(text, "| {what} | {wanted} | {measured} | {word} |");
        }
    }
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    let _ = writeln!(text, "\n{met} of {} targets met", verdicts.len());
    text
}

/// The list for programs.
pub(crate) fn json(verdicts: &[Judgement]) -> serde_json::Value {
    verdicts
        .iter()
        .map(|v| {
            serde_json::json!({
                "target": v.what, "wanted": v.wanted, "measured": v.measured, "met": v.met,
            })
        })
        .collect()
}

impl ResultRow {
    /// How many times longer this row took than `other` in a mode: the median over the rounds.
    fn times(&self, other: &ResultRow, mode: &str) -> Option<f64> {
        super::results::median_of_pairs(self.values.get(mode)?, other.values.get(mode)?)
    }

    /// How many times longer `mode` took than `other`: the median over the rounds that both have had.
    fn against(&self, mode: &str, other: &str) -> Option<f64> {
        let (ours, theirs) = (self.values.get(mode)?, self.values.get(other)?);
        match self.unit {
            Unit::Seconds => super::results::median_of_pairs(ours, theirs),
            Unit::PerSecond => super::results::median_of_pairs(theirs, ours),
        }
    }
}
