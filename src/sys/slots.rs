//! Pieces of shared memory of one size, each lent to one owner at a time.
#![allow(unsafe_code)]

use super::shared::Shared;
use rustix::param::page_size;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pieces of one range.
#[derive(Debug)]
pub(crate) struct Slots {
    memory: &'static Shared,
    first: usize,
    /// Bytes of a piece, a multiple of 8.
    each: usize,
    base: NonNull<u8>,
    /// A bit for each piece: it is lent.
    lent: Box<[AtomicU64]>,
    count: usize,
}

// SAFETY: the range is this value's alone, and a piece of it is reached through the one `LentPiece` that has it only.
unsafe impl Send for Slots {}
// SAFETY: as above; which pieces are lent is changed by atomics.
unsafe impl Sync for Slots {}

/// A piece, for as long as it is lent.
#[derive(Debug)]
pub(crate) struct LentPiece {
    slots: Arc<Slots>,
    number: usize,
    /// Bytes from the beginning on that have been in use, as far as the owner has said.
    used: usize,
}

impl Slots {
    /// `count` pieces of `each` bytes from byte `first` of `memory` on.
    ///
    /// # Panics
    /// As [`Shared::bytes`], and if the pieces would not be aligned for 64-bit words.
    pub(crate) fn new(memory: &'static Shared, first: usize, each: usize, count: usize) -> Slots {
        assert!(each % 8 == 0 && first % 8 == 0, "aligned");
        let range = memory.bytes(first, each * count);
        Slots {
            memory,
            first,
            each,
            base: NonNull::from(range).cast(),
            lent: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            count,
        }
    }

    /// Gives the memory of the pieces from number `first` on back. None of them may be lent.
    pub(crate) fn give_back(&self, first: usize) {
        let first = first.min(self.count);
        let len = (self.count - first) * self.each;
        self.memory.give_back(self.first + first * self.each, len);
    }

    /// Piece `number`, with what was left in it.
    ///
    /// # Panics
    /// If there is none, or somebody has it.
    pub(crate) fn lend(self: &Arc<Slots>, number: usize) -> LentPiece {
        assert!(number < self.count, "there is no such piece");
        let bit = 1 << (number % 64);
        let before = self.lent[number / 64].fetch_or(bit, Ordering::AcqRel);
        assert_eq!(before & bit, 0, "somebody has that piece");
        LentPiece {
            slots: self.clone(),
            number,
            used: 0,
        }
    }
}

impl LentPiece {
    /// Its number.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn at(&self) -> *mut u8 {
        // SAFETY: `number` is below `count`, so this is within the range.
        unsafe { self.slots.base.as_ptr().add(self.number * self.slots.each) }
    }

    /// Makes the first `len` bytes zero, so that all their pages are there: who is killed in a system call that writes to a
    /// page that is not there has that call fail half-way.
    pub(crate) fn make_present(&mut self, len: usize) {
        self[..len].fill(0);
        self.note_used(len);
    }

    /// Notes that so many bytes from the beginning on have been in use.
    pub(crate) fn note_used(&mut self, len: usize) {
        self.used = self.used.max(len);
    }

    /// Gives the memory behind the first `keep` bytes back, as far as it was noted as in use.
    pub(crate) fn give_back(&mut self, keep: usize) {
        if self.used <= keep {
            return;
        }
        let first = self.slots.first + self.number * self.slots.each;
        let end = self.used.next_multiple_of(page_size()).min(self.slots.each);
        self.slots.memory.give_back(first + keep, end - keep);
        self.used = keep;
    }
}

impl Deref for LentPiece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped for ever, this piece is this value's alone, and any bytes are bytes.
        unsafe { std::slice::from_raw_parts(self.at(), self.slots.each) }
    }
}

impl DerefMut for LentPiece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.at(), self.slots.each) }
    }
}

impl Drop for LentPiece {
    fn drop(&mut self) {
        let bit = 1 << (self.number % 64);
        self.slots.lent[self.number / 64].fetch_and(!bit, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Arc<Slots> {
        let memory = Box::leak(Box::new(Shared::private(1 << 20).unwrap()));
        Arc::new(Slots::new(memory, 65536, 8192, 8))
    }

    #[test]
    fn a_piece_is_lent_again_with_what_was_left_in_it() {
        let slots = slots();
        let mut piece = slots.lend(3);
        piece[8191] = 7;
        let other = slots.lend(4);
        assert_eq!((piece.len(), other[0]), (8192, 0));
        drop(piece);
        let mut piece = slots.lend(3);
        assert_eq!(piece[8191], 7);
        piece.note_used(8192);
        piece.give_back(4096);
        assert_eq!((piece[8191], piece.used), (0, 4096));
    }

    #[test]
    #[should_panic(expected = "somebody has that piece")]
    fn a_piece_has_one_owner() {
        let slots = slots();
        let _one = slots.lend(1);
        slots.lend(1);
    }
}
