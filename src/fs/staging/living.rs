//! Which places there are at this moment, so that a successor need not wait until they are old enough to be nobody's: a
//! directory could not be removed meanwhile.

use crate::ledger::crash::point;
use crate::ledger::place::PlaceRecord;
use crate::ledger::table::Table;
use crate::ledger::{Ledger, Region};
use rustix::fd::{AsRawFd as _, BorrowedFd};
use std::sync::OnceLock;

/// Where the places of this process are written down. A process serves one mount; where it has more trees than one, those
/// of all are in the first one's ledger.
pub(super) static WRITTEN: OnceLock<Table<PlaceRecord>> = OnceLock::new();

/// Has the places of this process written down in `ledger` from here on.
pub(in crate::fs) fn write_down_in(ledger: &'static Ledger) {
    let _ = WRITTEN.set(ledger.table(Region::Places));
}

/// A place that is written down, if there is room to.
pub(super) struct Living(Option<(&'static Table<PlaceRecord>, u32)>);

impl Living {
    /// One that is not written down.
    pub(super) fn untold() -> Living {
        Living(None)
    }

    /// Writes down that a place and an object with names that end so are about to be made within `within`.
    pub(super) fn begin(within: BorrowedFd<'_>, place: u64, object: u64) -> Living {
        Living::begin_in(WRITTEN.get(), within, place, object)
    }

    /// The same, in `table`.
    pub(super) fn begin_in(
        table: Option<&'static Table<PlaceRecord>>,
        within: BorrowedFd<'_>,
        place: u64,
        object: u64,
    ) -> Living {
        let slot = table.and_then(|table| Some((table, table.take()?)));
        if let Some((table, slot)) = slot {
            table.at(slot).begin(within.as_raw_fd(), place, object);
            point();
        }
        Living(slot)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        // A panic leaves what a kill leaves.
        let taken = self.0.take().filter(|_| !std::thread::panicking());
        if let Some((table, slot)) = taken {
            table.at(slot).end();
            point();
            table.give(slot);
        }
    }
}
