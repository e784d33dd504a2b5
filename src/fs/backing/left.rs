//! What a predecessor has given to the kernel, or was giving or giving back.

use crate::fs::kernel::Kernel;
use crate::ledger::backing::{Backed, BackingRecord};
use crate::ledger::header::FirstPage;
use crate::ledger::table::{Slot, Table};
use crate::sys::inherit::Inherited;
use rustix::fd::OwnedFd;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// How many ids may have been given at the same moment, at most.
const AT_ONCE: u32 = 64;

/// What a predecessor has left.
pub(super) struct Left {
    pub(super) record: Slot<BackingRecord>,
    pub(super) backed: Backed,
    pub(super) anchor: Option<OwnedFd>,
}

/// What `records` say.
///
/// # Errors
/// What contradicts itself.
pub(super) fn left(
    records: &'static Table<BackingRecord>,
    inherited: &Inherited,
) -> Result<Vec<Left>, &'static str> {
    let used: Vec<u32> = records.used().map(|(number, _)| number).collect();
    let mut ids = HashSet::new();
    used.into_iter()
        .map(|number| {
            let record = Slot::adopt(records, number);
            let backed = record.backed().ok_or("an id is in no state")?;
            let anchor = match backed {
                Backed::Given {
                    anchor: Some(fd), ..
                } => Some(inherited.take(fd).ok_or("a backing file is not open")?),
                _ => None,
            };
            if let Backed::Given { id, .. } = backed {
                if id == 0 || !ids.insert(id) {
                    return Err("two files have one id");
                }
            }
            Ok(Left {
                record,
                backed,
                anchor,
            })
        })
        .collect()
}

/// Gives back what was being given back, and what may have been given without anybody having seen it: the kernel counts ids
/// up (`idr_alloc_cyclic`, fs/fuse/backing.c), so they are near the last known one.
pub(super) fn left_to(kernel: &dyn Kernel, left: &[Left], header: &FirstPage) {
    let mut given = HashSet::new();
    let mut asked = false;
    for left in left {
        match left.backed {
            Backed::Given { id, .. } => {
                given.insert(id);
            }
            Backed::Ending(id) => kernel.unregister(id),
            Backed::Asked => asked = true,
        }
    }
    if asked {
        let last = header.last_backing.load(Ordering::Relaxed);
        let near = last.saturating_sub(AT_ONCE).max(1)..last.saturating_add(AT_ONCE);
        near.filter(|id| !given.contains(id))
            .for_each(|id| kernel.unregister(id));
    }
}
