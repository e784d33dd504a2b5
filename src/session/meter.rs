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

use crate::mutex::lock;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use thread::MeterOfThread;
use zerocopy::FromZeros;

/// A thread's own meter, for as long as the thread works; the figures stay, and the next thread of that role adds to them.
pub(crate) struct Seat(Arc<MeterOfThread>);

impl Deref for Seat {
    type Target = Meter;

    fn deref(&self) -> &Meter {
        &self.0.meter
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.tid.store(0, Ordering::Release);
    }
}

/// The meters of a session.
pub(crate) struct Meters {
    all: Mutex<Vec<Arc<MeterOfThread>>>,
    /// When counting began, see [`now`].
    pub(crate) since: u64,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            all: Mutex::default(),
            since: now(),
        }
    }
}

impl Meters {
    /// A meter for the calling thread, a worker with place `index`.
    pub(crate) fn sit_at(&self, index: usize) -> Seat {
        let seat = self.sit(Role::Worker);
        seat.current.set_place(Some(index));
        seat
    }

    /// A meter for the calling thread.
    pub(crate) fn sit(&self, role: Role) -> Seat {
        let tid = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        let mut all = lock(&self.all);
        let free = |entry: &&Arc<MeterOfThread>| {
            entry.role == role
                && entry
                    .tid
                    .compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        };
        if let Some(entry) = all.iter().find(free) {
            entry.meter.current.set_place(None);
            return Seat(entry.clone());
        }
        let meter = Meter::new_box_zeroed().expect("memory for a thread's counters");
        let entry = Arc::new(MeterOfThread {
            meter,
            role,
            tid: AtomicU32::new(tid),
        });
        all.push(entry.clone());
        Seat(entry)
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
