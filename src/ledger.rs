//! What a successor needs, written down as it happens: plain numbered records in memory that outlives the process
//! ([`crate::sys::shared`]), apart from mutexes, threads and everything that can be made again.
//!
//! # Layout
//!
//! One file, whose first page is the [`header`]; each region begins at a page of its own, in the order of [`REGIONS`].
//! All numbers are in the byte order of the machine, which does not change between one process and the next. A record is
//! in use while its word `state` is not 0: that word is written last when a record begins, and first when it ends, so
//! that a process killed between any two instructions leaves a record that is there or is not. [`VERSION`] names all this;
//! it grows with every change of any record.
//!
//! Whoever keeps a descriptor's number in a record writes it after the descriptor is open and takes it out before it is
//! closed: a number in a record never means somebody else's descriptor.
//!
//! Without a keeper the same records lie in memory that ends with the process: nothing that writes them knows which.

pub(crate) mod backing;
pub(crate) mod crash;
pub(crate) mod fields;
pub(crate) mod flight;
mod free;
pub(crate) mod handle;
pub(crate) mod header;
pub(crate) mod kept;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod node;
pub(crate) mod place;
mod prose;
mod recording;
pub(crate) mod ring;
pub(crate) mod stream;
pub(crate) mod table;
pub(crate) mod words;

use crate::sys::shared::Shared;
use crate::sys::slots::Slots;
use backing::BackingRecord;
use handle::HandleRecord;
use header::FirstPage;
use kept::KeptRecord;
use lock::OwnerRecord;
use node::{Aside, NodeRecord, NodeTable};
use place::PlaceRecord;
use recording::RecordingRecord;
use rustix::fd::{BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use table::{FlatRecord, Table};

/// Names the layout of everything in a ledger.
pub(crate) const VERSION: u32 = 8;

/// A region's first byte is at a multiple of this, whatever the machine's page is.
const ALIGNED: usize = 64 * 1024;

/// What lies where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    /// [`header::FirstPage`].
    Header,
    /// What the start has found out, as text: see `daemon`.
    Facts,
    /// Why a server could not begin, as text.
    Words,
    /// Who holds locks: see `fs::locks`.
    LockOwners,
    /// Locked ranges.
    LockRanges,
    /// Handles through which ranges were locked.
    LockHandles,
    /// Lower locks that are being changed.
    LockChanges,
    /// The [log](log::Log) of the configuration and of the handles of its file: see `fs::configuration`.
    Configuration,
    /// [`node::NodeRecord`].
    Nodes,
    /// [`node::Aside`].
    Aside,
    /// [`handle::HandleRecord`].
    Handles,
    /// [`backing::BackingRecord`].
    Backing,
    /// [`flight::Flight`] of a request of up to 1 KiB.
    SmallFlights,
    /// Of one of up to 68 KiB: the value of an extended attribute has 64.
    MiddleFlights,
    /// Of one of any size, and of every thread that reads requests.
    LargeFlights,
    /// The messages, in the order of those, each in a piece of [`flight::MESSAGES`].
    Messages,
    /// What has been counted since when: see `session::meter`.
    Meters,
    /// When things began: see there.
    Beginnings,
    /// The [ring](ring::Ring) of what enforcement has done: see `fs::journal`.
    Journal,
    /// That of the servers that there have been.
    Restarts,
    /// [`place::PlaceRecord`].
    Places,
    /// [`recording::RecordingRecord`].
    Recordings,
    /// What those have and was not sent yet.
    Recorded,
    /// [`kept::KeptRecord`].
    Kept,
}

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
const REGIONS: &[(Region, usize)] = &[
    (Region::Header, 4096),
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
const SCALES: [u32; 3] = [0, 3, 6];

/// A region's room in bytes.
const fn room((region, len): (Region, usize), scale: u32) -> usize {
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

/// Bytes of a ledger.
const fn len(scale: u32) -> usize {
    let (mut len, mut index) = (0, 0);
    while index < REGIONS.len() {
        len += room(REGIONS[index], scale).next_multiple_of(ALIGNED);
        index += 1;
    }
    len
}

/// The records of one daemon, there as long as the process.
#[derive(Debug)]
pub(crate) struct Ledger {
    memory: Shared,
    /// See [`SCALES`].
    scale: u32,
}

/// Why what a predecessor left cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It cannot be mapped.
    Memory(Errno),
    /// It is none, or of another version: what it says of itself.
    Version(u64, u32),
    /// Something in it contradicts itself.
    Broken(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Memory(errno) => write!(f, "the state cannot be mapped ({errno})"),
            Unreadable::Version(magic, _) if *magic != header::MAGIC => {
                write!(f, "what was left is no state of etcfs")
            }
            Unreadable::Version(_, version) => {
                write!(
                    f,
                    "the state is of version {version}, and this etcfs reads {VERSION}"
                )
            }
            Unreadable::Broken(what) => write!(f, "the state is broken: {what}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Ledger {
    /// An empty one that a successor can be given.
    ///
    /// # Errors
    /// As [`Shared::create`].
    pub(crate) fn create() -> Result<&'static Ledger, Errno> {
        Ledger::begin(|len| Shared::create("etcfs-state", len))
    }

    /// An empty one that ends with the process.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn private() -> Result<&'static Ledger, Errno> {
        Ledger::begin(Shared::private)
    }

    /// As [`Ledger::private`], of a process with few addresses.
    #[cfg(test)]
    pub(crate) fn least() -> &'static Ledger {
        let least = len(SCALES[SCALES.len() - 1]);
        let memory = |len| match len <= least {
            true => Shared::private(len),
            false => Err(Errno::NOMEM),
        };
        Ledger::begin(memory).expect("memory")
    }

    fn begin(memory: impl Fn(usize) -> Result<Shared, Errno>) -> Result<&'static Ledger, Errno> {
        let mut tried = SCALES
            .into_iter()
            .map(|scale| memory(len(scale)).map(|memory| Ledger { memory, scale }));
        // The least of them says why none can be had.
        let ledger = tried.find(Result::is_ok).unwrap_or_else(|| {
            let scale = SCALES[SCALES.len() - 1];
            memory(len(scale)).map(|memory| Ledger { memory, scale })
        })?;
        let ledger: &'static Ledger = Box::leak(Box::new(ledger));
        let header = ledger.header();
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(header::MAGIC, Ordering::Release);
        Ok(ledger)
    }

    /// What a predecessor has left in `file`.
    ///
    /// # Errors
    /// See [`Unreadable`]; what the regions hold is looked at by those who read them.
    pub(crate) fn adopt(file: OwnedFd) -> Result<&'static Ledger, Unreadable> {
        let size = rustix::fs::fstat(&file)
            .map_err(Unreadable::Memory)?
            .st_size;
        let mut scales = SCALES.into_iter();
        let scale = scales.find(|&scale| i64::try_from(len(scale)) == Ok(size));
        let scale = scale.ok_or(Unreadable::Memory(Errno::INVAL))?;
        let memory = Shared::adopt(file, len(scale)).map_err(Unreadable::Memory)?;
        let ledger = Box::leak(Box::new(Ledger { memory, scale }));
        let header = ledger.header();
        let found = (
            header.magic.load(Ordering::Acquire),
            header.version.load(Ordering::Relaxed),
        );
        match found == (header::MAGIC, VERSION) {
            true => Ok(ledger),
            false => Err(Unreadable::Version(found.0, found.1)),
        }
    }

    /// The file, if there is one.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.memory.file()
    }

    /// The first page.
    pub(crate) fn header(&self) -> &'static FirstPage {
        &self.memory.records(self.place(Region::Header).0, 1)[0]
    }

    /// The records of a region: as many as it has room for.
    pub(crate) fn records<R: FlatRecord>(&self, region: Region) -> &'static [R] {
        let (first, len) = self.place(region);
        self.memory.records(first, len / size_of::<R>())
    }

    /// The records of a region as a table.
    pub(crate) fn table<R: FlatRecord>(&'static self, region: Region) -> Table<R> {
        let mark = &self.header().marks[region as usize];
        let first = self.place(region).0;
        Table::over(self.records(region), mark, Some((&self.memory, first)))
    }

    /// The known nodes, whose names have regions of their own.
    pub(crate) fn nodes(&'static self) -> NodeTable {
        NodeTable {
            nodes: self.table(Region::Nodes),
            aside: self.table(Region::Aside),
        }
    }

    /// The numbers of all descriptors that a record names, for [`crate::sys::inherit::Inherited::keep`].
    pub(crate) fn named_descriptors(&self) -> Vec<RawFd> {
        let mut named = Vec::new();
        self.name::<NodeRecord>(Region::Nodes, &mut named);
        self.name::<HandleRecord>(Region::Handles, &mut named);
        self.name::<BackingRecord>(Region::Backing, &mut named);
        self.name::<OwnerRecord>(Region::LockOwners, &mut named);
        self.name::<PlaceRecord>(Region::Places, &mut named);
        self.name::<RecordingRecord>(Region::Recordings, &mut named);
        named
    }

    fn name<R: FlatRecord>(&self, region: Region, named: &mut Vec<RawFd>) {
        let mark = self.header().marks[region as usize].load(Ordering::Relaxed);
        let records = self.records::<R>(region).iter().take(mark as usize);
        let used = records.filter(|record| record.is_used());
        used.for_each(|record| record.name_descriptors(named));
    }

    /// A region as words.
    pub(crate) fn words(&self, region: Region) -> &'static [AtomicU64] {
        let (first, len) = self.place(region);
        self.memory.records(first, len / size_of::<AtomicU64>())
    }

    /// Gives the memory of `len` bytes of a region from its byte `first` on back. Nobody looks at them any more; they may read
    /// as zeros.
    pub(crate) fn free(&self, region: Region, first: usize, len: usize) {
        let (at, room) = self.place(region);
        assert!(first <= room && len <= room - first, "inside its region");
        self.memory.give_back(at + first, len);
    }

    /// By how many bits there is less of everything than usual.
    pub(crate) fn scale(&self) -> u32 {
        self.scale
    }

    /// `count` pieces of `each` bytes of a region from its byte `first` on, to be lent.
    pub(crate) fn slots(
        &'static self,
        region: Region,
        first: usize,
        each: usize,
        count: usize,
    ) -> Slots {
        let (at, room) = self.place(region);
        assert!(first + each * count <= room, "inside its region");
        Slots::new(&self.memory, at + first, each, count)
    }

    fn place(&self, region: Region) -> (usize, usize) {
        let mut first = 0;
        for &named in REGIONS {
            let len = room(named, self.scale);
            if named.0 == region {
                return (first, len);
            }
            first += len.next_multiple_of(ALIGNED);
        }
        unreachable!("every region has its place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_goes_on_with_the_same_numbers() {
        let first = Ledger::create().unwrap();
        first.header().next_node.store(17, Ordering::Relaxed);
        let file = || first.file().unwrap().try_clone_to_owned().unwrap();
        let next = Ledger::adopt(file()).unwrap();
        assert_eq!(next.header().next_node.load(Ordering::Relaxed), 17);
        first.header().version.store(VERSION + 1, Ordering::Relaxed);
        let error = Ledger::adopt(file()).unwrap_err();
        assert_eq!(error, Unreadable::Version(header::MAGIC, VERSION + 1));
    }

    #[test]
    fn what_is_no_ledger_is_refused() {
        let other = Shared::create("etcfs-test", len(0)).unwrap();
        let file = other.file().unwrap().try_clone_to_owned().unwrap();
        assert_eq!(Ledger::adopt(file).unwrap_err(), Unreadable::Version(0, 0));
        let short = Shared::create("etcfs-test", len(0) - 1).unwrap();
        let file = short.file().unwrap().try_clone_to_owned().unwrap();
        assert_eq!(
            Ledger::adopt(file).unwrap_err(),
            Unreadable::Memory(Errno::INVAL)
        );
    }
}
