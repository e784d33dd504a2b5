//! The C library's heaps: how much of what has been freed stays with the process.
//!
//! Of many allocations that are freed in another order than they were made, glibc gives nothing back but what lies at the end
//! of a heap, and it makes a heap for every thread that comes while the others are in use. Another allocator (the crates
//! mimalloc and tikv-jemallocator are well kept) is C code to build for every target, and gives back by a timer, which wakes
//! an idle daemon, or when it is asked, as this one does.
//!
//! And what happens when there is no more: an allocation that fails ends a Rust program, which would take /etc away from
//! everybody for want of a few bytes. So it is waited for ([`Patient`]).
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long memory is waited for. After that the process ends: what it holds may be what is missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest pause between two tries.
const SLOWEST: Duration = Duration::from_millis(50);

/// Nothing of this size is waited for, bytes: no request takes as much.
const ABSURD: usize = 64 << 20;

/// Allocations that had to wait and were granted in the end.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// How many heaps the threads share, which allocate little once they are warm: one for each worker of a small machine, and as
/// many for all others. Said, or glibc asks `/sys/devices/system/cpu/online` when the first few are made, an absolute path
/// that a serving daemon must not open (contract D21).
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 4;

/// From this size on, bytes, an allocation has pages of its own, which go when it is freed: the buffers of threads, which are
/// larger, come and go when workers are stuck.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Says so. Call it before there is a second thread.
pub(crate) fn settle() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, HEAPS),
        // It is the default, but one that grows to 32 MiB with what is freed, unless it has been said.
        (libc::M_MMAP_THRESHOLD, LARGE),
    ] {
        // SAFETY: mallopt(3) takes two integers; no other thread runs yet.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives every free page back to the kernel, those between what is in use as well. Who allocates or frees meanwhile waits for
/// it.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes the allocator's own locks, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// How many allocations had to wait for memory since the start.
pub(crate) fn waited() -> u64 {
    WAITED.load(Ordering::Relaxed)
}

/// The system's allocator, but one that waits while there is no memory (a limit of address space, an exact overcommit): the
/// requests that need some are late then, and no other is concerned. A control group's limit is another matter: the kernel
/// kills at that.
#[derive(Debug)]
pub struct Patient;

// SAFETY: every answer is the system allocator's own, to the very layout that was asked for; asking again after a refusal
// changes nothing, and nothing here unwinds.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about the layout is passed on.
        let ask = || unsafe { System.alloc(layout) };
        or_wait(ask(), layout.size(), ask)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let ask = || unsafe { System.alloc_zeroed(layout) };
        or_wait(ask(), layout.size(), ask)
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`; a refusal leaves the old allocation as it was.
        let ask = || unsafe { System.realloc(old, layout, size) };
        or_wait(ask(), size, ask)
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(old, layout) };
    }
}

#[inline]
fn or_wait(first: *mut u8, size: usize, ask: impl Fn() -> *mut u8) -> *mut u8 {
    match first.is_null() && size < ABSURD {
        true => wait(&ask),
        false => first,
    }
}

#[cold]
fn wait(ask: &dyn Fn() -> *mut u8) -> *mut u8 {
    let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        give_back();
        let found = ask();
        if !found.is_null() {
            WAITED.fetch_add(1, Ordering::Relaxed);
            return found;
        }
        if began.elapsed() > PATIENCE {
            return found;
        }
        std::thread::sleep(pause);
        pause = SLOWEST.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_refused_at_first_is_asked_for_again_and_counted() {
        let before = waited();
        let (asked, mut room) = (Cell::new(0), [0_u8; 1]);
        let at = room.as_mut_ptr();
        let ask = || {
            asked.set(asked.get() + 1);
            match asked.get() < 4 {
                true => std::ptr::null_mut(),
                false => at,
            }
        };
        assert_eq!(or_wait(ask(), 1, ask), at);
        assert_eq!((asked.get(), waited()), (4, before + 1));
        assert!(or_wait(std::ptr::null_mut(), ABSURD, ask).is_null());
    }
}
