//! What a successor needs, written down as it happens: plain numbered records in memory that outlives the process
//! ([`crate::sys::shared`]), apart from mutexes, threads and everything that can be made again.
//!
//! # Layout
//!
//! One file, whose first page is the [`header`]; each region begins at a page of its own, in the order of [`layout::REGIONS`].
//! All numbers are in the byte order of the machine, which does not change between one process and the next. A record is
//! in use while its word `state` is not 0: that word is written last when a record begins, and first when it ends, so
//! that a process killed between any two instructions leaves a record that is there or is not. [`VERSION`] names all this;
//! it grows with every change of any record. How a program goes on with the state of one of another version, older or newer, says
//! [`convert`].
//!
//! Whoever keeps a descriptor's number in a record writes it after the descriptor is open and takes it out before it is
//! closed: a number in a record never means somebody else's descriptor.
//!
//! Without a keeper the same records lie in memory that ends with the process: nothing that writes them knows which.

pub(crate) mod backing;
mod convert;
pub(crate) mod crash;
pub(crate) mod fields;
pub(crate) mod flight;
mod free;
pub(crate) mod handle;
pub(crate) mod header;
pub(crate) mod kept;
mod layout;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod node;
pub(crate) mod place;
mod prose;
mod recording;
mod region;
pub(crate) mod ring;
pub(crate) mod stream;
pub(crate) mod table;
pub(crate) mod words;

use crate::sys::shared::Shared;
use crate::sys::slots::Slots;
use backing::BackingRecord;
use handle::HandleRecord;
use header::FirstPage;
use lock::OwnerRecord;
use node::{NodeRecord, NodeTable};
use place::PlaceRecord;
use recording::RecordingRecord;
pub(crate) use region::Region;
use rustix::fd::{BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use table::{FlatRecord, Table};

/// Names the layout of everything in a ledger. The tests have a program of the next one, too.
pub(crate) const VERSION: u32 = if cfg!(feature = "other-state") { 10 } else { 9 };

/// The records of one daemon, there as long as the process.
#[derive(Debug)]
pub(crate) struct Ledger {
    memory: Shared,
    /// See [`SCALES`].
    scale: u32,
    /// What it was copied from.
    before: Option<convert::CopiedFrom>,
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
        let least = layout::len(layout::SCALES[layout::SCALES.len() - 1]);
        let memory = |len| match len <= least {
            true => Shared::private(len),
            false => Err(Errno::NOMEM),
        };
        Ledger::begin(memory).expect("memory")
    }

    fn begin(memory: impl Fn(usize) -> Result<Shared, Errno>) -> Result<&'static Ledger, Errno> {
        let of = |memory, scale| Ledger {
            memory,
            scale,
            before: None,
        };
        let mut tried = layout::SCALES
            .into_iter()
            .map(|scale| memory(layout::len(scale)).map(|memory| of(memory, scale)));
        // The least of them says why none can be had.
        let ledger = tried.find(Result::is_ok).unwrap_or_else(|| {
            let scale = layout::SCALES[layout::SCALES.len() - 1];
            memory(layout::len(scale)).map(|memory| of(memory, scale))
        })?;
        let ledger: &'static Ledger = Box::leak(Box::new(ledger));
        convert::describe(&ledger.memory, ledger.scale);
        let header = ledger.header();
        header.version.store(VERSION, Ordering::Relaxed);
        header.oldest.store(convert::OLDEST, Ordering::Relaxed);
        header.magic.store(header::MAGIC, Ordering::Release);
        Ok(ledger)
    }

    /// What a predecessor has left in `file`: as it lies there, or, of another version, a copy of it.
    ///
    /// # Errors
    /// See [`Unreadable`]; what the regions hold is looked at by those who read them.
    pub(crate) fn adopt(file: OwnedFd) -> Result<&'static Ledger, Unreadable> {
        convert::take(file).map(|ledger| &*Box::leak(Box::new(ledger)))
    }

    /// What it was copied from, if it was.
    pub(crate) fn before(&self) -> Option<&convert::CopiedFrom> {
        self.before.as_ref()
    }

    /// The first page in which it is said who goes on: the program that was here before looks at no other.
    pub(crate) fn told_page(&self) -> &'static FirstPage {
        self.before().map_or(self.header(), |before| before.page)
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
        for &named in layout::REGIONS {
            let len = layout::room(named, self.scale);
            if named.0 == region {
                return (first, len);
            }
            first += len.next_multiple_of(layout::ALIGNED);
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
        let header = first.header();
        header.version.store(VERSION + 1, Ordering::Relaxed);
        let newer = Ledger::adopt(file()).unwrap();
        assert_eq!(newer.header().next_node.load(Ordering::Relaxed), 17);
        assert!(newer.before().is_some(), "a copy");
        header.oldest.store(VERSION + 1, Ordering::Relaxed);
        let error = Ledger::adopt(file()).unwrap_err();
        assert_eq!(error, Unreadable::Version(header::MAGIC, VERSION + 1));
    }

    #[test]
    fn what_is_no_ledger_is_refused() {
        let other = Shared::create("etcfs-test", layout::len(0)).unwrap();
        let file = other.file().unwrap().try_clone_to_owned().unwrap();
        assert_eq!(Ledger::adopt(file).unwrap_err(), Unreadable::Version(0, 0));
        let ledger = Ledger::create().unwrap();
        let file = ledger.file().unwrap().try_clone_to_owned().unwrap();
        rustix::fs::ftruncate(&file, (layout::len(ledger.scale()) + 1) as u64).unwrap();
        assert_eq!(
            Ledger::adopt(file).unwrap_err(),
            Unreadable::Memory(Errno::INVAL)
        );
    }
}
