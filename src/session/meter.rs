//! What every thread that answers requests counts: how many, how long, with what errors, and what it is at.
//!
//! A thread writes its own [`Meter`] only, with plain loads and stores of its own memory: no lock, no shared cache line,
//! no allocation. Readers add the meters up and may see a request in one figure and not yet in another. The histograms are
//! arrays of atomics for that reason: those of crates are written through `&mut` and grow.

mod buckets;
mod clock;
mod counts;
mod thread;
mod watch;

pub(crate) use clock::now;
pub(crate) use counts::{Counts, Snapshot};
pub(crate) use thread::{Done, Meter, Role};
pub(crate) use watch::{InFlight, Waker};

use crate::ledger::table::Table;
use crate::ledger::{Ledger, Region};
use crate::mutex::lock;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use zerocopy::FromZeros as _;

/// A thread's own meter, for as long as the thread works; the figures stay, and the next thread of that role adds to them.
pub(crate) struct Seat(&'static Meter);

impl Deref for Seat {
    type Target = Meter;

    fn deref(&self) -> &Meter {
        self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The meters of a mount: they lie where a successor goes on with them.
pub(crate) struct Meters {
    all: Mutex<Vec<&'static Meter>>,
    table: Table<Meter>,
    /// When counting began, see [`now`].
    pub(crate) since: u64,
}

impl Meters {
    /// The meters that lie in `ledger`, none of which is a thread's of this process. Any bytes are counters; those of no known
    /// role are added up with the others, and are nobody's to count on.
    pub(crate) fn over(ledger: &'static Ledger) -> Meters {
        let table: Table<Meter> = ledger.table(Region::Meters);
        let all: Vec<&'static Meter> = table.used().map(|(_, meter)| meter).collect();
        for meter in &all {
            meter.leave();
        }
        let since = &ledger.words(Region::Beginnings)[0];
        let begun = since.compare_exchange(0, now(), Ordering::AcqRel, Ordering::Acquire);
        Meters {
            all: Mutex::new(all),
            table,
            since: begun.err().unwrap_or_else(|| since.load(Ordering::Acquire)),
        }
    }

    /// A meter for the calling thread, a worker with place `index`.
    pub(crate) fn sit_at(&self, index: usize) -> Seat {
        let seat = self.sit(Role::Worker);
        seat.current.set_place(Some(index));
        seat
    }

    /// A meter for the calling thread.
    pub(crate) fn sit(&self, role: Role) -> Seat {
        let tid = rustix::thread::gettid().as_raw_pid() as u32;
        let mut all = lock(&self.all);
        let is_free = |meter: &&&Meter| meter.role() == Some(role) && meter.seat(tid);
        if let Some(meter) = all.iter().find(is_free) {
            return Seat(meter);
        }
        let meter = match self.table.take() {
            Some(slot) => self.table.at(slot),
            // Of more threads than there can well be a successor does not know what the last ones have counted.
            None => Box::leak(Meter::new_box_zeroed().expect("memory for a thread's counters")),
        };
        meter.tid.store(tid, Ordering::Release);
        meter.role.store(role.code(), Ordering::Release);
        all.push(meter);
        Seat(meter)
    }

    /// The sums of all meters, and what every thread is at.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let all = lock(&self.all).clone();
        Snapshot::of(&all)
    }

    /// What is being worked on, by thread, into `found`. Allocates only to grow it.
    pub(crate) fn read_in_flight(&self, found: &mut Vec<InFlight>) {
        found.clear();
        found.extend(lock(&self.all).iter().filter_map(|entry| entry.in_flight()));
    }

    /// What is being worked on, by thread.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let all = lock(&self.all).clone();
        all.iter().filter_map(|entry| entry.in_flight()).collect()
    }
}

#[cfg(test)]
mod tests;
