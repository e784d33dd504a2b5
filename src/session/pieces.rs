//! The pieces of the ledger that messages lie in, each with the record of its request.

use crate::ledger::flight::{Flight, MESSAGES};
use crate::ledger::table::Table;
use crate::ledger::{Ledger, Region};
use crate::mutex::lock;
use crate::sys::slots::{LentPiece, Slots};
use std::sync::{Arc, Mutex};

/// Memory of a piece that stays when it is free: a page.
const KEPT: usize = 4096;

/// So many pieces of a class keep that when none is in use.
const FIRST: usize = 64;

/// All pieces, by class.
pub(crate) struct Pieces {
    ledger: &'static Ledger,
    classes: [Class; MESSAGES.len()],
}

struct Class {
    records: Table<Flight>,
    slots: Arc<Slots>,
    in_use: Mutex<PiecesInUse>,
}

/// How many pieces are in use, and the most that have been since none was.
#[derive(Default)]
struct PiecesInUse {
    now: usize,
    most: usize,
}

/// A piece, and its record.
pub(crate) struct Piece {
    pieces: Arc<Pieces>,
    class: usize,
    /// `None` only while it is dropped.
    slot: Option<LentPiece>,
    /// See there.
    pub(crate) flight: &'static Flight,
}

impl Pieces {
    /// Those of `ledger`, with what a predecessor has left.
    pub(crate) fn over(ledger: &'static Ledger) -> Arc<Pieces> {
        let mut first = 0;
        let classes = MESSAGES.map(|(region, count, each)| {
            let count = count >> ledger.scale();
            let slots = ledger.slots(Region::Messages, first, each, count);
            first += each * count;
            Class {
                records: ledger.table(region),
                slots: Arc::new(slots),
                in_use: Mutex::default(),
            }
        });
        Arc::new(Pieces { ledger, classes })
    }

    /// True if a successor can be given them.
    pub(crate) fn can_be_left(&self) -> bool {
        self.ledger.file().is_some()
    }

    /// A piece of that class that nobody has.
    pub(crate) fn take(self: &Arc<Pieces>, class: usize) -> Option<Piece> {
        let own = &self.classes[class];
        let mut in_use = lock(&own.in_use);
        let number = own.records.take()?;
        in_use.now += 1;
        in_use.most = in_use.most.max(in_use.now);
        Some(self.piece(class, number))
    }

    fn piece(self: &Arc<Pieces>, class: usize, number: u32) -> Piece {
        let own = &self.classes[class];
        Piece {
            pieces: self.clone(),
            class,
            slot: Some(own.slots.lend(number as usize)),
            flight: own.records.at(number),
        }
    }

    fn is_free(&self, class: usize, number: usize) {
        let own = &self.classes[class];
        let mut in_use = lock(&own.in_use);
        own.records.give(number as u32);
        in_use.now -= 1;
        if in_use.now == 0 && std::mem::take(&mut in_use.most) > FIRST {
            own.slots.give_back(FIRST);
        }
    }

    /// The pieces that a predecessor has left. To be called before anything is taken.
    pub(crate) fn left(self: &Arc<Pieces>) -> Vec<Piece> {
        let mut found = Vec::new();
        for (class, own) in self.classes.iter().enumerate() {
            for (number, _) in own.records.used() {
                lock(&own.in_use).now += 1;
                found.push(self.piece(class, number));
            }
        }
        found
    }
}

impl Piece {
    /// The memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.slot.as_deref().unwrap_or_default()
    }

    /// The memory, for filling.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.slot.as_deref_mut().unwrap_or_default()
    }

    /// See [`LentPiece::note_used`].
    pub(crate) fn note_used(&mut self, len: usize) {
        if let Some(slot) = &mut self.slot {
            slot.note_used(len);
        }
    }

    /// See [`LentPiece::give_back`].
    pub(crate) fn give_back(&mut self, keep: usize) {
        if let Some(slot) = &mut self.slot {
            slot.give_back(keep);
        }
    }

    /// See [`LentPiece::make_present`].
    pub(crate) fn make_present(&mut self, len: usize) {
        if let Some(slot) = &mut self.slot {
            slot.make_present(len.min(slot.len()));
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.flight.end();
        if let Some(mut slot) = self.slot.take() {
            slot.give_back(KEPT);
            let number = slot.number();
            drop(slot);
            self.pieces.is_free(self.class, number);
        }
    }
}
