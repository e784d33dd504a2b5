//! Memory that outlives the process: a file without a name, mapped shared, so that a successor finds what stood in it.
//!
//! The whole length is reserved as addresses at once and takes memory where it is written only, so nothing in it ever
//! moves. It is never unmapped: a process has one for as long as it lives.
#![allow(unsafe_code, dead_code)]

use crate::mutex::lock;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat, ftruncate, memfd_create};
use rustix::io::{self, Errno};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use rustix::param::page_size;
use std::mem::{align_of, size_of};
use std::ptr::{NonNull, null_mut};
use std::sync::Mutex;
use zerocopy::FromBytes;

/// Memory that a successor finds again, or, without a file, that ends with the process.
#[derive(Debug)]
pub(crate) struct Shared {
    file: Option<OwnedFd>,
    base: NonNull<u8>,
    len: usize,
    /// What [`Shared::bytes`] has handed out: first byte and length.
    taken: Mutex<Vec<(usize, usize)>>,
}

// SAFETY: the memory stays mapped for as long as the process lives, and is reached through `records`, whose types are `Sync`,
// and through `bytes`, which hands each range out once.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// `len` bytes of zeros in a file called `name`.
    ///
    /// # Errors
    /// ENOSYS before Linux 3.17, EMFILE, ENFILE, ENOMEM; EFBIG where the process may not have files of that size.
    pub(crate) fn create(name: &str, len: usize) -> io::Result<Shared> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        Shared::map(file, len)
    }

    /// What a predecessor has left in `file`, which must be `len` bytes long.
    ///
    /// # Errors
    /// EINVAL for a file of another length; what `mmap(2)` answers.
    pub(crate) fn adopt(file: OwnedFd, len: usize) -> io::Result<Shared> {
        if fstat(&file)?.st_size != len as i64 {
            return Err(Errno::INVAL);
        }
        Shared::map(file, len)
    }

    /// The first 4 KiB of what a predecessor has left.
    ///
    /// # Errors
    /// What `mmap(2)` answers, and for another descriptor `fcntl(2)`.
    pub(crate) fn first_page_of(file: &OwnedFd) -> io::Result<Shared> {
        Shared::map(io::fcntl_dupfd_cloexec(file, 3)?, 4096)
    }

    fn map(file: OwnedFd, len: usize) -> io::Result<Shared> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so nothing that is mapped is replaced. Only a process that holds this very
        // descriptor could cut the file short.
        let at = unsafe { mmap(null_mut(), len, prot, MapFlags::SHARED, &file, 0) }?;
        Shared::at(Some(file), at.cast(), len)
    }

    /// `len` bytes of zeros that no successor is given.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn private(len: usize) -> io::Result<Shared> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: as in `map`.
        let at = match unsafe { mmap_anonymous(null_mut(), len, prot, flags) } {
            // Where memory is never promised twice (`vm.overcommit_memory=2`), all of it would be counted at once; of a file
            // only what is written is.
            Err(Errno::NOMEM) => return Shared::create("etcfs-state", len),
            at => at?,
        };
        // A few records would take a huge page for each region. Kernels without huge pages say EINVAL.
        // SAFETY: the mapping just made; what it holds does not change.
        let _ = unsafe { madvise(at, len, Advice::LinuxNoHugepage) };
        Shared::at(None, at.cast(), len)
    }

    fn at(file: Option<OwnedFd>, base: *mut u8, len: usize) -> io::Result<Shared> {
        Ok(Shared {
            file,
            base: NonNull::new(base).ok_or(Errno::NOMEM)?,
            len,
            taken: Mutex::default(),
        })
    }

    /// The file, if a successor can be given one.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// `count` records from byte `first` on. They are for the whole life of the process.
    ///
    /// # Panics
    /// If they do not lie in the memory, aligned, or overlap what [`Shared::bytes`] has handed out.
    pub(crate) fn records<R: FromBytes + Sync + 'static>(
        &self,
        first: usize,
        count: usize,
    ) -> &'static [R] {
        let len = self.inside(first, count.checked_mul(size_of::<R>()));
        assert_eq!(first % align_of::<R>(), 0, "records are aligned");
        let taken = lock(&self.taken);
        assert!(
            taken
                .iter()
                .all(|&(at, n)| at + n <= first || first + len <= at),
            "these bytes are somebody's alone"
        );
        // SAFETY: in bounds and aligned, mapped for ever, any bytes are an `R`; the process changes them only through what
        // `R` offers behind a shared reference, as no other reference to them is made but by this function.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(first).cast(), count) }
    }

    /// `len` bytes from byte `first` on, for one owner for ever.
    ///
    /// # Panics
    /// If they do not lie in the memory, or were handed out before.
    pub(crate) fn bytes(&self, first: usize, len: usize) -> &'static mut [u8] {
        let len = self.inside(first, Some(len));
        let mut taken = lock(&self.taken);
        assert!(
            taken
                .iter()
                .all(|&(at, n)| at + n <= first || first + len <= at),
            "these bytes are somebody else's"
        );
        taken.push((first, len));
        // SAFETY: in bounds, mapped for ever, handed out once, and no record lies there (the layout's regions do not overlap).
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(first), len) }
    }

    /// Gives the memory of the whole pages among these bytes back. They read as zeros then. Nothing may be in use there.
    pub(crate) fn give_back(&self, first: usize, len: usize) {
        let page = page_size();
        let end = first + self.inside(first, Some(len));
        let (from, to) = (first.next_multiple_of(page), end / page * page);
        if from >= to {
            return;
        }
        match &self.file {
            Some(file) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // What is not given back costs memory only.
                let _ = fallocate(file, flags, from as u64, (to - from) as u64);
            }
            None => {
                // SAFETY: whole pages of this mapping, which the caller has done with; they read as zeros afterwards.
                let _ = unsafe {
                    madvise(
                        self.base.as_ptr().add(from).cast(),
                        to - from,
                        Advice::LinuxDontNeed,
                    )
                };
            }
        }
    }

    fn inside(&self, first: usize, len: Option<usize>) -> usize {
        let len = len.filter(|&len| first.checked_add(len).is_some_and(|end| end <= self.len));
        len.expect("the layout lies in the memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const LEN: usize = 1 << 20;

    #[test]
    fn a_successor_finds_what_was_written() {
        let first = Shared::create("etcfs-test", LEN).unwrap();
        first.records::<AtomicU64>(4096, 8)[3].store(7, Ordering::Relaxed);
        first.bytes(8192, 5).copy_from_slice(b"hello");
        let file = first.file().unwrap().try_clone_to_owned().unwrap();
        let next = Shared::adopt(file, LEN).unwrap();
        assert_eq!(
            next.records::<AtomicU64>(4096, 8)[3].load(Ordering::Relaxed),
            7
        );
        assert_eq!(next.bytes(8192, 5), b"hello");
        next.give_back(4096, 4096);
        assert_eq!(
            next.records::<AtomicU64>(4096, 8)[3].load(Ordering::Relaxed),
            0
        );
        assert_eq!(first.records::<u64>(8192 + 8, 1), [0]);
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let first = Shared::create("etcfs-test", LEN).unwrap();
        let file = first.file().unwrap().try_clone_to_owned().unwrap();
        assert_eq!(Shared::adopt(file, LEN + 1).err(), Some(Errno::INVAL));
    }

    #[test]
    #[should_panic(expected = "somebody else's")]
    fn bytes_are_handed_out_once() {
        let memory = Shared::private(LEN).unwrap();
        memory.bytes(0, 10);
        memory.bytes(9, 10);
    }
}
