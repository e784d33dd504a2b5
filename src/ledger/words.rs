//! Bytes in words that several processes may look at.

use std::sync::atomic::{AtomicU64, Ordering};

/// Puts `bytes` into `words`, which have room for them.
pub(crate) fn put(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}

/// The first `len` bytes of `words`, as many as there are at most.
pub(crate) fn get(words: &[AtomicU64], len: usize) -> Vec<u8> {
    let words = &words[..len.div_ceil(8).min(words.len())];
    let bytes = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    bytes.take(len).collect()
}
