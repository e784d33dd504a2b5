//! Temporary names in the lower directories, which no client sees, uses or makes.
//!
//! What replaces a file in one step must have a name in the same directory first. Names that begin with [`PREFIX`] are
//! set aside for that: they are in no listing, a lookup finds nothing, and creating one through the mount is EPERM. A
//! daemon that is killed at the wrong moment leaves one behind; [`sweep`] removes those, before the next such work in
//! their directory and before the directory itself is removed.

use super::stat::Stat;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

/// What hidden names begin with, on both sides and in every directory.
pub const PREFIX: &[u8] = b".etcfs-hidden-";

/// A hidden name whose object has not changed for so many seconds belongs to nobody any more. A living user of one
/// that is slower than this finds it gone and fails without having lost anything: what it replaces is still in place.
pub const STALE_AFTER: i64 = 60;

/// True for a name that clients must not see.
pub fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// A hidden name that is most likely free; if it is not, the next one is. 31 bytes.
pub fn fresh_name() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Several daemons write to the global directory, so each begins somewhere else.
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| {
        let mut bytes = [0; 8];
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(8) => u64::from_ne_bytes(bytes),
            _ => {
                u64::from(
                    rustix::process::getpid()
                        .as_raw_nonzero()
                        .get()
                        .unsigned_abs(),
                ) << 32
            }
        }
    });
    let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let mut name = PREFIX.to_vec();
    name.extend_from_slice(format!("{number:016x}").as_bytes());
    CString::new(name).unwrap_or_default()
}

/// Calls `make` with hidden names until one is free, and returns that name.
///
/// # Errors
/// What `make` answers; EEXIST only after many tries.
pub fn with_fresh_name(make: &mut dyn FnMut(&CStr) -> Result<(), Errno>) -> Result<CString, Errno> {
    let mut tries = 0;
    loop {
        let name = fresh_name();
        match make(&name) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) if tries < 100 => tries += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Removes what killed daemons have left in `dir` and what has not changed for `stale_after` seconds, so that a
/// directory which looks empty can be removed. True if anything was removed.
///
/// # Errors
/// What opening and reading the directory answers.
pub fn sweep(dir: BorrowedFd<'_>, stale_after: i64) -> Result<bool, Errno> {
    let dir: OwnedFd = rustix::fs::openat(
        dir,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut removed = false;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !is_hidden(name.to_bytes()) {
            continue;
        }
        if is_stale(dir.as_fd(), name, stale_after) {
            let gone = match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                // A directory that an override was about to put in place; one that holds something is nobody's work.
                Err(Errno::ISDIR) => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR),
                other => other,
            };
            removed |= gone.is_ok();
        }
    }
    Ok(removed)
}

/// True if the hidden name `name` in `dir` has not changed for `stale_after` seconds, so that it belongs to nobody.
pub fn is_stale(dir: BorrowedFd<'_>, name: &CStr, stale_after: i64) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    Stat::at(dir, name).is_ok_and(|stat| stat.0.stx_ctime.tv_sec < now - stale_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_names_are_hidden_and_differ() {
        let (first, second) = (fresh_name(), fresh_name());
        assert_ne!(first, second);
        assert!(is_hidden(first.to_bytes()) && is_hidden(second.to_bytes()));
        assert!(first.to_bytes().len() < 255);
    }

    #[test]
    fn a_taken_name_is_not_used() {
        let mut taken = 3;
        let name = with_fresh_name(&mut |_| {
            taken -= 1;
            if taken > 0 { Err(Errno::EXIST) } else { Ok(()) }
        });
        assert!(name.is_ok_and(|name| is_hidden(name.to_bytes())));
    }
}
