//! The C library's heaps: how much of what has been freed stays with the process.
//!
//! Of many allocations that are freed in another order than they were made, glibc gives nothing back but what lies at the end
//! of a heap, and it makes a heap for every thread that comes while the others are in use. Another allocator (the crates
//! mimalloc and tikv-jemallocator are well kept) is C code to build for every target, and gives back by a timer, which wakes
//! an idle daemon, or when it is asked, as this one does.
#![allow(unsafe_code)]

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
