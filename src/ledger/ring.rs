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

/// Behind so many empty places nothing was ever put: they are filled one after the other, and few things are too long for one.
/// A look at a page that was never written makes one, in a file.
const GAP: usize = 16;

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
        let mut found = Vec::new();
        let mut empty = 0;
        for index in 1..=self.places.len() {
            let place = self.places[index % self.places.len()];
            let number = place[0].load(Ordering::Acquire);
            if number != 0 {
                let len = usize::try_from(place[1].load(Ordering::Relaxed)).unwrap_or(usize::MAX);
                found.push((number, get(&place[HEAD..], len)));
                empty = 0;
                continue;
            }
            empty += 1;
            if empty == GAP {
                break;
            }
        }
        found.sort_unstable_by_key(|&(number, _)| number);
        found
    }
}
