//! Steps on the data of files that are open on both sides.

use std::os::fd::BorrowedFd;

use rustix::fs::{FallocateFlags, FileType, SeekFrom};
use rustix::io::Result;

use super::steps::{LARGEST, Outcome, Sides, same};
use crate::harness::{Rng, facts};

/// One step.
pub fn step(rng: &mut Rng, sides: &Sides) -> Outcome {
    let offset = rng.below(LARGEST / 2);
    let len = rng.pick(&[1, 100, 4096, 5000, 65_536]);
    match rng.below(14) {
        0..=3 => {
            let bytes = rng.bytes(len);
            sides.handle(
                rng,
                |i| format!("pwrite {i} {len} at {offset}"),
                |fd| rustix::io::pwrite(fd, &bytes, offset),
            )
        }
        4..=6 => sides.handle(
            rng,
            |i| format!("pread {i} {len} at {offset}"),
            |fd| {
                let mut bytes = vec![0; len];
                let n = rustix::io::pread(fd, &mut bytes, offset)?;
                Ok((n, crate::harness::fnv(&bytes[..n])))
            },
        ),
        7 => sides.handle(
            rng,
            |i| format!("ftruncate {i} {offset}"),
            |fd| rustix::fs::ftruncate(fd, offset),
        ),
        8 => sides.handle(
            rng,
            |i| format!("fstat {i}"),
            |fd| rustix::fs::fstat(fd).map(|stat| facts(&stat)),
        ),
        9 => {
            let flags = rng.pick(&[
                FallocateFlags::empty(),
                FallocateFlags::KEEP_SIZE,
                FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE,
                FallocateFlags::ZERO_RANGE,
                FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            ]);
            sides.handle(
                rng,
                |i| format!("fallocate {i} {flags:?} {len} at {offset}"),
                |fd| rustix::fs::fallocate(fd, flags, offset, len as u64),
            )
        }
        // On ext4 an allocated block without data is a hole or not depending on what the page cache holds of it.
        10 if sides.exact_holes => {
            let hole = rng.one_in(2);
            sides.handle(
                rng,
                |i| format!("seek {i} hole {hole} from {offset}"),
                |fd| {
                    // The kernel's FUSE answers for directories by itself (generic_file_llseek), as no other file system.
                    let stat = rustix::fs::fstat(fd)?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                        return Ok(0);
                    }
                    rustix::fs::fsync(fd)?;
                    rustix::fs::seek(
                        fd,
                        if hole {
                            SeekFrom::Hole(offset)
                        } else {
                            SeekFrom::Data(offset)
                        },
                    )
                },
            )
        }
        11 => {
            let bytes = rng.bytes(len);
            sides.handle(
                rng,
                |i| format!("mmap {i} {len} at {offset}"),
                |fd| mapped(fd, offset, &bytes),
            )
        }
        12 => {
            let to = rng.below(LARGEST / 2);
            copy(sides, rng, [offset, to], len)
        }
        _ => sides.handle(rng, |i| format!("fsync {i}"), |fd| rustix::fs::fsync(fd)),
    }
}

/// Stores into a shared mapping within the file's size, reads it back by read(2) while mapped, and syncs.
fn mapped(fd: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> Result<(usize, u64)> {
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
    let size = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
    let base = offset & !4095;
    let len = usize::try_from(size.saturating_sub(base))
        .unwrap_or(0)
        .min(bytes.len());
    if len == 0 {
        return Ok((0, 0));
    }
    let mut read = vec![0; len];
    #[allow(unsafe_code)]
    // SAFETY: a new mapping of `len` bytes within the file; nothing shrinks the file while it exists, and no reference
    // to it outlives the unmapping.
    unsafe {
        let at = rustix::mm::mmap(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            fd,
            base,
        )?;
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast::<u8>(), len);
        let result = rustix::io::pread(fd, &mut read, base)
            .and_then(|_| rustix::mm::msync(at, len, MsyncFlags::SYNC));
        rustix::mm::munmap(at, len)?;
        result?;
    }
    Ok((len, crate::harness::fnv(&read)))
}

fn copy(sides: &Sides, rng: &mut Rng, [from, to]: [u64; 2], len: usize) -> Outcome {
    let (Some((source, input)), Some((target, output))) = (sides.pick(rng), sides.pick(rng)) else {
        return same("no open file".to_owned());
    };
    let run = |side: usize| {
        let (mut from, mut to) = (from, to);
        let (input, output) = (&input.fds[side], &output.fds[side]);
        let result =
            rustix::fs::copy_file_range(input, Some(&mut from), output, Some(&mut to), len);
        format!("{result:?} {from} {to}")
    };
    Outcome {
        what: format!("copy_file_range {source} at {from} to {target} at {to}, {len}"),
        on_mount: run(0),
        native: run(1),
    }
}
