//! Counters, added up and read.

use super::buckets::{BUCKETS, bucket_end};
use super::thread::{ERRNOS, Meter, ROWS, Role};
use super::watch::InFlight;
use etcfs_proto::Opcode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The figures of one opcode, all threads together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests.
    pub(crate) count: u64,
    /// Requests answered with an error, by error number.
    pub(crate) errors: BTreeMap<i32, u64>,
    /// Bytes that clients have read, where the kernel does not read the lower file itself.
    pub(crate) read: u64,
    /// Bytes that clients have written, likewise.
    pub(crate) written: u64,
    /// Sum of latencies, ns.
    pub(crate) total_ns: u64,
    /// Largest latency, ns; in a difference an upper bound of it, at most 6.25 % too large.
    pub(crate) max_ns: u64,
    /// Requests by latency, see [`Counts::quantile`].
    buckets: Vec<u64>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            count: 0,
            errors: BTreeMap::new(),
            read: 0,
            written: 0,
            total_ns: 0,
            max_ns: 0,
            buckets: vec![0; BUCKETS],
        }
    }
}

impl Counts {
    fn add(&mut self, meter: &Meter, at: usize) {
        let row = &meter.rows[at];
        for (sum, bucket) in self.buckets.iter_mut().zip(&row.buckets) {
            let n = bucket.load(Ordering::Relaxed);
            *sum = sum.saturating_add(n);
            self.count = self.count.saturating_add(n);
        }
        for (errno, counter) in meter.errors[at].iter().enumerate() {
            match counter.load(Ordering::Relaxed) {
                0 => {}
                n => {
                    let sum = self.errors.entry(errno as i32).or_default();
                    *sum = sum.saturating_add(n.into());
                }
            }
        }
        let more = |sum: u64, n: &AtomicU64| sum.saturating_add(n.load(Ordering::Relaxed));
        self.read = more(self.read, &row.read);
        self.written = more(self.written, &row.written);
        self.total_ns = more(self.total_ns, &row.total);
        self.max_ns = self.max_ns.max(row.max.load(Ordering::Relaxed));
    }

    /// The latency in nanoseconds that `share` (0 to 1) of the requests did not exceed, at most 6.25 % too large.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen = n.saturating_add(seen);
            if seen >= rank {
                return bucket_end(bucket).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// Requests by latency: the upper end of a bucket in ns, and how many up to there, without empty buckets.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut seen = 0;
        self.buckets.iter().enumerate().filter_map(move |(at, &n)| {
            seen = n.saturating_add(seen);
            (n > 0).then_some((bucket_end(at), seen))
        })
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Counts) -> Counts {
        let buckets: Vec<u64> = self
            .buckets
            .iter()
            .zip(&earlier.buckets)
            .map(|(now, then)| now.saturating_sub(*then))
            .collect();
        let slowest = buckets.iter().rposition(|&n| n > 0);
        let errors = self.errors.iter().map(|(errno, n)| {
            let then = earlier.errors.get(errno).copied().unwrap_or(0);
            (*errno, n.saturating_sub(then))
        });
        Counts {
            count: self.count.saturating_sub(earlier.count),
            errors: errors.filter(|(_, n)| *n > 0).collect(),
            read: self.read.saturating_sub(earlier.read),
            written: self.written.saturating_sub(earlier.written),
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            max_ns: slowest.map_or(0, |at| bucket_end(at).min(self.max_ns)),
            buckets,
        }
    }
}

/// One thread that answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThreadFigures {
    /// What it does.
    pub role: Role,
    /// Its id; 0: the thread has ended, and its figures wait for the next one of its role.
    pub tid: u32,
    /// Nanoseconds spent on requests.
    pub(crate) busy_ns: u64,
    /// What it is at.
    pub(crate) current: Option<InFlight>,
}

/// All figures at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// By opcode; one above the known ones stands for all others and for malformed requests.
    pub(crate) ops: BTreeMap<Opcode, Counts>,
    /// By thread.
    pub(crate) threads: Vec<ThreadFigures>,
}

impl Snapshot {
    pub(super) fn of(meters: &[&'static Meter]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for meter in meters {
            let mut busy_ns: u64 = 0;
            for (at, row) in meter.rows.iter().enumerate() {
                // The sum of latencies is 0 only where nothing was counted; the rest of such a row is not read, so that
                // its pages stay without memory.
                let total = row.total.load(Ordering::Relaxed);
                if total > 0 {
                    busy_ns = busy_ns.saturating_add(total);
                    let opcode = Opcode(at as u32);
                    snapshot.ops.entry(opcode).or_default().add(meter, at);
                }
            }
            snapshot.threads.push(ThreadFigures {
                role: meter.role().unwrap_or(Role::Aside),
                tid: meter.tid.load(Ordering::Acquire),
                busy_ns,
                current: meter.in_flight(),
            });
        }
        snapshot
    }

    /// The opcode under which unknown ones are counted.
    pub(crate) const OTHER: Opcode = Opcode(ROWS as u32 - 1);

    /// What was counted after `earlier`.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Snapshot) -> Snapshot {
        let none = Counts::default();
        let ops = self.ops.iter().map(|(opcode, counts)| {
            let then = earlier.ops.get(opcode).unwrap_or(&none);
            (*opcode, counts.since(then))
        });
        let threads = self
            .threads
            .iter()
            .enumerate()
            .map(|(at, thread)| ThreadFigures {
                busy_ns: thread.busy_ns - earlier.threads.get(at).map_or(0, |then| then.busy_ns),
                ..thread.clone()
            });
        Snapshot {
            ops: ops.filter(|(_, counts)| counts.count > 0).collect(),
            threads: threads.collect(),
        }
    }
}

const _: () = assert!(ERRNOS > 133, "every Linux error number has a counter");
