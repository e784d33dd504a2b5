//! Temporary names in the lower directories, which no client sees, uses or makes.
//!
//! What replaces a file in one step must have a name on the same file system first. Names that begin with [`PREFIX`] are
//! set aside for that: they are in no listing, a lookup finds nothing, and creating one through the mount is EPERM. In a
//! lower directory that is a [`Staging`](super::Staging), a directory that nobody but the daemon can enter.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::CString;

/// What hidden names begin with, on both sides and in every directory.
pub(crate) const PREFIX: &[u8] = b".etcfs-hidden-";

/// True for a name that clients must not see.
pub(crate) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// The end of a hidden name that nobody can foresee and that is free, but for a chance of 1 in 2^64. Early at boot, when the
/// kernel has no randomness and etcfs is started (contract D1), it only is free: there are no users who could foresee it.
///
/// # Errors
/// ENOSYS.
pub(crate) fn fresh_number() -> Result<u64, Errno> {
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
    // 0 stands for no name.
    Ok(u64::from_ne_bytes(bytes).max(1))
}

/// The hidden name that ends with `number`. 30 bytes.
pub(crate) fn name_of(number: u64) -> CString {
    let mut name = PREFIX.to_vec();
    name.extend_from_slice(format!("{number:016x}").as_bytes());
    CString::new(name).unwrap_or_default()
}

/// Calls `make` with the ends of hidden names until one is free, and returns that one, with what it answers.
///
/// # Errors
/// What `make` answers; EEXIST only after many tries.
pub(crate) fn with_fresh_number<T>(
    make: &mut dyn FnMut(u64) -> Result<T, Errno>,
) -> Result<(u64, T), Errno> {
    let mut tries = 0;
    loop {
        let number = fresh_number()?;
        match make(number) {
            Ok(made) => return Ok((number, made)),
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
        let mut numbers: Vec<_> = (0..3).filter_map(|_| fresh_number().ok()).collect();
        assert_eq!(numbers.len(), 3);
        assert!(
            numbers
                .iter()
                .all(|&number| is_hidden(name_of(number).to_bytes()))
        );
        let step = |at: usize| numbers[at + 1].wrapping_sub(numbers[at]);
        assert_ne!(step(0), step(1));
        numbers.dedup();
        assert_eq!(numbers.len(), 3);
        assert_eq!(name_of(0xab).to_bytes(), b".etcfs-hidden-00000000000000ab");
    }

    #[test]
    fn a_taken_name_is_not_used() {
        let mut taken = 3;
        let made = with_fresh_number(&mut |number| {
            taken -= 1;
            if taken > 0 {
                Err(Errno::EXIST)
            } else {
                Ok(number)
            }
        });
        assert!(made.is_ok_and(|(number, made)| number == made));
    }
}
