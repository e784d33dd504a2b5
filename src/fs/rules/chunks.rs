//! A vector whose copies share their content, for rule trees that change one entry at a time.

use std::sync::Arc;

/// Entries per chunk. A change copies one chunk and the list of chunks: with 10,000 entries that is 64 entries and 157
/// counted pointers, a few microseconds, where a plain vector would copy everything.
const CHUNK: usize = 64;

/// A vector of shared chunks. `clone` costs one counted pointer per 64 entries; changing an entry of a copy leaves the
/// original untouched.
#[derive(Clone, Debug)]
pub(in crate::fs) struct Chunks<T> {
    spine: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T: Clone> Chunks<T> {
    /// No entries.
    pub(in crate::fs) const fn new() -> Self {
        Chunks {
            spine: Vec::new(),
            len: 0,
        }
    }

    /// `len` copies of `entry`; full chunks start out as one shared chunk.
    pub(in crate::fs) fn filled(len: usize, entry: T) -> Self {
        let full = Arc::new(vec![entry.clone(); CHUNK.min(len)]);
        let mut spine = vec![full; len / CHUNK];
        if len % CHUNK != 0 {
            spine.push(Arc::new(vec![entry; len % CHUNK]));
        }
        Chunks { spine, len }
    }

    /// The number of entries.
    pub(in crate::fs) fn len(&self) -> usize {
        self.len
    }

    /// Entry `at`, or `None` beyond the end.
    pub(in crate::fs) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.spine.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// Entry `at` for changing, copying its chunk first where another vector shares it.
    pub(in crate::fs) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        Arc::make_mut(self.spine.get_mut(at / CHUNK)?).get_mut(at % CHUNK)
    }

    /// Appends `entry` and returns its index.
    ///
    /// # Panics
    ///
    /// When the vector would hold 2^32 - 1 entries: the largest index is kept free to mean "none".
    pub(in crate::fs) fn push(&mut self, entry: T) -> u32 {
        let at = u32::try_from(self.len).ok().filter(|at| *at != u32::MAX);
        let at = at.expect("the bound on the configuration's size keeps the count far below 2^32");
        if self.len % CHUNK == 0 {
            self.spine.push(Arc::new(Vec::with_capacity(CHUNK)));
        }
        if let Some(last) = self.spine.last_mut() {
            Arc::make_mut(last).push(entry);
        }
        self.len += 1;
        at
    }

    /// All entries in order.
    pub(in crate::fs) fn iter(&self) -> impl Iterator<Item = &T> {
        self.spine.iter().flat_map(|chunk| chunk.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::Chunks;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_changed_copy_leaves_the_original_as_it_was(
            entries in proptest::collection::vec(any::<u16>(), 0..300),
            change in any::<u32>(),
        ) {
            let mut first = Chunks::new();
            for (index, entry) in entries.iter().enumerate() {
                prop_assert_eq!(first.push(*entry), index as u32);
            }
            let mut second = first.clone();
            second.push(7);
            let changed = change % (entries.len() as u32 + 1);
            *second.get_mut(changed).unwrap() = 9;
            prop_assert_eq!(first.iter().copied().collect::<Vec<_>>(), entries.clone());
            let mut expected = entries;
            expected.push(7);
            expected[changed as usize] = 9;
            prop_assert_eq!(second.len(), expected.len());
            prop_assert_eq!(second.get(second.len() as u32), None);
            prop_assert_eq!(second.iter().copied().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_filled_vector_holds_its_length_and_no_shared_surprise(len in 0_usize..300) {
            let mut filled = Chunks::filled(len, 5_u8);
            prop_assert_eq!(filled.iter().count(), len);
            if let Some(first) = filled.get_mut(0) {
                *first = 6;
                prop_assert_eq!(filled.iter().filter(|entry| **entry == 6).count(), 1);
            }
            prop_assert_eq!(filled.push(1) as usize, len);
        }
    }
}
