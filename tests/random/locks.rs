//! Steps on the locks of files that are open on both sides: flock(2) and those of open file descriptions, which all belong
//! to a file that was opened, as all parties are threads of one process.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{FileType, FlockOperation, SeekFrom};
use rustix::io::{Errno, Result};

use super::steps::{LARGEST, Outcome, Sides};
use crate::harness::{Rng, facts, fnv};

/// What a call may ask of the locks of ranges.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Take(i32),
    Who(i32),
}

/// Type, start, length and process of a range that is in the way.
type Range = (i16, i64, i64, i32);

/// Whether the kernel keeps the locks of this file to itself: those of directories never reach a FUSE daemon
/// (fuse_dir_operations has no `flock` and no `lock`), and so hold among those who came through the same mount.
fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Directory)
}

/// One step. Nothing waits: who is in the way is the answer.
pub fn step(rng: &mut Rng, sides: &Sides) -> Outcome {
    if rng.one_in(3) {
        let operation = rng.pick(&[
            FlockOperation::NonBlockingLockExclusive,
            FlockOperation::NonBlockingLockShared,
            FlockOperation::Unlock,
            FlockOperation::Unlock,
        ]);
        return sides.handle(
            rng,
            |i| format!("flock {i} {operation:?}"),
            |fd| match is_directory(fd)? {
                true => Ok(()),
                false => rustix::fs::flock(fd, operation),
            },
        );
    }
    let ask = rng.pick(&[
        Ask::Take(libc::F_WRLCK),
        Ask::Take(libc::F_RDLCK),
        Ask::Take(libc::F_UNLCK),
        Ask::Take(libc::F_UNLCK),
        Ask::Who(libc::F_WRLCK),
        Ask::Who(libc::F_RDLCK),
    ]);
    let start = rng.pick(&[0, 10, 20, 1 << 40]);
    let len = rng.pick(&[0, 5, 10, 100]);
    sides.handle(
        rng,
        |i| format!("range {i} {ask:?} {start} {len}"),
        |fd| match is_directory(fd)? {
            true => Ok((0, 0, 0, 0)),
            false => range(fd, ask, start, len),
        },
    )
}

/// A lock taken where another party had its turn a moment ago: what it did is seen, with no time in between. `None`: there
/// is nothing open to lock.
pub fn handed_over(rng: &mut Rng, sides: &Sides) -> Option<Outcome> {
    sides.pick(rng)?;
    let flock = rng.one_in(2);
    let bytes = rng.bytes(100);
    Some(sides.handle(
        rng,
        |i| format!("append to {i} under a lock, flock {flock}"),
        |fd| {
            if is_directory(fd)? {
                return Ok((0, 0, 0, 0));
            }
            if flock {
                rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive)?;
            } else {
                range(fd, Ask::Take(libc::F_WRLCK), 0, 0)?;
            }
            let seen = append(fd, &bytes);
            if flock {
                rustix::fs::flock(fd, FlockOperation::Unlock)?;
            } else {
                range(fd, Ask::Take(libc::F_UNLCK), 0, 0)?;
            }
            seen
        },
    ))
}

/// Reads all, asks where the end is in both ways, and writes there: the size and a hash of the text before it, and the size
/// after it.
fn append(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(u64, u64, i64, u64)> {
    let end = rustix::fs::seek(fd, SeekFrom::End(0))?;
    let size = facts(&rustix::fs::fstat(fd)?).4;
    let mut text = vec![0; usize::try_from(LARGEST).expect("small") * 2];
    // What was opened for writing only cannot be read on either side.
    let read = match rustix::io::pread(fd, &mut text, 0) {
        Ok(n) => fnv(&text[..n]),
        Err(Errno::BADF) => 0,
        Err(error) => return Err(error),
    };
    if end < LARGEST {
        rustix::io::write(fd, bytes)?;
    }
    Ok((end, read, size, rustix::fs::seek(fd, SeekFrom::End(0))?))
}

fn range(fd: BorrowedFd<'_>, ask: Ask, start: i64, len: i64) -> Result<Range> {
    let (command, kind) = match ask {
        Ask::Take(kind) => (libc::F_OFD_SETLK, kind),
        Ask::Who(kind) => (libc::F_OFD_GETLK, kind),
    };
    let mut lock = libc::flock {
        l_type: i16::try_from(kind).expect("a small number"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("a small number"),
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open, and `lock` is this command's argument, which outlives the call.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) };
    if done < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).expect("fcntl's error"));
    }
    Ok((lock.l_type, lock.l_start, lock.l_len, lock.l_pid))
}
