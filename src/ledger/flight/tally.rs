//! Numbers that many requests change: how often a node was looked up, and how many opens need no descriptor.
//!
//! A successor must know whether a request had changed its number when it was cut off: one that is changed twice is wrong as
//! long as the mount lives. So a request notes, under the lock of that number, what the number is, changes it, and notes that.
//! Cut off in between, it has changed it if the number is another one: nobody else could.

use super::{Flight, MESSAGES, note, number};
use crate::ledger::Ledger;
use crate::ledger::crash::point;
use std::sync::atomic::Ordering;

/// Whose number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// Lookups of a node.
    Lookups {
        /// The node.
        node: u64,
    },
    /// Opens without a descriptor that one user has of a node.
    Loans {
        /// The node.
        node: u64,
        /// The handle of one of them.
        fh: u64,
    },
}

/// What the change is to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountChange {
    /// One more, with the answer.
    Given,
    /// The request's step with that number, from 1.
    Step(u64),
    /// What was given is taken back.
    TakenBack,
}

/// Who changes a number.
#[derive(Clone, Copy)]
pub(crate) struct Changer<'a>(Option<(&'a Flight, u64, CountChange)>);

impl<'a> Changer<'a> {
    /// Nobody whom a successor would go on for.
    pub(crate) const NOBODY: Changer<'static> = Changer(None);

    /// Request `unique`, of which `flight` tells a successor. One without a number nobody tells from others.
    pub(crate) fn new(flight: &'a Flight, unique: u64, change: CountChange) -> Changer<'a> {
        Changer((unique != 0).then_some((flight, unique, change)))
    }

    /// `number`, which is `before`, is changed with `change`, under its lock. Another one waits until that is noted.
    pub(crate) fn count<T>(self, of: Number, before: u64, change: impl FnOnce() -> T) -> T {
        let Some((flight, unique, what)) = self.0 else {
            return change();
        };
        flight.is_about_to_change(unique, what, of, before);
        let changed = change();
        point();
        flight.settle(true);
        changed
    }
}

/// [`Flight::tally`]: nothing is being changed.
const NOTHING: u64 = 0;
const GIVEN: u64 = 1;
const STEP: u64 = 2;
const TAKEN_BACK: u64 = 3;
/// Besides: it is of loans.
const LOANS: u64 = 4;

impl Flight {
    fn is_about_to_change(&self, unique: u64, change: CountChange, of: Number, before: u64) {
        let (kind, step) = match change {
            CountChange::Given => (GIVEN, 0),
            CountChange::Step(step) => (STEP, step),
            CountChange::TakenBack => (TAKEN_BACK, 0),
        };
        let (kind, node, fh) = match of {
            Number::Lookups { node } => (kind, node, 0),
            Number::Loans { node, fh } => (kind | LOANS, node, fh),
        };
        let words = [
            (&self.tally_of, number(unique)),
            (&self.tally_node, node),
            (&self.tally_fh, fh),
            (&self.tally_step, step),
            (&self.tally_before, before),
            (&self.tally, kind),
        ];
        for (word, value) in words {
            word.store(value, Ordering::Release);
            point();
        }
    }

    /// The number that its request was changing, and what it was before.
    pub(crate) fn unsettled(&self) -> Option<(Number, u64)> {
        let node = self.tally_node.load(Ordering::Relaxed);
        let of = match self.tally.load(Ordering::Acquire) {
            NOTHING => return None,
            kind if kind & LOANS == 0 => Number::Lookups { node },
            _ => Number::Loans {
                node,
                fh: self.tally_fh.load(Ordering::Relaxed),
            },
        };
        Some((of, self.tally_before.load(Ordering::Relaxed)))
    }

    /// The number has been changed, or was not. Done twice, it is the same.
    pub(crate) fn settle(&self, changed: bool) {
        let kind = self.tally.load(Ordering::Acquire);
        let of = self.tally_of.load(Ordering::Relaxed);
        let node = self.tally_node.load(Ordering::Relaxed);
        let fh = self.tally_fh.load(Ordering::Relaxed);
        match kind {
            _ if !changed => {}
            GIVEN => note(&self.given, node, &self.given_of, of),
            TAKEN_BACK => self.given_of.store(0, Ordering::Release),
            kind if kind == GIVEN | LOANS => note(&self.handle, fh, &self.handle_of, of),
            kind if kind == TAKEN_BACK | LOANS => self.handle_of.store(0, Ordering::Release),
            kind if kind & !LOANS == STEP => {
                self.step(of, self.tally_step.load(Ordering::Relaxed));
            }
            _ => {}
        }
        point();
        self.tally.store(NOTHING, Ordering::Release);
        point();
    }
}

/// Settles what requests were changing when their process was killed: `now` says what the number is that one speaks of, and
/// nothing if that is for somebody else to say. To be called before any of those numbers is changed.
pub(crate) fn settle(ledger: &'static Ledger, now: impl Fn(Number) -> Option<u64>) {
    for (region, _, _) in MESSAGES {
        for (_, flight) in ledger.table::<Flight>(region).used() {
            let Some((of, before)) = flight.unsettled() else {
                continue;
            };
            if let Some(now) = now(of) {
                flight.settle(now != before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    #[test]
    fn what_was_cut_off_is_settled_by_whoever_finds_it() {
        let flight = Flight::new_box_zeroed().unwrap();
        flight.take();
        let lookups = Number::Lookups { node: 7 };
        flight.is_about_to_change(2, CountChange::Given, lookups, 3);
        assert_eq!(flight.unsettled(), Some((lookups, 3)));
        assert_eq!(flight.given(2), None);
        flight.settle(true);
        assert_eq!((flight.unsettled(), flight.given(2)), (None, Some(7)));
        flight.is_about_to_change(2, CountChange::TakenBack, lookups, 4);
        flight.settle(false);
        assert_eq!(flight.given(2), Some(7), "it was not");
        Changer::new(&flight, 2, CountChange::TakenBack).count(lookups, 4, || {});
        assert_eq!(flight.given(2), None);
        let loans = Number::Loans { node: 7, fh: 9 };
        Changer::new(&flight, 2, CountChange::Given).count(loans, 0, || {});
        assert_eq!(flight.handle(2), Some(9));
        Changer::new(&flight, 4, CountChange::Step(5)).count(loans, 1, || {});
        assert_eq!((flight.steps(4), flight.handle(2)), (5, Some(9)));
        Changer::new(&flight, 2, CountChange::TakenBack).count(loans, 0, || {});
        assert_eq!(flight.handle(2), None);
    }
}
