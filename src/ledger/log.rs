//! A log: entries behind one another, of which one store says how many there are. Whoever is killed while it adds an
//! entry has added it or has not.
//!
//! A log that has grown is written anew, shorter, in the other half of its region; the same store then says that it is
//! that one which counts.

use super::crash::point;
use super::fields::FieldWriter;
use super::words::{get, put};
use super::{Ledger, Region, Unreadable};
use std::sync::atomic::{AtomicU64, Ordering};

/// Set where the second half counts. The rest is the number of words in it.
const SECOND: u64 = 1 << 63;

/// What is no entry.
const BROKEN: Unreadable = Unreadable::Broken("a log");

/// Entries, each of a kind and with fields.
pub(crate) struct Log {
    ledger: &'static Ledger,
    region: Region,
    count: &'static AtomicU64,
    halves: [&'static [AtomicU64]; 2],
}

/// There is no room for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// An entry as it was written down.
pub(crate) struct Entry {
    /// What its writer says with it.
    pub(crate) kind: u32,
    /// Its fields.
    pub(crate) bytes: Vec<u8>,
}

impl Log {
    /// The log in `region`, whose first word says how much of it counts.
    ///
    /// # Errors
    /// [`Unreadable::Broken`]: more than there is room for.
    pub(crate) fn over(ledger: &'static Ledger, region: Region) -> Result<Log, Unreadable> {
        let (count, rest) = ledger.words(region).split_first().ok_or(BROKEN)?;
        let half = rest.len() / 2;
        let log = Log {
            ledger,
            region,
            count,
            halves: [&rest[..half], &rest[half..2 * half]],
        };
        match log.len() <= half {
            true => Ok(log),
            false => Err(BROKEN),
        }
    }

    /// How many bytes of entries there can be.
    pub(crate) fn room(&self) -> usize {
        size_of_val(self.halves[0])
    }

    /// How many words it has.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.count.load(Ordering::Acquire) & !SECOND).unwrap_or(usize::MAX)
    }

    fn half(&self) -> usize {
        usize::from(self.count.load(Ordering::Acquire) & SECOND != 0)
    }

    /// Hands every entry to `each`, in order.
    ///
    /// # Errors
    /// [`Unreadable::Broken`], and what `each` answers.
    pub(crate) fn read(
        &self,
        mut each: impl FnMut(Entry) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let mut words = &self.halves[self.half()][..self.len()];
        while let Some((head, rest)) = words.split_first() {
            let head = head.load(Ordering::Relaxed);
            let len = head as u32 as usize;
            let body = rest.get(..len.div_ceil(8)).ok_or(BROKEN)?;
            each(Entry {
                kind: (head >> 32) as u32,
                bytes: get(body, len),
            })?;
            words = &rest[body.len()..];
        }
        Ok(())
    }

    /// Adds an entry, and keeps `spare` words free.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub(crate) fn add(
        &mut self,
        kind: u32,
        fields: &FieldWriter,
        spare: usize,
    ) -> Result<(), Full> {
        let (half, len) = (self.half(), self.len());
        let len = write(self.halves[half], len, (kind, fields), spare)?;
        self.commit(half, len);
        Ok(())
    }

    /// Replaces all that there is by `entries`.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub(crate) fn begin_anew(
        &mut self,
        entries: impl Iterator<Item = (u32, FieldWriter)>,
        spare: usize,
    ) -> Result<(), Full> {
        let (old, old_len) = (self.half(), self.len());
        let half = 1 - old;
        let mut len = 0;
        for (kind, fields) in entries {
            len = write(self.halves[half], len, (kind, &fields), spare)?;
        }
        self.commit(half, len);
        let first = size_of::<AtomicU64>() * (1 + old * self.halves[0].len());
        let bytes = size_of::<AtomicU64>() * old_len;
        self.ledger.free(self.region, first, bytes);
        Ok(())
    }

    fn commit(&self, half: usize, len: usize) {
        point();
        let half = if half == 0 { 0 } else { SECOND };
        self.count.store(half | len as u64, Ordering::Release);
        point();
    }
}

/// Writes an entry behind the first `len` words. Answers how many there are with it.
fn write(
    words: &[AtomicU64],
    len: usize,
    (kind, fields): (u32, &FieldWriter),
    spare: usize,
) -> Result<usize, Full> {
    let bytes = fields.bytes();
    let size = u32::try_from(bytes.len()).map_err(|_| Full)?;
    let end = len + 1 + bytes.len().div_ceil(8);
    if end + spare > words.len() {
        return Err(Full);
    }
    let head = u64::from(kind) << 32 | u64::from(size);
    words[len].store(head, Ordering::Relaxed);
    put(&words[len + 1..end], bytes);
    Ok(end)
}
