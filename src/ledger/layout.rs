//! Which regions a state has, in which order, and with what room.

use super::backing::BackingRecord;
use super::flight::{self, Flight};
use super::handle::HandleRecord;
use super::kept::KeptRecord;
use super::lock::{ChangeRecord, LockHandleRecord, OwnerRecord, RangeRecord};
use super::node::{Aside, NodeRecord};
use super::place::PlaceRecord;
use super::recording::RecordingRecord;
use super::region::Region;

/// A region's first byte is at a multiple of this, whatever the machine's page is.
pub(super) const ALIGNED: usize = 64 * 1024;

/// The most nodes that may be known. Addresses are set aside for them, memory is not.
const NODES: usize = if cfg!(target_pointer_width = "64") {
    1 << 24
} else {
    1 << 19
};

/// Room for meters, in bytes: one has some 350 KiB, and a thread has one.
const METERS: usize = if cfg!(target_pointer_width = "64") {
    512 << 20
} else {
    64 << 20
};

/// Room for the configuration's log, in bytes: two halves.
const CONFIGURATION: usize = if cfg!(test) {
    16 << 20
} else if cfg!(target_pointer_width = "64") {
    256 << 20
} else {
    32 << 20
};

/// Room for what is recorded, in bytes: a recording has a fourth, about a tenth of a second of the densest traffic. What comes on
/// top is counted and left out, because a slow reader must not hold up the mount.
const RECORDED: usize = if cfg!(target_pointer_width = "64") {
    64 << 20
} else {
    16 << 20
};

/// The most handles that a successor finds.
const HANDLES: usize = if cfg!(target_pointer_width = "64") {
    1 << 20
} else {
    1 << 18
};

/// The most names that the kernel keeps.
const KEPT: usize = 1 << 16;

/// Each region's room in bytes, in the order of the file.
pub(super) const REGIONS: &[(Region, usize)] = &[
    (Region::Header, 4096),
    #[cfg(feature = "other-state")]
    (Region::Other, 192 * 1024),
    (Region::Facts, 64 * 1024),
    (Region::Words, 4096),
    (Region::LockOwners, 1 << 20),
    (Region::LockRanges, 4 << 20),
    (Region::LockHandles, 4 << 20),
    (Region::LockChanges, 512 * 1024),
    (Region::Configuration, CONFIGURATION),
    (Region::Nodes, NODES * size_of::<NodeRecord>()),
    (Region::Aside, NODES / 8 * size_of::<Aside>()),
    (Region::Handles, HANDLES * size_of::<HandleRecord>()),
    (Region::Backing, HANDLES * size_of::<BackingRecord>()),
    flight::records(0),
    flight::records(1),
    flight::records(2),
    (Region::Messages, flight::messages()),
    (Region::Meters, METERS),
    (Region::Beginnings, 4096),
    (Region::Journal, 4 << 20),
    (Region::Restarts, 64 * 1024),
    (Region::Places, 64 * 1024),
    (Region::Recordings, 4096),
    (Region::Recorded, RECORDED),
    (Region::Kept, KEPT * size_of::<KeptRecord>()),
];

/// By how many bits the room of what may grow is less than usual, in the order in which it is tried: a process may have fewer
/// addresses (RLIMIT_AS), or no files of that size.
pub(super) const SCALES: [u32; 3] = [0, 3, 6];

/// A region's room in bytes.
pub(super) const fn room((region, len): (Region, usize), scale: u32) -> usize {
    match region {
        Region::Configuration
        | Region::Nodes
        | Region::Aside
        | Region::Handles
        | Region::Backing
        | Region::SmallFlights
        | Region::MiddleFlights
        | Region::LargeFlights
        | Region::Messages
        | Region::Meters
        | Region::Recorded
        | Region::Kept => len >> scale,
        _ => len,
    }
}

/// How long a record of a region is, in bytes; 0: it is no table whose records may grow.
pub(super) fn each(region: Region) -> usize {
    match region {
        Region::LockOwners => size_of::<OwnerRecord>(),
        Region::LockRanges => size_of::<RangeRecord>(),
        Region::LockHandles => size_of::<LockHandleRecord>(),
        Region::LockChanges => size_of::<ChangeRecord>(),
        Region::Nodes => size_of::<NodeRecord>(),
        Region::Aside => size_of::<Aside>(),
        Region::Handles => size_of::<HandleRecord>(),
        Region::Backing => size_of::<BackingRecord>(),
        Region::SmallFlights | Region::MiddleFlights | Region::LargeFlights => size_of::<Flight>(),
        Region::Places => size_of::<PlaceRecord>(),
        Region::Recordings => size_of::<RecordingRecord>(),
        Region::Kept => size_of::<KeptRecord>(),
        _ => 0,
    }
}

/// Bytes of a ledger.
pub(super) const fn len(scale: u32) -> usize {
    let (mut len, mut index) = (0, 0);
    while index < REGIONS.len() {
        len += room(REGIONS[index], scale).next_multiple_of(ALIGNED);
        index += 1;
    }
    len
}
