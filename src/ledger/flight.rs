//! What is known of a request that was read: the message itself lies in a piece of memory of the same number, and here what
//! its handler has said about what it is about to change, and what came of that.
//!
//! A request that its server was killed over is found here by the successor, which makes its answer: see `session::recover`.
//! The words of an intent, of a note and of the progress bear the request's number, so that a worker that reads the next
//! request has nothing to clear. Only a state word is looked at by somebody else than its writer, after that one's end; so
//! the order that the compiler keeps is the one that is needed, and costs nothing.

pub(crate) mod tally;

use super::region::Region;
use super::table::FlatRecord;
use super::words;
use etcfs_proto::abi::UNIQUE_RESEND;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::{FromBytes, IntoBytes as _};

/// How many messages there may be of each size, and what room each has in bytes. A WRITE of 1 MiB is the largest request
/// that is agreed on.
pub(crate) const MESSAGES: [(Region, usize, usize); 3] = [
    (Region::SmallFlights, 16_384, 1 << 10),
    (Region::MiddleFlights, 1024, 68 << 10),
    (Region::LargeFlights, 256, 1040 << 10),
];

/// The records of the messages of one size, and their room in bytes.
pub(super) const fn records(index: usize) -> (Region, usize) {
    let (region, count, _) = MESSAGES[index];
    (region, count * size_of::<Flight>())
}

/// The room of all messages, in bytes.
pub(super) const fn messages() -> usize {
    let (mut len, mut index) = (0, 0);
    while index < MESSAGES.len() {
        len += MESSAGES[index].1 * MESSAGES[index].2;
        index += 1;
    }
    len
}

/// Words of what a handler notes of the state before its change.
pub(crate) const BEFORE: usize = 8;

/// The longest body of an answer that is kept, in bytes: that of CREATE has 144.
pub(crate) const BODY: usize = 256;

/// [`Flight::stage`]: the change has not been begun.
const NONE: u32 = 0;
/// It may have been made.
const BEGUN: u32 = 1;
/// It has been made or refused, and the answer is known.
const DONE: u32 = 2;

/// The number of a request, whether the kernel has sent it again or not.
pub(crate) fn number(unique: u64) -> u64 {
    unique & !UNIQUE_RESEND
}

/// One request that was read. All zero: there is none.
#[derive(Debug, FromBytes)]
#[repr(C, align(64))]
pub(crate) struct Flight {
    /// 1: somebody has the piece of memory, which has a message if its length is not 0.
    state: AtomicU32,
    stage: AtomicU32,
    /// Whose `stage`, `before`, `errno` and `body` are.
    of: AtomicU64,
    errno: AtomicU32,
    body_len: AtomicU32,
    /// How far it has come, and whose that is.
    progress: AtomicU64,
    progress_of: AtomicU64,
    /// A node of which a lookup was counted, and for whom.
    given: AtomicU64,
    given_of: AtomicU64,
    /// A handle that was made, and for whom.
    handle: AtomicU64,
    handle_of: AtomicU64,
    /// The request whose copy somebody else goes on with.
    handed_on: AtomicU64,
    before: [AtomicU64; BEFORE],
    body: [AtomicU64; BODY / 8],
    /// What of [`tally`] its request is changing, and for whom: see there.
    tally: AtomicU64,
    tally_of: AtomicU64,
    tally_node: AtomicU64,
    tally_fh: AtomicU64,
    tally_step: AtomicU64,
    tally_before: AtomicU64,
    rest: [AtomicU64; 6],
    #[cfg(feature = "other-state")]
    later: [AtomicU64; 8],
}

impl FlatRecord for Flight {
    fn is_used(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }
}

/// What is known of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Intent {
    /// It may have been made. What was noted before.
    Begun([u64; BEFORE]),
    /// Its answer: an errno or 0, and the body.
    Done(i32, Vec<u8>),
}

impl Flight {
    /// The piece of memory has an owner.
    pub(crate) fn take(&self) {
        self.stage.store(NONE, Ordering::Relaxed);
        let words = [
            &self.of,
            &self.progress_of,
            &self.given_of,
            &self.handle_of,
            &self.handed_on,
            &self.tally,
        ];
        for of in words {
            of.store(0, Ordering::Relaxed);
        }
        self.state.store(1, Ordering::Release);
    }

    /// It has none.
    pub(crate) fn end(&self) {
        self.state.store(0, Ordering::Release);
    }

    /// Request `unique` is about to change something; `before` tells later whether it has.
    pub(crate) fn begin(&self, unique: u64, before: &[u64]) {
        self.stage.store(NONE, Ordering::Release);
        for (word, value) in self.before.iter().zip(before) {
            word.store(*value, Ordering::Release);
        }
        self.of.store(number(unique), Ordering::Release);
        self.stage.store(BEGUN, Ordering::Release);
    }

    /// The answer to `unique`, if its change has been begun: an errno or 0, and the body. A longer one is not kept.
    pub(crate) fn answered(&self, unique: u64, errno: i32, body: &[u8]) {
        let is_begun = self.stage.load(Ordering::Relaxed) == BEGUN
            && self.of.load(Ordering::Relaxed) == number(unique);
        if !is_begun || body.len() > BODY {
            return;
        }
        words::put_as(&self.body, body, Ordering::Release);
        self.errno.store(errno as u32, Ordering::Release);
        self.body_len.store(body.len() as u32, Ordering::Release);
        self.stage.store(DONE, Ordering::Release);
    }

    /// What is known of the change that `unique` asks for; `None`: it has not been begun.
    pub(crate) fn intent(&self, unique: u64) -> Option<Intent> {
        if self.of.load(Ordering::Acquire) != number(unique) {
            return None;
        }
        match self.stage.load(Ordering::Acquire) {
            BEGUN => {
                let word = |index: usize| self.before[index].load(Ordering::Relaxed);
                Some(Intent::Begun(std::array::from_fn(word)))
            }
            DONE => {
                let words: Vec<u64> = self
                    .body
                    .iter()
                    .map(|w| w.load(Ordering::Relaxed))
                    .collect();
                let len = self.body_len.load(Ordering::Relaxed) as usize;
                let errno = self.errno.load(Ordering::Relaxed) as i32;
                let body = words.as_bytes().get(..len).unwrap_or_default();
                Some(Intent::Done(errno, body.to_vec()))
            }
            _ => None,
        }
    }

    /// Another flight is that of `unique` from here on.
    pub(crate) fn hand_on(&self, unique: u64) {
        self.handed_on.store(number(unique), Ordering::Release);
    }

    /// True if another flight is that of `unique`.
    pub(crate) fn is_handed_on(&self, unique: u64) -> bool {
        self.handed_on.load(Ordering::Relaxed) == number(unique)
    }

    /// The node that was given with the answer to `unique`: of which a lookup was counted.
    pub(crate) fn given(&self, unique: u64) -> Option<u64> {
        noted(&self.given, &self.given_of, unique)
    }

    /// Handle `fh` was made for `unique`.
    pub(crate) fn opened(&self, unique: u64, fh: u64) {
        note(&self.handle, fh, &self.handle_of, unique);
    }

    /// The handle that was made for `unique`.
    pub(crate) fn handle(&self, unique: u64) -> Option<u64> {
        noted(&self.handle, &self.handle_of, unique)
    }

    /// What was given with an answer and made for it has been taken back.
    pub(crate) fn is_taken_back(&self) {
        self.handle_of.store(0, Ordering::Release);
        self.given_of.store(0, Ordering::Release);
    }

    /// `unique` is about to take step number `step`, from 1, which is not to be taken twice.
    pub(crate) fn step(&self, unique: u64, step: u64) {
        note(&self.progress, step, &self.progress_of, unique);
    }

    /// How many steps of `unique` have been taken, or begun.
    pub(crate) fn steps(&self, unique: u64) -> u64 {
        noted(&self.progress, &self.progress_of, unique).unwrap_or(0)
    }
}

fn note(to: &AtomicU64, value: u64, of: &AtomicU64, unique: u64) {
    of.store(0, Ordering::Release);
    to.store(value, Ordering::Release);
    of.store(number(unique), Ordering::Release);
}

fn noted(at: &AtomicU64, of: &AtomicU64, unique: u64) -> Option<u64> {
    (of.load(Ordering::Acquire) == number(unique)).then(|| at.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn what_is_noted_is_known_of_that_request_alone() {
        let flight = Flight::new_box_zeroed().unwrap();
        flight.take();
        assert_eq!(flight.intent(2), None);
        flight.begin(2, &[7, 8]);
        assert_eq!(
            flight.intent(2 | UNIQUE_RESEND),
            Some(Intent::Begun([7, 8, 0, 0, 0, 0, 0, 0]))
        );
        flight.answered(4, 0, b"other");
        flight.answered(2, 17, b"0123456789a");
        assert_eq!(
            flight.intent(2),
            Some(Intent::Done(17, b"0123456789a".to_vec()))
        );
        assert_eq!(flight.intent(4), None);
        flight.opened(4, 9);
        flight.step(4, 3);
        assert_eq!((flight.handle(4), flight.handle(2)), (Some(9), None));
        flight.is_taken_back();
        assert_eq!(flight.handle(4), None);
        assert_eq!((flight.steps(4), flight.steps(2)), (3, 0));
        flight.end();
        flight.take();
        assert_eq!((flight.intent(2), flight.steps(4)), (None, 0));
    }

    #[test]
    fn a_record_has_its_place() {
        assert_eq!(size_of::<Flight>(), 512);
    }
}
