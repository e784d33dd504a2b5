//! The requests that were read and are not answered: where they lie.

use super::buffer::{Buffer, PRESENT};
use super::head;
use super::pieces::{Piece, Pieces};
use crate::ledger::Ledger;
use crate::ledger::flight::{Flight, MESSAGES};
use etcfs_proto::Frame;
use std::sync::Arc;

/// The class of the pieces that threads read into.
const LARGE: usize = MESSAGES.len() - 1;

/// Where requests lie.
pub(crate) struct Flights(Arc<Pieces>);

impl Flights {
    /// Those of `ledger`, with what a predecessor has left.
    pub(crate) fn over(ledger: &'static Ledger) -> Flights {
        Flights(Pieces::over(ledger))
    }

    /// Room for a thread that reads requests of up to `len` bytes.
    pub(crate) fn to_read_into(&self, len: usize) -> Buffer {
        let piece = self
            .0
            .take(LARGE)
            .filter(|piece| piece.bytes().len() >= len);
        let Some(mut piece) = piece else {
            return Buffer::own(len);
        };
        if self.0.can_be_left() {
            piece.make_present(PRESENT);
        }
        let mut buffer = Buffer::in_piece(piece, len);
        buffer.empty();
        buffer.flight().take();
        buffer
    }

    /// A copy of `message`, read at `taken` into what has `flight`, for somebody who goes on with it.
    pub(crate) fn copy(&self, message: &[u8], taken: u64, flight: &Flight) -> Buffer {
        let len = message.len();
        let mut classes = (0..MESSAGES.len()).filter(|class| MESSAGES[*class].2 >= len);
        let piece = classes.find_map(|class| self.0.take(class));
        let mut buffer = match piece {
            Some(piece) => Buffer::in_piece(piece, len),
            None => Buffer::own(len),
        };
        buffer.taken = taken;
        buffer.bytes_mut().copy_from_slice(message);
        buffer.note_used(len);
        buffer.flight().take();
        // From here on a successor finds it there, and before it has found it here.
        flight.hand_on(head::unique_of(message).unwrap_or(0));
        buffer
    }

    /// What those requests are that a process was working on which has ended, in words.
    pub(crate) fn in_words(ledger: &'static Ledger) -> Vec<String> {
        let words = |buffer: &Buffer| {
            let frame = Frame::cut(buffer.bytes()).ok()?;
            let head = frame.head;
            Some(format!(
                "{} of node {} for pid {} uid {}",
                frame.opcode(),
                head.nodeid,
                head.pid,
                head.uid
            ))
        };
        let left = Flights::over(ledger).left();
        left.iter().filter_map(words).collect()
    }

    /// What a predecessor has left, each with its message. To be called before anything else.
    pub(crate) fn left(&self) -> Vec<Buffer> {
        let with_message = |piece: Piece| {
            let len = head::len_of(piece.bytes()).min(piece.bytes().len());
            let mut buffer = Buffer::in_piece(piece, len);
            buffer.note_used(len);
            let unique = head::unique_of(buffer.bytes());
            let is_here = unique.is_some_and(|unique| !buffer.flight().is_handed_on(unique));
            is_here.then_some(buffer)
        };
        self.0.left().into_iter().filter_map(with_message).collect()
    }
}
