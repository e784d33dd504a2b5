//! Changes that must not be made twice, should the server be killed between the change and its answer.
//!
//! Before a change its handler notes what tells later whether it was made ([`Call::begin`]), in memory that a successor
//! finds. That one carries the request out again, finds what was noted ([`Call::begun`]), and looks. What may be repeated
//! without harm (a mode, an owner, bytes at an offset) needs no note: as long as the answer is not known, nobody has been
//! told of anything that a repetition would undo.

use super::Call;
use crate::fs::budget::Charge;
use crate::fs::ids::{Key, Side};
use crate::ledger::flight::BEFORE;
use crate::ledger::flight::tally::{Changer, CountChange};
use crate::sys::stop::{self, StopPoint};
use rustix::io::Errno;

/// The first word of what was noted: something was.
const NOTED: u64 = 1;

/// What a handler notes.
pub(crate) type Before = [u64; BEFORE - 1];

impl<'a> Call<'a> {
    /// The change is about to be made. No system call.
    pub(super) fn begin(&self, before: &[u64]) {
        stop::at(StopPoint::Looked);
        let mut words = [NOTED, 0, 0, 0, 0, 0, 0, 0];
        words[1..=before.len()].copy_from_slice(before);
        let unique = self.frame.head.unique;
        self.flight.begin(unique, &words[..=before.len()]);
        stop::at(StopPoint::Begun);
    }

    /// What a predecessor had noted that was killed when it may have made the change.
    pub(super) fn begun(&self) -> Option<Before> {
        let [NOTED, before @ ..] = self.begun? else {
            return None;
        };
        Some(before)
    }

    /// Who changes a number for this request, and what that is to it: a successor finds out whether it was changed.
    pub(super) fn changes(&self, change: CountChange) -> Changer<'a> {
        Changer::new(self.flight, self.frame.head.unique, change)
    }

    /// Counts an open of the caller. The number of its handle is noted.
    ///
    /// # Errors
    /// ENFILE.
    pub(super) fn charge(&self) -> Result<Charge<'a>, Errno> {
        let head = self.frame.head;
        let charge = self.fs.opens.descriptors.charge(head.uid)?;
        Ok(charge.for_request(self.flight, head.unique))
    }

    /// Notes that handle `fh` was made for the answer.
    pub(super) fn opened(&self, fh: u64) {
        self.flight.opened(self.frame.head.unique, fh);
    }
}

/// What stands for an inode where there was none, or none could be seen.
pub(super) const NOTHING: [u64; 3] = [0; 3];

/// What tells an inode from others.
pub(super) fn words_of(key: Option<&Key>) -> [u64; 3] {
    key.map_or(NOTHING, |key| [key.dev, key.ino, key.generation])
}

/// The reverse of [`words_of`].
pub(super) fn key_of([dev, ino, generation]: [u64; 3], side: Side) -> Key {
    Key {
        side,
        dev,
        ino,
        generation,
    }
}
