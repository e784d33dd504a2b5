//! Which numbers below a mark are free, the smallest found first, so that the end of a table becomes empty after a load.

use std::collections::BTreeSet;

/// Numbers that are looked at together: their bits are one word's words.
pub(super) const CHUNK: usize = 64 * 64;

/// Empty chunks whose memory stays: one that fills and empties at its border costs nothing.
const KEPT: usize = 1;

/// Free numbers below the mark. Kept by the process alone, found out at its start.
#[derive(Debug, Default)]
pub(super) struct Free {
    /// A bit for each number, set while it is free.
    words: Vec<u64>,
    /// A bit for each of `words`, set while that has one: a word for each chunk.
    chunks: Vec<u64>,
    /// How many numbers of each chunk are in use.
    used: Vec<u16>,
    /// No chunk before this one has a free number.
    low: usize,
    /// Chunks without a number in use whose memory has not been given back.
    empty: BTreeSet<usize>,
}

impl Free {
    /// The smallest free number.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let chunk = (self.low..self.chunks.len()).find(|&at| self.chunks[at] != 0);
        self.low = chunk.unwrap_or(self.chunks.len());
        let at = chunk? * 64 + self.chunks[chunk?].trailing_zeros() as usize;
        let number = at * 64 + self.words[at].trailing_zeros() as usize;
        self.words[at] &= self.words[at] - 1;
        if self.words[at] == 0 {
            self.chunks[at / 64] &= !(1 << (at % 64));
        }
        self.use_one(number / CHUNK);
        Some(number as u32)
    }

    /// The number `mark`, the first that was never in use, is in use.
    pub(super) fn extend(&mut self, mark: u32) {
        let chunk = mark as usize / CHUNK;
        if chunk == self.chunks.len() {
            self.chunks.push(0);
            self.used.push(0);
            self.words.resize(self.words.len() + 64, 0);
        }
        self.use_one(chunk);
    }

    /// The number `mark`, the first that is not known of, is free.
    pub(super) fn extend_free(&mut self, mark: u32) {
        self.extend(mark);
        self.push(mark);
    }

    fn use_one(&mut self, chunk: usize) {
        if self.used[chunk] == 0 {
            self.empty.remove(&chunk);
        }
        self.used[chunk] += 1;
    }

    /// The number, which was in use, is free.
    pub(super) fn push(&mut self, number: u32) {
        let (number, at) = (number as usize, number as usize / 64);
        let chunk = number / CHUNK;
        debug_assert_eq!(self.words[at] & 1 << (number % 64), 0, "given back once");
        self.words[at] |= 1 << (number % 64);
        self.chunks[chunk] |= 1 << (at % 64);
        self.low = self.low.min(chunk);
        self.used[chunk] -= 1;
        if self.used[chunk] == 0 {
            self.empty.insert(chunk);
        }
    }

    /// The numbers below `mark` that are in use.
    pub(super) fn others(&self, mark: u32) -> Vec<u32> {
        let is_used = |&number: &u32| self.words[number as usize / 64] & 1 << (number % 64) == 0;
        (0..mark).filter(is_used).collect()
    }

    /// A chunk whose memory may be given back; it is all free.
    pub(super) fn empty(&mut self) -> Option<usize> {
        (self.empty.len() > KEPT)
            .then(|| self.empty.pop_last())
            .flatten()
    }

    /// The last chunks are forgotten if nothing in them is in use: the number that the mark may fall to.
    pub(super) fn cut(&mut self) -> Option<u32> {
        let before = self.used.len();
        while self.used.len() > 1 && self.used.last() == Some(&0) {
            self.used.pop();
        }
        let len = self.used.len();
        self.chunks.truncate(len);
        self.words.truncate(len * 64);
        (len < before).then_some((len * CHUNK) as u32)
    }
}
