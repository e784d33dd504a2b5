//! Temporary names in the lower directories, which no client sees, uses or makes.
//!
//! What replaces a file in one step must have a name on the same file system first. Names that begin with [`PREFIX`] are
//! set aside for that: they are in no listing, a lookup finds nothing, and creating one through the mount is EPERM. In a
//! lower directory that is a [`Staging`](super::Staging), a directory that nobody but the daemon can enter.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::{CStr, CString};

/// What hidden names begin with, on both sides and in every directory.
pub(crate) const PREFIX: &[u8] = b".etcfs-hidden-";

/// True for a name that clients must not see.
pub(crate) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// A hidden name that nobody can foresee and that is free, but for a chance of 1 in 2^64. 30 bytes. Early at boot, when the
/// kernel has no randomness and etcfs is started (contract D1), it only is free: there are no users who could foresee it.
///
/// # Errors
/// ENOSYS.
pub(crate) fn fresh_name() -> Result<CString, Errno> {
    let mut bytes = [0; 8];
    let drawn = match getrandom(&mut bytes, GetRandomFlags::NONBLOCK) {
        // Linux 5.6.
        Err(Errno::AGAIN) => getrandom(&mut bytes, GetRandomFlags::INSECURE),
        other => other,
    };
    match drawn {
        Ok(_) => {}
        Err(Errno::AGAIN | Errno::INVAL) => {
            let now = clock_gettime(ClockId::Boottime);
            bytes = (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).to_ne_bytes();
        }
        Err(errno) => return Err(errno),
    }
    let mut name = PREFIX.to_vec();
    name.extend_from_slice(format!("{:016x}", u64::from_ne_bytes(bytes)).as_bytes());
    CString::new(name).map_err(|_| Errno::INVAL)
}

/// Calls `make` with hidden names until one is free, and returns that name.
///
/// # Errors
/// What `make` answers; EEXIST only after many tries.
pub(crate) fn with_fresh_name(
    make: &mut dyn FnMut(&CStr) -> Result<(), Errno>,
) -> Result<CString, Errno> {
    let mut tries = 0;
    loop {
        let name = fresh_name()?;
        match make(&name) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) if tries < 100 => tries += 1,
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_names_are_hidden_and_no_row() {
        let mut names: Vec<_> = (0..3).filter_map(|_| fresh_name().ok()).collect();
        assert!(names.iter().all(|name| is_hidden(name.to_bytes())));
        let number = |name: &CStr| {
            let digits = name.to_bytes().get(PREFIX.len()..)?;
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let numbers: Vec<_> = names.iter().filter_map(|name| number(name)).collect();
        assert_eq!(numbers.len(), 3);
        let step = |at: usize| numbers[at + 1].wrapping_sub(numbers[at]);
        assert_ne!(step(0), step(1));
        names.dedup();
        assert_eq!(names.len(), 3);
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
