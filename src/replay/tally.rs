//! What came of a replay.

use etcfs_proto::Opcode;
use std::collections::BTreeMap;
use std::fmt;

/// The most differences that are kept; all are counted.
const KEPT: usize = 1000;

/// One request that was answered differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which request of the recording, from 1 on.
    pub number: usize,
    /// The request as the recording has it.
    pub request: String,
    /// What differs, one a line.
    pub lines: Vec<String>,
}

/// The figures of one opcode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Nanoseconds of each request in the replay.
    pub replayed: Vec<u64>,
    /// Nanoseconds from taking to answering, where the recording has both.
    pub recorded: Vec<u64>,
    /// Requests that were answered differently.
    pub differences: usize,
}

/// What came of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By opcode.
    pub ops: BTreeMap<Opcode, Figures>,
    /// The first of the differences.
    pub differences: Vec<Difference>,
    /// Requests left out, by reason.
    pub left_out: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Requests carried out.
    pub fn requests(&self) -> usize {
        self.ops
            .values()
            .map(|figures| figures.replayed.len())
            .sum()
    }

    /// Requests that were answered differently.
    pub fn differing(&self) -> usize {
        self.ops.values().map(|figures| figures.differences).sum()
    }

    /// Nanoseconds of all requests.
    pub fn total_ns(&self) -> u64 {
        self.ops
            .values()
            .flat_map(|figures| &figures.replayed)
            .sum()
    }

    /// Notes a request that is not carried out.
    pub(super) fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    pub(super) fn differs(&mut self, opcode: Opcode, difference: Difference) {
        self.ops.entry(opcode).or_default().differences += 1;
        if self.differences.len() < KEPT {
            self.differences.push(difference);
        }
    }
}

/// The middle one of `times`.
pub fn median(times: &[u64]) -> Option<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "#{} {}", difference.number, difference.request)?;
            for line in &difference.lines {
                writeln!(f, "    {line}")?;
            }
        }
        let hidden = self.differing() - self.differences.len().min(self.differing());
        if hidden > 0 {
            writeln!(f, "... and {hidden} more")?;
        }
        for (reason, count) in &self.left_out {
            writeln!(f, "left out: {count} requests: {reason}")?;
        }
        writeln!(
            f,
            "{:<20} {:>9} {:>9} {:>12} {:>12}",
            "request", "count", "differ", "median ns", "recorded ns"
        )?;
        for (opcode, figures) in &self.ops {
            let shown = |times: &[u64]| median(times).map_or("-".to_owned(), |ns| ns.to_string());
            writeln!(
                f,
                "{:<20} {:>9} {:>9} {:>12} {:>12}",
                opcode.to_string(),
                figures.replayed.len(),
                figures.differences,
                shown(&figures.replayed),
                shown(&figures.recorded)
            )?;
        }
        let count = self.requests();
        write!(
            f,
            "{count} requests, {} answered differently, {} ns per request",
            self.differing(),
            self.total_ns() / (count.max(1) as u64)
        )
    }
}
