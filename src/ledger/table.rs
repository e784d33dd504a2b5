//! Numbered records of one kind, some of them in use.

use crate::mutex::lock;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use zerocopy::FromBytes;

/// A record: any bytes are one, all zero is one that is not in use, and it is changed through atomics.
pub(crate) trait Record: FromBytes + Sync + 'static {
    /// True if it stands for something.
    fn is_used(&self) -> bool;
}

/// The records of a region, and which of them are free.
#[derive(Debug)]
pub(crate) struct Table<R: 'static> {
    records: &'static [R],
    /// No record from this number on has been used. It is in the ledger, since the pages behind it are not to be touched.
    mark: &'static AtomicU32,
    /// Free ones below the mark, the smallest first, so that the end of the table becomes empty after a load. Found out at
    /// the start, and kept by the process alone.
    again: Mutex<BinaryHeap<Reverse<u32>>>,
}

impl<R: Record> Table<R> {
    /// The table over `records`, of which those below `mark` may be in use.
    pub(crate) fn over(records: &'static [R], mark: &'static AtomicU32) -> Table<R> {
        let fresh = mark.load(Ordering::Relaxed).min(records.len() as u32);
        mark.store(fresh, Ordering::Relaxed);
        let below = records[..fresh as usize].iter().enumerate();
        let free = below.filter(|(_, r)| !r.is_used());
        Table {
            records,
            mark,
            again: Mutex::new(free.map(|(at, _)| Reverse(at as u32)).collect()),
        }
    }

    /// The number of a record that is not in use, for the caller. `None`: all are.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut again = lock(&self.again);
        if let Some(Reverse(slot)) = again.pop() {
            return Some(slot);
        }
        let slot = self.mark.load(Ordering::Relaxed);
        ((slot as usize) < self.records.len()).then(|| {
            self.mark.store(slot + 1, Ordering::Relaxed);
            slot
        })
    }

    /// The record, which the caller has marked as not in use, may be taken again.
    pub(crate) fn give(&self, slot: u32) {
        lock(&self.again).push(Reverse(slot));
    }

    /// The record with that number.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn at(&self, slot: u32) -> &'static R {
        &self.records[slot as usize]
    }

    /// The records in use, with their numbers.
    pub(crate) fn used(&self) -> impl Iterator<Item = (u32, &'static R)> {
        let fresh = self.mark.load(Ordering::Relaxed) as usize;
        let below = self.records[..fresh].iter().enumerate();
        below
            .filter(|(_, r)| r.is_used())
            .map(|(at, r)| (at as u32, r))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(FromBytes)]
    #[repr(C)]
    struct Number {
        state: AtomicU32,
    }

    impl Record for Number {
        fn is_used(&self) -> bool {
            self.state.load(Ordering::Acquire) != 0
        }
    }

    fn memory() -> (&'static [Number], &'static AtomicU32) {
        let records: Vec<_> = (0..4)
            .map(|_| Number {
                state: AtomicU32::new(0),
            })
            .collect();
        (records.leak(), Box::leak(Box::default()))
    }

    #[test]
    fn free_records_are_taken_from_the_smallest_number_on() {
        let (records, mark) = memory();
        let table = Table::over(records, mark);
        let taken: Vec<_> = (0..4).filter_map(|_| table.take()).collect();
        assert_eq!(taken, [0, 1, 2, 3]);
        assert_eq!(table.take(), None);
        table.give(2);
        table.give(1);
        assert_eq!(table.take(), Some(1));
    }

    #[test]
    fn a_successor_finds_what_is_used_and_takes_the_rest() {
        let (records, mark) = memory();
        let table = Table::over(records, mark);
        for state in [1, 0, 1] {
            let slot = table.take().unwrap();
            table.at(slot).state.store(state, Ordering::Release);
        }
        let next = Table::over(records, mark);
        assert_eq!(next.used().map(|(at, _)| at).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(
            (next.take(), next.take(), next.take()),
            (Some(1), Some(3), None)
        );
    }
}
