//! The POSIX locks of one owner on one file: ranges that never overlap.

use crate::sys::lock::{Kind, Range};

/// Locked ranges, ordered, neither overlapping nor, where of one kind, touching.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ranges {
    list: Vec<(Range, Kind)>,
}

impl Ranges {
    /// True when nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Gives up everything.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Locks (`Some`) or unlocks (`None`) a range: what it covers takes the new state, the rest of a range that it cuts
    /// keeps the old one (`posix_lock_inode` of `fs/locks.c` does the same to the lower file).
    pub fn set(&mut self, range: Range, kind: Option<Kind>) {
        let mut list = Vec::with_capacity(self.list.len() + 2);
        for &(held, held_kind) in &self.list {
            if held.first < range.first {
                let last = held.last.min(range.first - 1);
                let first = held.first;
                list.push((Range { first, last }, held_kind));
            }
            if held.last > range.last {
                let first = held.first.max(range.last + 1);
                let last = held.last;
                list.push((Range { first, last }, held_kind));
            }
        }
        if let Some(kind) = kind {
            list.push((range, kind));
        }
        list.sort_by_key(|(held, _)| held.first);
        self.list.clear();
        for (next, kind) in list {
            match self.list.last_mut() {
                Some((before, same)) if *same == kind && before.last + 1 == next.first => {
                    before.last = next.last;
                }
                _ => self.list.push((next, kind)),
            }
        }
    }

    /// True if a lock of another owner on `range` would have to wait for one of these.
    pub fn are_in_the_way(&self, range: Range, kind: Kind) -> bool {
        self.list.iter().any(|&(held, held_kind)| {
            held.first <= range.last
                && range.first <= held.last
                && (kind == Kind::Exclusive || held_kind == Kind::Exclusive)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: u64 = 24;

    fn kind() -> impl Strategy<Value = Option<Kind>> {
        prop_oneof![
            Just(None),
            Just(Some(Kind::Shared)),
            Just(Some(Kind::Exclusive))
        ]
    }

    fn step() -> impl Strategy<Value = (Range, Option<Kind>)> {
        (0..SPAN, 0..SPAN, kind()).prop_map(|(a, b, kind)| {
            let range = Range {
                first: a.min(b),
                last: a.max(b),
            };
            (range, kind)
        })
    }

    proptest! {
        #[test]
        fn agree_with_a_table_of_bytes(steps in prop::collection::vec(step(), 1..40)) {
            let mut ranges = Ranges::default();
            let mut bytes = [None; SPAN as usize];
            for (range, kind) in steps {
                ranges.set(range, kind);
                bytes[range.first as usize..=range.last as usize].fill(kind);
                for at in 0..SPAN {
                    let one = Range { first: at, last: at };
                    let held = bytes[at as usize];
                    prop_assert_eq!(ranges.are_in_the_way(one, Kind::Exclusive), held.is_some());
                    prop_assert_eq!(ranges.are_in_the_way(one, Kind::Shared), held == Some(Kind::Exclusive));
                }
                let runs = bytes.iter().enumerate().filter(|&(at, held)| {
                    held.is_some() && (at == 0 || bytes[at - 1] != *held)
                });
                prop_assert_eq!(ranges.list.len(), runs.count());
            }
        }
    }

    #[test]
    fn the_end_of_the_file_has_no_byte_behind_it() {
        let end = i64::MAX as u64;
        let mut ranges = Ranges::default();
        ranges.set(
            Range {
                first: 0,
                last: end,
            },
            Some(Kind::Shared),
        );
        ranges.set(
            Range {
                first: 10,
                last: end,
            },
            None,
        );
        assert_eq!(ranges.list, [(Range { first: 0, last: 9 }, Kind::Shared)]);
    }
}
