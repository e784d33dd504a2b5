//! Bytes in words that several processes may look at.

use std::sync::atomic::{AtomicU64, Ordering};

/// Puts `bytes` into `words`, which have room for them.
pub(crate) fn put(words: &[AtomicU64], bytes: &[u8]) {
    put_as(words, bytes, Ordering::Relaxed);
}

/// As [`put`], each word stored in this order to what was stored before it.
pub(crate) fn put_as(words: &[AtomicU64], bytes: &[u8], order: Ordering) {
    for (word, part) in words.iter().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..part.len()].copy_from_slice(part);
        word.store(u64::from_ne_bytes(whole), order);
    }
}

/// Fills `bytes` from the first word on.
pub(crate) fn fill(words: &[AtomicU64], bytes: &mut [u8]) {
    for (word, part) in words.iter().zip(bytes.chunks_mut(8)) {
        let word = word.load(Ordering::Relaxed).to_ne_bytes();
        part.copy_from_slice(&word[..part.len()]);
    }
}

/// True if to put `bytes` would change nothing.
pub(crate) fn are(words: &[AtomicU64], bytes: &[u8]) -> bool {
    words.iter().zip(bytes.chunks(8)).all(|(word, part)| {
        let mut wanted = [0; 8];
        wanted[..part.len()].copy_from_slice(part);
        word.load(Ordering::Relaxed) == u64::from_ne_bytes(wanted)
    })
}

/// Words that `len` bytes take.
pub(crate) const fn taken_by(len: usize) -> usize {
    len.div_ceil(8)
}

/// The first `len` bytes of `words`, as many as there are at most.
pub(crate) fn get(words: &[AtomicU64], len: usize) -> Vec<u8> {
    let words = &words[..len.div_ceil(8).min(words.len())];
    let bytes = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    bytes.take(len).collect()
}
