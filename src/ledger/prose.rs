//! Regions that hold one text each.

use super::{Ledger, Region};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

impl Ledger {
    /// Writes a text in place of the one that a region of text holds; what has no room is left out.
    pub(crate) fn write(&self, region: Region, text: &[u8]) {
        let (len, bytes) = self.text(region);
        let text = &text[..text.len().min(bytes.len())];
        len.store(0, Ordering::Release);
        for (at, byte) in text.iter().enumerate() {
            bytes[at].store(*byte, Ordering::Relaxed);
        }
        len.store(text.len() as u64, Ordering::Release);
    }

    /// The text that a region of text holds.
    pub(crate) fn read(&self, region: Region) -> Vec<u8> {
        let (len, bytes) = self.text(region);
        let len = usize::try_from(len.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        let text = bytes[..len.min(bytes.len())].iter();
        text.map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    /// The length and the bytes of a region of text.
    fn text(&self, region: Region) -> (&'static AtomicU64, &'static [AtomicU8]) {
        let (first, room) = self.place(region);
        let head = size_of::<AtomicU64>();
        let bytes = self.memory.records(first + head, room - head);
        (&self.memory.records(first, 1)[0], bytes)
    }
}
