//! The newest of what there has been, each written over the oldest one.

use super::crash::point;
use super::words::{get, put};
use super::{Ledger, Region};
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a place before the bytes: the number of what is there, 0 while it is none, and its length.
const HEAD: usize = 2;

/// So many places of the same size.
#[derive(Debug)]
pub(crate) struct Ring {
    places: Vec<&'static [AtomicU64]>,
}

impl Ring {
    /// The `count` places into which `region` is divided.
    pub(crate) fn over(ledger: &'static Ledger, region: Region, count: usize) -> Ring {
        let words = ledger.words(region);
        let places = words.chunks_exact(words.len() / count).take(count);
        Ring {
            places: places.collect(),
        }
    }

    /// Puts what has the number `number`, from 1. What is too long for a place is left out.
    pub(crate) fn put(&self, number: u64, bytes: &[u8]) {
        let place = self.places[(number % self.places.len() as u64) as usize];
        place[0].store(0, Ordering::Release);
        point();
        if HEAD + bytes.len().div_ceil(8) > place.len() {
            return;
        }
        place[1].store(bytes.len() as u64, Ordering::Relaxed);
        put(&place[HEAD..], bytes);
        point();
        place[0].store(number, Ordering::Release);
        point();
    }

    /// What there is, the oldest first, with its number.
    pub(crate) fn all(&self) -> Vec<(u64, Vec<u8>)> {
        let found = self.places.iter().filter_map(|place| {
            let number = place[0].load(Ordering::Acquire);
            let len = usize::try_from(place[1].load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            (number != 0).then(|| (number, get(&place[HEAD..], len)))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by_key(|&(number, _)| number);
        found
    }
}
