//! How long calls took, by what was done: how many, the half, one in a hundred, the longest.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

/// Steps of the scale: four in each doubling, from 1 us on.
const STEPS: usize = 4 * 32;

/// The calls of one kind.
#[derive(Clone)]
struct Kind {
    steps: [u64; STEPS],
    longest: Duration,
    failed: u64,
    first: String,
}

impl Default for Kind {
    fn default() -> Self {
        Kind {
            steps: [0; STEPS],
            longest: Duration::ZERO,
            failed: 0,
            first: String::new(),
        }
    }
}

/// The calls of a client, or of several.
#[derive(Default)]
pub struct Times(BTreeMap<String, Kind>);

impl Times {
    /// One more.
    pub fn add(&mut self, what: &str, took: Duration, error: Option<io::Error>) {
        let kind = self.0.entry(what.to_owned()).or_default();
        let micros = (took.as_micros() as f64).max(1.0);
        let step = (micros.log2() * 4.0) as usize;
        kind.steps[step.min(STEPS - 1)] += 1;
        kind.longest = kind.longest.max(took);
        if let Some(error) = error {
            kind.failed += 1;
            if kind.first.is_empty() {
                kind.first = error.to_string();
            }
        }
    }

    /// Both together.
    pub fn and(mut self, other: Times) -> Times {
        for (what, more) in other.0 {
            let kind = self.0.entry(what).or_default();
            for (sum, step) in kind.steps.iter_mut().zip(more.steps) {
                *sum += step;
            }
            kind.longest = kind.longest.max(more.longest);
            kind.failed += more.failed;
            if kind.first.is_empty() {
                kind.first = more.first;
            }
        }
        self
    }

    /// What failed, in words; empty: nothing.
    pub fn failures(&self) -> String {
        let failed = self.0.iter().filter(|(_, kind)| kind.failed > 0);
        let lines = failed.map(|(what, kind)| {
            format!(
                "{what} failed {} times, first: {}\n",
                kind.failed, kind.first
            )
        });
        lines.collect()
    }

    /// The longest of all.
    pub fn longest(&self) -> Duration {
        let all = self.0.values().map(|kind| kind.longest);
        all.max().unwrap_or_default()
    }

    /// As text, for [`Times::read`].
    pub fn write(&self) -> String {
        let lines = self.0.iter().map(|(what, kind)| {
            let steps: Vec<_> = kind.steps.iter().map(u64::to_string).collect();
            let nanos = kind.longest.as_nanos();
            format!(
                "{what}\t{nanos}\t{}\t{}\t{}\n",
                kind.failed,
                steps.join(" "),
                kind.first
            )
        });
        lines.collect()
    }

    /// What [`Times::write`] has written.
    pub fn read(text: &str) -> Times {
        let number = |text: &str| text.parse().expect("a number");
        let lines = text.lines().map(|line| {
            let fields: Vec<_> = line.splitn(5, '\t').collect();
            let mut kind = Kind {
                longest: Duration::from_nanos(number(fields[1])),
                failed: number(fields[2]),
                first: fields[4].to_owned(),
                ..Kind::default()
            };
            for (step, count) in kind.steps.iter_mut().zip(fields[3].split(' ')) {
                *step = number(count);
            }
            (fields[0].to_owned(), kind)
        });
        Times(lines.collect())
    }
}

impl Kind {
    fn count(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// The time that this part of the calls did not take longer than, in ms.
    fn within(&self, part: f64) -> f64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut sum = 0;
        let step = self.steps.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        2.0_f64.powf((step.unwrap_or(0) + 1) as f64 / 4.0) / 1000.0
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:>10} {:>10} {:>10} {:>10}",
            "ms", "calls", "p50", "p99", "longest"
        )?;
        for (what, kind) in &self.0 {
            let longest = kind.longest.as_secs_f64() * 1000.0;
            let (half, most) = (kind.within(0.5), kind.within(0.99));
            writeln!(
                f,
                "{what:8} {:>10} {half:>10.2} {most:>10.2} {longest:>10.2}",
                kind.count()
            )?;
        }
        Ok(())
    }
}
