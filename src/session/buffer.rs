//! Room for one message, and what is known of its request: in the ledger, where a successor finds both.

use super::pieces::Piece;
use crate::ledger::flight::Flight;
use etcfs_proto::abi::UNIQUE_RESEND;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Bytes at the beginning of a buffer for reading that are there from the start: the kernel fails a request when whoever reads
/// it is killed while a page has to be made for it (`get_user_pages`), and all but large WRITEs fit these.
pub(super) const PRESENT: usize = 32 << 10;

/// After so many messages that fit, what a longer one has left of memory is given back.
const SHORT: u32 = 256;

/// One message, read at `taken`, and what is known of its request.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The message.
    pub(crate) message: &'a [u8],
    /// When it was read, see [`now`](super::meter::now).
    pub(crate) taken: u64,
    /// What is known of it.
    pub(crate) flight: &'a Flight,
}

/// A buffer for requests, aligned for the wire's 64-bit fields.
pub(crate) struct Buffer {
    room: Room,
    len: usize,
    /// How many messages have fitted since there was a longer one; 0: none of those has left memory.
    short: u32,
    /// When its message was read, see [`now`](super::meter::now).
    pub(crate) taken: u64,
}

enum Room {
    /// A piece of the ledger.
    Lent(Piece),
    /// Where the ledger has no room left, or none is needed.
    Own(Vec<u64>, Box<Flight>),
}

impl Buffer {
    /// Room for `len` bytes that no successor finds. Pages that are never written cost no memory.
    pub(crate) fn own(len: usize) -> Buffer {
        let flight = Flight::new_box_zeroed().expect("memory for half a KiB");
        Buffer {
            room: Room::Own(vec![0; len.div_ceil(8)], flight),
            len,
            short: 0,
            taken: 0,
        }
    }

    /// The first `len` bytes of a piece of the ledger.
    pub(crate) fn in_piece(piece: Piece, len: usize) -> Buffer {
        Buffer {
            room: Room::Lent(piece),
            len,
            short: 0,
            taken: 0,
        }
    }

    /// What is known of the request in it.
    pub(crate) fn flight(&self) -> &Flight {
        match &self.room {
            Room::Lent(lent) => lent.flight,
            Room::Own(_, flight) => flight,
        }
    }

    /// The request in it.
    pub(crate) fn request(&self) -> Request<'_> {
        self.request_of(self.len)
    }

    /// The request in its first `len` bytes.
    pub(crate) fn request_of(&self, len: usize) -> Request<'_> {
        Request {
            message: &self.bytes()[..len],
            taken: self.taken,
            flight: self.flight(),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.room {
            Room::Lent(lent) => &lent.bytes()[..self.len],
            Room::Own(words, _) => &words.as_bytes()[..self.len],
        }
    }

    /// The bytes, for filling.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.room {
            Room::Lent(lent) => &mut lent.bytes_mut()[..self.len],
            Room::Own(words, _) => &mut words.as_mut_bytes()[..self.len],
        }
    }

    /// The kernel has sent the request in it again, and its answer must say so.
    pub(crate) fn mark_resent(&mut self) {
        if let Some(unique) = self.bytes_mut().get_mut(8..16) {
            let bit = UNIQUE_RESEND.to_ne_bytes();
            unique
                .iter_mut()
                .zip(bit)
                .for_each(|(byte, bit)| *byte |= bit);
        }
    }

    /// There is no message in it, as a successor sees it, until one is read.
    pub(crate) fn empty(&mut self) {
        if let Some(len) = self.bytes_mut().first_chunk_mut::<4>() {
            *len = [0; 4];
        }
    }

    /// Notes how long the message was that was read, so that its memory is given back with the buffer, or after a while.
    pub(crate) fn note_read(&mut self, len: usize) {
        let Room::Lent(piece) = &mut self.room else {
            return;
        };
        if len > PRESENT {
            piece.note_used(len);
            self.short = 1;
        } else if self.short > 0 {
            self.short += 1;
            if self.short > SHORT {
                self.short = 0;
                piece.give_back(PRESENT);
            }
        }
    }

    /// Notes that its first `len` bytes are in use, to be given back with it.
    pub(crate) fn note_used(&mut self, len: usize) {
        if let Room::Lent(piece) = &mut self.room {
            piece.note_used(len);
        }
    }
}
