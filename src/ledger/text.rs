//! Bytes in words that other processes may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words that `len` bytes take.
pub(super) fn words(len: usize) -> usize {
    len.div_ceil(8)
}

/// Writes `bytes` from the first word on. They fit.
pub(super) fn write(words: &[AtomicU64], bytes: &[u8]) {
    for (word, part) in words.iter().zip(bytes.chunks(8)) {
        word.store(packed(part), Ordering::Relaxed);
    }
}

/// Fills `bytes` from the first word on.
pub(super) fn read(words: &[AtomicU64], bytes: &mut [u8]) {
    for (word, part) in words.iter().zip(bytes.chunks_mut(8)) {
        let word = word.load(Ordering::Relaxed).to_ne_bytes();
        part.copy_from_slice(&word[..part.len()]);
    }
}

/// True if `bytes`, written at once, would change nothing.
pub(super) fn is(words: &[AtomicU64], bytes: &[u8]) -> bool {
    words
        .iter()
        .zip(bytes.chunks(8))
        .all(|(word, part)| word.load(Ordering::Relaxed) == packed(part))
}

fn packed(part: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..part.len()].copy_from_slice(part);
    u64::from_ne_bytes(word)
}
