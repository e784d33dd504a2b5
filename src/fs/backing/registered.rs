//! One lower file that the kernel was given.

use crate::fs::kernel::Kernel;
use crate::ledger::backing::BackingRecord;
use crate::ledger::table::Slot;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A registered lower file. Dropping it gives the id back.
pub(crate) struct Registered {
    /// Its id.
    pub(crate) id: u32,
    /// The connection that it is of.
    pub(crate) kernel: Arc<dyn Kernel>,
    /// Counts those that there are.
    pub(crate) count: Arc<AtomicUsize>,
    /// What a successor will find of it, which ends before the descriptor is closed. `None`: it will not, because there was
    /// no room.
    pub(crate) record: Option<Slot<BackingRecord>>,
    /// The descriptor that was opened to be registered. `None`: a client's handle was registered, whose description the
    /// kernel then keeps open, for writing perhaps, so such an id ends with its last open.
    pub(crate) anchor: Option<OwnedFd>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(record) = &self.record {
            record.begin_end();
        }
        self.kernel.unregister(self.id);
    }
}

/// What a first open offers for registration.
pub(crate) enum Candidate<'a> {
    /// A descriptor opened for nothing else.
    Anchor(OwnedFd),
    /// The descriptor of the client's handle.
    Handle(BorrowedFd<'a>),
}
