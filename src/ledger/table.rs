//! Numbered records of one kind, some of them in use.

use super::free::{CHUNK, Free};
use crate::mutex::lock;
use crate::sys::shared::Shared;
use rustix::fd::RawFd;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use zerocopy::FromBytes;

/// A record: any bytes are one, all zero is one that is not in use, and it is changed through atomics.
pub(crate) trait FlatRecord: FromBytes + Sync + 'static {
    /// True if it stands for something.
    fn is_used(&self) -> bool;

    /// Adds the numbers of the descriptors that it names.
    fn name_descriptors(&self, _named: &mut Vec<RawFd>) {}
}

/// A record that is somebody's own until it ends: see [`Slot`].
pub(crate) trait Ends: FlatRecord {
    /// Marks it as not in use: the one store that ends it.
    fn end(&self);
}

/// The descriptor of which a record has one more than the number; 0: none.
pub(super) fn number(word: i32) -> Option<RawFd> {
    word.checked_sub(1).filter(|&fd| fd >= 0)
}

/// The records of a region, and which of them are free.
#[derive(Debug)]
pub(crate) struct Table<R: 'static> {
    records: &'static [R],
    /// No record from this number on is in use. It is in the ledger, since the pages
    /// behind it are not to be touched.
    mark: &'static AtomicU32,
    /// Where the records lie, for giving memory back.
    memory: Option<(&'static Shared, usize)>,
    free: Mutex<Free>,
}

impl<R: FlatRecord> Table<R> {
    /// The table over `records`, of which those below `mark` may be in use. They begin at a byte of `memory`.
    pub(crate) fn over(
        records: &'static [R],
        mark: &'static AtomicU32,
        memory: Option<(&'static Shared, usize)>,
    ) -> Table<R> {
        let fresh = mark.load(Ordering::Relaxed).min(records.len() as u32);
        mark.store(fresh, Ordering::Relaxed);
        let mut free = Free::default();
        for number in 0..fresh {
            match records[number as usize].is_used() {
                true => free.extend(number),
                false => free.extend_free(number),
            }
        }
        let table = Table {
            records,
            mark,
            memory,
            free: Mutex::default(),
        };
        table.shrink(&mut free);
        *lock(&table.free) = free;
        table
    }

    /// The number of a record that is not in use, for the caller. `None`: all are.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut free = lock(&self.free);
        if let Some(number) = free.pop() {
            return Some(number);
        }
        let number = self.mark.load(Ordering::Relaxed);
        ((number as usize) < self.records.len()).then(|| {
            free.extend(number);
            self.mark.store(number + 1, Ordering::Relaxed);
            number
        })
    }

    /// The record, which the caller has marked as not in use, may be taken again.
    ///
    /// Memory goes back where a load has left much of the table empty: a system call for thousands of records.
    pub(crate) fn give(&self, number: u32) {
        let mut free = lock(&self.free);
        free.push(number);
        self.shrink(&mut free);
    }

    /// Under the lock: nobody takes what is given back.
    fn shrink(&self, free: &mut Free) {
        while let Some(chunk) = free.empty() {
            if let Some((memory, first)) = self.memory {
                let first = first + chunk * CHUNK * size_of::<R>();
                let behind = self.records.len().saturating_sub(chunk * CHUNK);
                memory.give_back(first, behind.min(CHUNK) * size_of::<R>());
            }
            if let Some(mark) = free.cut() {
                self.mark.store(mark, Ordering::Relaxed);
            }
        }
    }

    /// The record with that number.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn at(&self, number: u32) -> &'static R {
        &self.records[number as usize]
    }

    /// The record with that number, if it is one that may be in use.
    pub(crate) fn get(&self, number: u32) -> Option<&'static R> {
        (number < self.mark.load(Ordering::Relaxed)).then(|| self.at(number))
    }

    /// No record from this number on is in use.
    pub(crate) fn mark(&self) -> u32 {
        self.mark.load(Ordering::Relaxed)
    }

    /// The records in use, with their numbers. Those that are free are not looked at: their memory may have been given back,
    /// and to read it takes it again.
    pub(crate) fn used(&self) -> impl Iterator<Item = (u32, &'static R)> {
        let taken = {
            let free = lock(&self.free);
            free.others(self.mark.load(Ordering::Relaxed))
        };
        let records = taken.into_iter().map(|number| (number, self.at(number)));
        records.filter(|(_, record)| record.is_used())
    }
}

/// A record of a table that ends, and can be taken again, when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot<R: Ends> {
    table: &'static Table<R>,
    number: u32,
}

impl<R: Ends> Slot<R> {
    /// A record that is not in use. Whoever takes it writes it.
    pub(crate) fn take(table: &'static Table<R>) -> Option<Slot<R>> {
        let number = table.take()?;
        Some(Slot { table, number })
    }

    /// The record `number`, which a predecessor has left in use.
    pub(crate) fn adopt(table: &'static Table<R>, number: u32) -> Slot<R> {
        Slot { table, number }
    }
}

impl<R: Ends> Deref for Slot<R> {
    type Target = R;

    fn deref(&self) -> &R {
        self.table.at(self.number)
    }
}

impl<R: Ends> Drop for Slot<R> {
    fn drop(&mut self) {
        self.end();
        self.table.give(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(FromBytes)]
    #[repr(C)]
    struct Number {
        state: AtomicU32,
    }

    impl FlatRecord for Number {
        fn is_used(&self) -> bool {
            self.state.load(Ordering::Acquire) != 0
        }
    }

    fn memory(len: usize) -> (&'static [Number], &'static AtomicU32) {
        let records: Vec<_> = (0..len)
            .map(|_| Number {
                state: AtomicU32::new(0),
            })
            .collect();
        (records.leak(), Box::leak(Box::default()))
    }

    #[test]
    fn free_records_are_taken_from_the_smallest_number_on() {
        let (records, mark) = memory(4);
        let table = Table::over(records, mark, None);
        let taken: Vec<_> = (0..4).filter_map(|_| table.take()).collect();
        assert_eq!(taken, [0, 1, 2, 3]);
        assert_eq!(table.take(), None);
        table.give(2);
        table.give(1);
        assert_eq!(table.take(), Some(1));
    }

    #[test]
    fn a_successor_finds_what_is_used_and_takes_the_rest() {
        let (records, mark) = memory(4);
        let table = Table::over(records, mark, None);
        for state in [1, 0, 1] {
            let number = table.take().unwrap();
            table.at(number).state.store(state, Ordering::Release);
        }
        let next = Table::over(records, mark, None);
        assert_eq!(next.used().map(|(at, _)| at).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(
            (next.take(), next.take(), next.take()),
            (Some(1), Some(3), None)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        /// The smallest free number is taken, whatever was taken and given back.
        #[test]
        fn what_is_taken_is_free_and_the_smallest(ops in prop::collection::vec((0..4u8, 0..3000usize), 1..20)) {
            let (records, mark) = memory(3 * CHUNK - 100);
            let table = Table::over(records, mark, None);
            let mut used = BTreeSet::new();
            for (op, count) in ops {
                for turn in 0..count {
                    if op < 2 {
                        // Looking for it takes long; the others are checked for being free.
                        if turn == 0 {
                            let smallest = (0..).find(|n| !used.contains(n));
                            let smallest = smallest.filter(|&n| (n as usize) < records.len());
                            prop_assert_eq!(table.take(), smallest);
                            used.extend(smallest);
                        } else if let Some(number) = table.take() {
                            prop_assert!(used.insert(number));
                        }
                    } else {
                        let given = if op == 2 { used.pop_last() } else { used.pop_first() };
                        given.into_iter().for_each(|number| table.give(number));
                    }
                }
                prop_assert!(used.last().is_none_or(|&last| last < table.mark()));
            }
        }
    }

    #[test]
    fn the_memory_of_a_table_falls_after_a_load() {
        let shared: &'static Shared =
            Box::leak(Box::new(Shared::create("etcfs-test", 16 * CHUNK).unwrap()));
        let blocks = || rustix::fs::fstat(shared.file().unwrap()).unwrap().st_blocks;
        let records = shared.records::<Number>(0, 4 * CHUNK);
        let (_, mark) = memory(0);
        let table = Table::over(records, mark, Some((shared, 0)));
        for _ in 0..4 * CHUNK {
            let number = table.take().unwrap();
            table.at(number).state.store(1, Ordering::Release);
        }
        let full = blocks();
        for number in 0..4 * CHUNK as u32 {
            // Of all that were in use the last one stays for longest.
            let number = 4 * CHUNK as u32 - 1 - number;
            table.at(number).state.store(0, Ordering::Release);
            table.give(number);
        }
        assert!(blocks() * 4 <= full, "{} of {full} blocks", blocks());
        assert_eq!(table.mark() as usize, CHUNK);
        assert_eq!(table.take(), Some(0));
    }
}
