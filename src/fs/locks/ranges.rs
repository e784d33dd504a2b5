//! The POSIX locks of one owner on one file: ranges that never overlap.

use super::kept::KeptOwner;
use crate::ledger::lock::NONE;
use crate::sys::lock::{LockKind, Range};
use std::collections::BTreeMap;

/// Locked ranges. No byte is in two of them, and two of one kind never touch, as in the kernel's own list.
///
/// Each kind has an ordered map of its own, so that what is in the way of a reader is found in as few steps as what is in
/// the way of a writer, however many others read.
#[derive(Default)]
pub(crate) struct Ranges {
    shared: Set,
    exclusive: Set,
    /// Where they are written down, if anywhere.
    kept: Option<KeptOwner>,
}

impl Ranges {
    /// None, which are written down as those of `kept`.
    pub(super) fn kept_by(kept: KeptOwner) -> Ranges {
        Ranges {
            kept: Some(kept),
            ..Ranges::default()
        }
    }

    /// Those that `kept` has written down: `pieces`, each with the number of its record. `torn`: somebody may have been at
    /// changing them.
    ///
    /// # Errors
    /// What they contradict.
    pub(super) fn restored(
        kept: KeptOwner,
        mut pieces: Vec<(Range, LockKind, u32)>,
        torn: bool,
    ) -> Result<Ranges, &'static str> {
        pieces.sort_unstable_by_key(|(range, ..)| range.first);
        let mut ranges = Ranges::kept_by(kept.clone());
        for (range, kind, slot) in pieces {
            let set = ranges.set_of(kind);
            let before = set.0.last_entry();
            match before {
                // Nothing follows the last byte of all.
                Some(mut before) if before.get().last + 1 >= range.first => {
                    if !torn {
                        return Err("locked ranges overlap");
                    }
                    if before.get().last < range.last {
                        before.get_mut().last = range.last;
                        kept.set_last(before.get().slot, range.last);
                    }
                    kept.end_range(slot);
                }
                _ => drop(set.0.insert(
                    range.first,
                    HeldRange {
                        last: range.last,
                        slot,
                    },
                )),
            }
        }
        Ok(ranges)
    }

    /// True if a byte is in ranges of both kinds: one is about to replace the other.
    pub(super) fn contradict(&self) -> bool {
        let mut shared = self.shared.0.iter();
        shared.any(|(&first, piece)| {
            self.exclusive.overlaps(Range {
                first,
                last: piece.last,
            })
        })
    }

    /// True if all of `range` is locked as `kind`.
    pub(super) fn cover(&self, range: Range, kind: LockKind) -> bool {
        let held = match kind {
            LockKind::Shared => self.shared.up_to(range.first),
            LockKind::Exclusive => self.exclusive.up_to(range.first),
        };
        held.is_some_and(|held| held.last >= range.last)
    }

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
        let kept = self.kept.as_ref();
        for set in [&mut self.shared, &mut self.exclusive] {
            for piece in std::mem::take(&mut set.0).into_values() {
                kept.inspect(|kept| kept.end_range(piece.slot));
            }
        }
    }

    /// Locks (`Some`) or unlocks (`None`) a range: what it covers takes the new state, the rest of a range that it cuts
    /// keeps the old one (`posix_lock_inode` of `fs/locks.c` does the same to the lower file).
    pub(crate) fn set(&mut self, range: Range, kind: Option<LockKind>) {
        let kept = self.kept.clone();
        let kept = kept.as_ref();
        // First, and whole: see `kept`.
        let noted = kind.map(|kind| (kind, kept.map_or(NONE, |kept| kept.put_range(range, kind))));
        self.shared
            .cut(range, kept.map(|kept| (kept, LockKind::Shared)));
        self.exclusive
            .cut(range, kept.map(|kept| (kept, LockKind::Exclusive)));
        if let Some((kind, slot)) = noted {
            self.set_of(kind).join(range, slot, kept);
        }
    }

    fn set_of(&mut self, kind: LockKind) -> &mut Set {
        match kind {
            LockKind::Shared => &mut self.shared,
            LockKind::Exclusive => &mut self.exclusive,
        }
    }

    /// How many more ranges [`Ranges::set`] may leave behind at most: a lock adds itself and may cut another one in two, and
    /// what is unlocked may be the middle of one.
    pub(crate) fn growth(&self, range: Range, kind: Option<LockKind>) -> usize {
        match kind {
            Some(_) => 2,
            None => usize::from(self.shared.surrounds(range) || self.exclusive.surrounds(range)),
        }
    }

    /// True if a lock of another owner on `range` would have to wait for one of these.
    pub(crate) fn are_in_the_way(&self, range: Range, kind: LockKind) -> bool {
        self.exclusive.overlaps(range)
            || (kind == LockKind::Exclusive && self.shared.overlaps(range))
    }

    /// What is locked for reading, in order.
    pub(crate) fn shared(&self) -> impl Iterator<Item = Range> {
        self.shared.all()
    }

    /// What is locked of `range`, and how.
    pub(super) fn within(&self, range: Range) -> Vec<(Range, LockKind)> {
        let cut = |held: Range| Range {
            first: held.first.max(range.first),
            last: held.last.min(range.last),
        };
        let shared = self
            .shared
            .within(range)
            .map(|held| (cut(held), LockKind::Shared));
        let exclusive = self.exclusive.within(range);
        let exclusive = exclusive.map(|held| (cut(held), LockKind::Exclusive));
        shared.chain(exclusive).collect()
    }

    /// True if exactly that is locked.
    pub(crate) fn has(&self, range: Range, kind: LockKind) -> bool {
        let set = match kind {
            LockKind::Shared => &self.shared,
            LockKind::Exclusive => &self.exclusive,
        };
        set.0
            .get(&range.first)
            .is_some_and(|piece| piece.last == range.last)
    }

    /// The parts of `range` that are not locked.
    pub(crate) fn gaps(&self, range: Range) -> Vec<Range> {
        let mut free = Set::default();
        free.join(range, NONE, None);
        for held in self
            .shared
            .within(range)
            .chain(self.exclusive.within(range))
        {
            free.cut(held, None);
        }
        free.within(range).collect()
    }
}

/// Ranges of one kind, by their first bytes.
#[derive(Default)]
struct Set(BTreeMap<u64, HeldRange>);

/// One of them.
struct HeldRange {
    /// Its last byte, included.
    last: u64,
    /// The number of its record.
    slot: u32,
}

impl Set {
    fn all(&self) -> impl Iterator<Item = Range> {
        let all = self.0.iter();
        all.map(|(&first, piece)| Range {
            first,
            last: piece.last,
        })
    }

    /// The last range that begins at `at` or before.
    fn up_to(&self, at: u64) -> Option<Range> {
        let (&first, piece) = self.0.range(..=at).next_back()?;
        Some(Range {
            first,
            last: piece.last,
        })
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
        held.map(|(&first, piece)| Range {
            first,
            last: piece.last,
        })
    }

    /// Takes `range` out.
    fn cut(&mut self, range: Range, kept: Option<(&KeptOwner, LockKind)>) {
        while let Some((&first, piece)) = self.0.range(..=range.last).next_back() {
            let (last, slot) = (piece.last, piece.slot);
            if last < range.first {
                break;
            }
            if last > range.last {
                let rest = Range {
                    first: range.last + 1,
                    last,
                };
                let slot = kept.map_or(NONE, |(kept, kind)| kept.put_range(rest, kind));
                self.0.insert(rest.first, HeldRange { last, slot });
            }
            if first < range.first {
                let last = range.first - 1;
                self.0.insert(first, HeldRange { last, slot });
                kept.inspect(|(kept, _)| kept.set_last(slot, last));
            } else {
                self.0.remove(&first);
                kept.inspect(|(kept, _)| kept.end_range(slot));
            }
        }
    }

    /// Puts `range` in, of which nothing is there and which record `slot` says; what it touches becomes one with it.
    fn join(&mut self, mut range: Range, slot: u32, kept: Option<&KeptOwner>) {
        let before = self.up_to(range.first);
        let before = before.filter(|before| before.last + 1 == range.first);
        let after = range.last + 1;
        if let Some(before) = before {
            range.first = before.first;
            kept.inspect(|kept| kept.set_first(slot, range.first));
        }
        if let Some(after) = self.0.get(&after) {
            range.last = after.last;
            kept.inspect(|kept| kept.set_last(slot, range.last));
        }
        let joined = [before.map(|before| before.first), Some(after)];
        for first in joined.into_iter().flatten() {
            if let Some(piece) = self.0.remove(&first) {
                kept.inspect(|kept| kept.end_range(piece.slot));
            }
        }
        let last = range.last;
        self.0.insert(range.first, HeldRange { last, slot });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: u64 = 24;

    fn kind() -> impl Strategy<Value = Option<LockKind>> {
        prop_oneof![
            Just(None),
            Just(Some(LockKind::Shared)),
            Just(Some(LockKind::Exclusive))
        ]
    }

    fn range() -> impl Strategy<Value = Range> {
        (0..SPAN, 0..SPAN).prop_map(|(a, b)| Range {
            first: a.min(b),
            last: a.max(b),
        })
    }

    /// The runs of equal bytes, as ranges.
    fn runs(bytes: &[Option<LockKind>]) -> Vec<(Range, Option<LockKind>)> {
        let mut runs: Vec<(Range, Option<LockKind>)> = Vec::new();
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
                let exclusive = looked_at.contains(&Some(LockKind::Exclusive));
                let shared = looked_at.contains(&Some(LockKind::Shared));
                prop_assert_eq!(ranges.are_in_the_way(asked, LockKind::Shared), exclusive);
                prop_assert_eq!(ranges.are_in_the_way(asked, LockKind::Exclusive), exclusive || shared);
                let mut covered = bytes;
                for gap in ranges.gaps(asked) {
                    prop_assert!(gap.first >= asked.first && gap.last <= asked.last);
                    let gap = &mut covered[gap.first as usize..=gap.last as usize];
                    prop_assert!(gap.iter().all(Option::is_none));
                    gap.fill(Some(LockKind::Shared));
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
        ranges.set(to_the_end(0), Some(LockKind::Shared));
        ranges.set(to_the_end(10), None);
        assert_eq!(ranges.len(), 1);
        assert!(ranges.has(Range { first: 0, last: 9 }, LockKind::Shared));
        ranges.set(to_the_end(5), Some(LockKind::Exclusive));
        assert!(ranges.are_in_the_way(to_the_end(END), LockKind::Shared));
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
            ranges.set(at(n), Some(LockKind::Shared));
        }
        for n in 0..100_000 {
            assert!(ranges.has(at(n), LockKind::Shared));
            assert!(!ranges.are_in_the_way(to_the_end(0), LockKind::Shared));
        }
        for n in 0..100_000 {
            ranges.set(at(n), None);
        }
        assert!(ranges.is_empty());
    }
}
