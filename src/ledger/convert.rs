//! A state that a program of another version has left, copied into one of this version's layout.
//!
//! What makes that simple are three rules for whoever changes a layout:
//!
//! - the first page and every record grow at their ends only, and where a new field is 0 an older program wrote it, or a newer
//!   one did not need it;
//! - regions keep their numbers, and a new one has the next;
//! - a region that is no table of records keeps its length.
//!
//! So a record is copied as far as both have it, and the rest is 0, up and down. Each state says where its regions lie and how
//! long its records are ([`Described`]), and which the oldest program is that may do this with it. A change that does not keep to
//! the rules raises [`OLDEST`]: programs of before it refuse the state, and this one refuses theirs.
//!
//! The old state is only read: the program that has left it may go on with it.

use super::header::{FirstPage, MAGIC};
use super::layout::{ALIGNED, REGIONS, SCALES, each, len, room};
use super::region::Region;
use super::{Ledger, Unreadable, VERSION};
use crate::sys::shared::Shared;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstat, seek};
use rustix::io::{Errno, pread, pwrite};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::FromBytes;

/// The oldest version whose state this program reads, and whose program reads this one's.
pub(super) const OLDEST: u32 = 9;

/// Where the descriptions of the regions begin, in every version.
const DESCRIBED: usize = 2048;

/// The most regions that can be described.
const MOST: usize = 64;

/// Bytes that are copied at once.
const PART: usize = 1 << 20;

const _: () = assert!(size_of::<FirstPage>() <= DESCRIBED);
const _: () = assert!(DESCRIBED + MOST * size_of::<Described>() <= 4096);

/// Where a region lies, by the region's number.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(super) struct Described {
    first: AtomicU64,
    len: AtomicU64,
    /// Of a record, in bytes; 0: it is no table.
    each: AtomicU64,
}

/// The same as it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Extent {
    first: u64,
    len: u64,
    each: u64,
}

/// The first page of a state that was copied from, which its program looks at as long as it may go on with it.
#[derive(Debug)]
pub(crate) struct CopiedFrom {
    /// The page.
    pub(crate) page: &'static FirstPage,
    file: OwnedFd,
}

impl CopiedFrom {
    /// The file.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Gives all memory behind the first page back: nobody goes on with it.
    pub(crate) fn let_go(&self) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let size = fstat(&self.file).map_or(0, |stat| stat.st_size as u64);
        // What is not given back costs memory only.
        let _ = fallocate(&self.file, flags, 64 << 10, size.saturating_sub(64 << 10));
    }
}

fn extents(scale: u32) -> impl Iterator<Item = (Region, Extent)> {
    let mut first = 0;
    REGIONS.iter().map(move |&named| {
        let len = room(named, scale) as u64;
        let extent = Extent {
            first,
            len,
            each: each(named.0) as u64,
        };
        first += len.next_multiple_of(ALIGNED as u64);
        (named.0, extent)
    })
}

/// Writes into a new state where its regions lie.
pub(super) fn describe(memory: &Shared, scale: u32) {
    let described = memory.records::<Described>(DESCRIBED, MOST);
    for (region, extent) in extents(scale) {
        let to = &described[region as usize];
        to.first.store(extent.first, Ordering::Relaxed);
        to.len.store(extent.len, Ordering::Relaxed);
        to.each.store(extent.each, Ordering::Relaxed);
    }
}

/// What a state says of itself.
struct Found {
    page: Vec<u8>,
    size: u64,
}

impl Found {
    fn of(file: &OwnedFd) -> Result<Found, Unreadable> {
        let size = fstat(file).map_err(Unreadable::Memory)?.st_size as u64;
        let mut page = vec![0; 4096];
        read(file, &mut page, 0)?;
        Ok(Found { page, size })
    }

    fn u64_at(&self, at: usize) -> u64 {
        let bytes = self.page[at..].first_chunk().copied();
        u64::from_ne_bytes(bytes.unwrap_or_default())
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = self.page[at..].first_chunk().copied();
        u32::from_ne_bytes(bytes.unwrap_or_default())
    }

    fn extent(&self, region: Region) -> Extent {
        let at = DESCRIBED + region as usize * size_of::<Described>();
        Extent {
            first: self.u64_at(at),
            len: self.u64_at(at + 8),
            each: self.u64_at(at + 16),
        }
    }

    fn mark(&self, region: Region) -> u64 {
        u64::from(self.u32_at(offset_of!(FirstPage, marks) + 4 * region as usize))
    }

    /// True if it is laid out as this version's, with this scale.
    fn is_like(&self, scale: u32) -> bool {
        self.size == len(scale) as u64
            && extents(scale).all(|(region, extent)| self.extent(region) == extent)
    }

    /// The scale of this version that has room for it.
    fn scale(&self) -> Option<u32> {
        let fits = |scale: &u32| {
            extents(*scale).all(|(region, to)| {
                let from = self.extent(region);
                let is_inside = from
                    .first
                    .checked_add(from.len)
                    .is_some_and(|end| end <= self.size);
                let fits = match (from.each, to.each) {
                    // The other version has no such region.
                    _ if from.len == 0 => true,
                    (0, 0) => from.len == to.len || is_text(region),
                    (0, _) | (_, 0) => false,
                    (from_each, each) => {
                        let mark = self.mark(region);
                        mark <= from.len / from_each && mark <= to.len / each
                    }
                };
                is_inside && fits
            })
        };
        SCALES.into_iter().find(fits)
    }
}

/// Only its beginning is used.
fn is_text(region: Region) -> bool {
    matches!(
        region,
        Region::Header | Region::Facts | Region::Words | Region::Beginnings
    )
}

/// What is in `file`, as it lies there or copied.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn take(file: OwnedFd) -> Result<Ledger, Unreadable> {
    let found = Found::of(&file)?;
    let magic = found.u64_at(offset_of!(FirstPage, magic));
    let version = found.u32_at(offset_of!(FirstPage, version));
    let oldest = found.u32_at(offset_of!(FirstPage, oldest));
    let is_read = version >= OLDEST && (version <= VERSION || oldest <= VERSION);
    if magic != MAGIC || !is_read {
        return Err(Unreadable::Version(magic, version));
    }
    if version == VERSION {
        let scale = SCALES.into_iter().find(|&scale| found.is_like(scale));
        let scale = scale.ok_or(Unreadable::Memory(Errno::INVAL))?;
        let memory = Shared::adopt(file, len(scale)).map_err(Unreadable::Memory)?;
        return Ok(Ledger {
            memory,
            scale,
            before: None,
        });
    }
    let scale = found
        .scale()
        .ok_or(Unreadable::Broken("there is no room for all of it"))?;
    let memory = Shared::create("etcfs-state", len(scale)).map_err(Unreadable::Memory)?;
    copy(&file, &found, &memory, scale)?;
    let page = Shared::first_page_of(&file).map_err(Unreadable::Memory)?;
    let page = &page.records(0, 1)[0];
    Ok(Ledger {
        memory,
        scale,
        before: Some(CopiedFrom { page, file }),
    })
}

fn copy(from: &OwnedFd, found: &Found, memory: &Shared, scale: u32) -> Result<(), Unreadable> {
    let to = memory.file().ok_or(Unreadable::Memory(Errno::BADF))?;
    for (region, extent) in extents(scale) {
        let source = found.extent(region);
        match region {
            Region::Header => write(to, &found.page[..size_of::<FirstPage>()], 0)?,
            _ if source.each == extent.each => {
                let len = source.len.min(extent.len);
                copy_bytes(from, to, (source.first, extent.first), len)?;
            }
            _ => copy_records(from, to, (source, extent), found.mark(region))?,
        }
    }
    describe(memory, scale);
    let page = &memory.records::<FirstPage>(0, 1)[0];
    page.version.store(VERSION, Ordering::Relaxed);
    page.oldest.store(OLDEST, Ordering::Relaxed);
    Ok(())
}

/// Copies `len` bytes, as far as there is memory behind them.
fn copy_bytes(
    from: &OwnedFd,
    to: BorrowedFd<'_>,
    (source, target): (u64, u64),
    len: u64,
) -> Result<(), Unreadable> {
    let end = source + len;
    let mut at = source;
    let mut part = vec![0; PART];
    while at < end {
        at = match seek(from, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            // There is none any more.
            Ok(_) | Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(Unreadable::Memory(errno)),
        };
        let hole = seek(from, SeekFrom::Hole(at)).map_err(Unreadable::Memory)?;
        while at < hole.min(end) {
            let len = (hole.min(end) - at).min(PART as u64) as usize;
            read(from, &mut part[..len], at)?;
            write(to, &part[..len], target + (at - source))?;
            at += len as u64;
        }
    }
    Ok(())
}

/// Copies `count` records of one length into ones of another.
fn copy_records(
    from: &OwnedFd,
    to: BorrowedFd<'_>,
    (source, target): (Extent, Extent),
    count: u64,
) -> Result<(), Unreadable> {
    let (old, new) = (source.each as usize, target.each as usize);
    let some = (PART / old.max(new)).max(1) as u64;
    let mut number = 0;
    while number < count {
        let now = some.min(count - number) as usize;
        let mut read_in = vec![0; now * old];
        read(from, &mut read_in, source.first + number * source.each)?;
        // What is not in use has no memory, and is to have none.
        if read_in.iter().any(|&byte| byte != 0) {
            let mut written = vec![0; now * new];
            let both = old.min(new);
            let pairs = read_in.chunks(old).zip(written.chunks_mut(new));
            pairs.for_each(|(old, new)| new[..both].copy_from_slice(&old[..both]));
            write(to, &written, target.first + number * target.each)?;
        }
        number += now as u64;
    }
    Ok(())
}

fn read(from: &OwnedFd, mut bytes: &mut [u8], mut at: u64) -> Result<(), Unreadable> {
    while !bytes.is_empty() {
        match pread(from, &mut *bytes, at) {
            Ok(0) => return Err(Unreadable::Broken("it ends before its end")),
            Ok(len) => {
                bytes = &mut bytes[len..];
                at += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Unreadable::Memory(errno)),
        }
    }
    Ok(())
}

fn write(to: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<(), Unreadable> {
    while !bytes.is_empty() {
        match pwrite(to, bytes, at) {
            Ok(len) => {
                bytes = &bytes[len..];
                at += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Unreadable::Memory(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> OwnedFd {
        let memory = Shared::create("etcfs-test", 4 << 20).unwrap();
        let file = memory.file().unwrap().try_clone_to_owned().unwrap();
        write(file.as_fd(), bytes, 8192).unwrap();
        file
    }

    fn at(file: &OwnedFd, first: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        read(file, &mut bytes, first).unwrap();
        bytes
    }

    fn extent(first: u64, each: u64) -> Extent {
        Extent {
            first,
            len: 1 << 20,
            each,
        }
    }

    #[test]
    fn records_grow_by_zeros_and_lose_what_is_not_known() {
        let old = file(b"aaaabbbbcccc");
        let (longer, shorter) = (file(b""), file(b""));
        let extents = (extent(8192, 4), extent(64 << 10, 6));
        copy_records(&old, longer.as_fd(), extents, 3).unwrap();
        assert_eq!(at(&longer, 64 << 10, 18), b"aaaa\0\0bbbb\0\0cccc\0\0");
        let extents = (extent(8192, 4), extent(0, 3));
        copy_records(&old, shorter.as_fd(), extents, 3).unwrap();
        assert_eq!(at(&shorter, 0, 9), b"aaabbbccc");
    }

    #[test]
    fn what_has_no_memory_is_not_copied() {
        let (old, new) = (file(b"text"), file(b""));
        write(old.as_fd(), b"far", 2 << 20).unwrap();
        copy_bytes(&old, new.as_fd(), (8192, 4096), 3 << 20).unwrap();
        assert_eq!(at(&new, 4096, 4), b"text");
        assert_eq!(at(&new, (2 << 20) - 4096, 3), b"far");
        let blocks = fstat(&new).unwrap().st_blocks * 512;
        assert!(blocks <= 4 * 4096 + 8192, "{blocks} bytes");
    }
}
