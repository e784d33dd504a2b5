//! The POSIX locks of one owner on one file: ranges that never overlap.

use crate::sys::lock::{Kind, Range};
use std::collections::BTreeMap;

/// Locked ranges. No byte is in two of them, and two of one kind never touch, as in the kernel's own list.
///
/// Each kind has an ordered map of its own, so that what is in the way of a reader is found in as few steps as what is in
/// the way of a writer, however many others read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    shared: Set,
    exclusive: Set,
}

impl Ranges {
    /// True when nothing is locked.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many ranges there are, here and in the kernel.
    pub(crate) fn len(&self) -> usize {
        self.shared.0.len() + self.exclusive.0.len()
    }

    /// Gives up everything.
    pub(crate) fn clear(&mut self) {
        *self = Ranges::default();
    }

    /// Locks (`Some`) or unlocks (`None`) a range: what it covers takes the new state, the rest of a range that it cuts
    /// keeps the old one (`posix_lock_inode` of `fs/locks.c` does the same to the lower file).
    pub(crate) fn set(&mut self, range: Range, kind: Option<Kind>) {
        self.shared.cut(range);
        self.exclusive.cut(range);
        match kind {
            Some(Kind::Shared) => self.shared.join(range),
            Some(Kind::Exclusive) => self.exclusive.join(range),
            None => {}
        }
    }

    /// How many more ranges [`Ranges::set`] may leave behind at most: a lock adds itself and may cut another one in two, and
    /// what is unlocked may be the middle of one.
    pub(crate) fn growth(&self, range: Range, kind: Option<Kind>) -> usize {
        match kind {
            Some(_) => 2,
            None => usize::from(self.shared.surrounds(range) || self.exclusive.surrounds(range)),
        }
    }

    /// True if a lock of another owner on `range` would have to wait for one of these.
    pub(crate) fn are_in_the_way(&self, range: Range, kind: Kind) -> bool {
        self.exclusive.overlaps(range) || (kind == Kind::Exclusive && self.shared.overlaps(range))
    }

    /// What is locked for reading, in order.
    pub(crate) fn shared(&self) -> impl Iterator<Item = Range> {
        let all = self.shared.0.iter();
        all.map(|(&first, &last)| Range { first, last })
    }

    /// True if exactly that is locked.
    pub(crate) fn has(&self, range: Range, kind: Kind) -> bool {
        let set = match kind {
            Kind::Shared => &self.shared,
            Kind::Exclusive => &self.exclusive,
        };
        set.0.get(&range.first) == Some(&range.last)
    }

    /// The parts of `range` that are not locked.
    pub(crate) fn gaps(&self, range: Range) -> Vec<Range> {
        let mut free = Set::default();
        free.join(range);
        for held in self
            .shared
            .within(range)
            .chain(self.exclusive.within(range))
        {
            free.cut(held);
        }
        free.within(range).collect()
    }
}

/// Ranges of one kind: the last byte by the first one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Set(BTreeMap<u64, u64>);

impl Set {
    /// The last range that begins at `at` or before.
    fn up_to(&self, at: u64) -> Option<Range> {
        let (&first, &last) = self.0.range(..=at).next_back()?;
        Some(Range { first, last })
    }

    fn overlaps(&self, range: Range) -> bool {
        self.up_to(range.last)
            .is_some_and(|held| held.last >= range.first)
    }

    /// True if taking `range` out leaves a rest on both of its sides.
    fn surrounds(&self, range: Range) -> bool {
        self.up_to(range.first)
            .is_some_and(|held| held.first < range.first && held.last > range.last)
    }

    /// What overlaps `range`, in order.
    fn within(&self, range: Range) -> impl Iterator<Item = Range> {
        let begin = match self.up_to(range.first) {
            Some(held) if held.last >= range.first => held.first,
            _ => range.first,
        };
        let held = self.0.range(begin..=range.last);
        held.map(|(&first, &last)| Range { first, last })
    }

    /// Takes `range` out.
    fn cut(&mut self, range: Range) {
        while let Some(held) = self.up_to(range.last)
            && held.last >= range.first
        {
            if held.last > range.last {
                self.0.insert(range.last + 1, held.last);
            }
            if held.first < range.first {
                self.0.insert(held.first, range.first - 1);
            } else {
                self.0.remove(&held.first);
            }
        }
    }

    /// Puts `range` in, of which nothing is there; what it touches becomes one with it.
    fn join(&mut self, mut range: Range) {
        if let Some(before) = self.up_to(range.first)
            && before.last + 1 == range.first
        {
            range.first = before.first;
        }
        if let Some(last) = self.0.remove(&(range.last + 1)) {
            range.last = last;
        }
        self.0.insert(range.first, range.last);
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

    fn range() -> impl Strategy<Value = Range> {
        (0..SPAN, 0..SPAN).prop_map(|(a, b)| Range {
            first: a.min(b),
            last: a.max(b),
        })
    }

    /// The runs of equal bytes, as ranges.
    fn runs(bytes: &[Option<Kind>]) -> Vec<(Range, Option<Kind>)> {
        let mut runs: Vec<(Range, Option<Kind>)> = Vec::new();
        for (at, &kind) in bytes.iter().enumerate() {
            match runs.last_mut() {
                Some((run, same)) if *same == kind => run.last += 1,
                _ => runs.push((
                    Range {
                        first: at as u64,
                        last: at as u64,
                    },
                    kind,
                )),
            }
        }
        runs
    }

    proptest! {
        #[test]
        fn agree_with_a_table_of_bytes(
            steps in prop::collection::vec((range(), kind(), range()), 1..40)
        ) {
            let mut ranges = Ranges::default();
            let mut bytes = [None; SPAN as usize];
            for (range, kind, asked) in steps {
                let (before, growth) = (ranges.len(), ranges.growth(range, kind));
                ranges.set(range, kind);
                bytes[range.first as usize..=range.last as usize].fill(kind);
                prop_assert!(ranges.len() <= before + growth);
                let runs = runs(&bytes);
                let held = runs.iter().filter(|run| run.1.is_some());
                prop_assert_eq!(ranges.len(), held.clone().count());
                for &(run, kind) in held {
                    prop_assert!(ranges.has(run, kind.unwrap()));
                }
                let looked_at = &bytes[asked.first as usize..=asked.last as usize];
                let exclusive = looked_at.contains(&Some(Kind::Exclusive));
                let shared = looked_at.contains(&Some(Kind::Shared));
                prop_assert_eq!(ranges.are_in_the_way(asked, Kind::Shared), exclusive);
                prop_assert_eq!(ranges.are_in_the_way(asked, Kind::Exclusive), exclusive || shared);
                let mut covered = bytes;
                for gap in ranges.gaps(asked) {
                    prop_assert!(gap.first >= asked.first && gap.last <= asked.last);
                    let gap = &mut covered[gap.first as usize..=gap.last as usize];
                    prop_assert!(gap.iter().all(Option::is_none));
                    gap.fill(Some(Kind::Shared));
                }
                let asked = &covered[asked.first as usize..=asked.last as usize];
                prop_assert!(asked.iter().all(Option::is_some));
            }
        }
    }

    const END: u64 = i64::MAX as u64;

    fn to_the_end(first: u64) -> Range {
        Range { first, last: END }
    }

    #[test]
    fn the_end_of_the_file_has_no_byte_behind_it() {
        let mut ranges = Ranges::default();
        ranges.set(to_the_end(0), Some(Kind::Shared));
        ranges.set(to_the_end(10), None);
        assert_eq!(ranges.len(), 1);
        assert!(ranges.has(Range { first: 0, last: 9 }, Kind::Shared));
        ranges.set(to_the_end(5), Some(Kind::Exclusive));
        assert!(ranges.are_in_the_way(to_the_end(END), Kind::Shared));
        assert_eq!(ranges.gaps(to_the_end(0)), []);
    }

    /// 100,000 ranges, each locked, looked for and given up: a list walked from its beginning takes minutes.
    #[test]
    fn many_ranges_cost_little_each() {
        let mut ranges = Ranges::default();
        let at = |n: u64| Range {
            first: 2 * n,
            last: 2 * n,
        };
        for n in 0..100_000 {
            ranges.set(at(n), Some(Kind::Shared));
        }
        for n in 0..100_000 {
            assert!(ranges.has(at(n), Kind::Shared));
            assert!(!ranges.are_in_the_way(to_the_end(0), Kind::Shared));
        }
        for n in 0..100_000 {
            ranges.set(at(n), None);
        }
        assert!(ranges.is_empty());
    }
}
