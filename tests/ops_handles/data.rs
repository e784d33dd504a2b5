//! Contents: holes, allocation, copies, appends, truncation and unnamed files as natively (B17, B35).

use crate::harness::{Etcfs, Opts, Pair, errno};
use crate::{compared, contents, open};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, SeekFrom, copy_file_range, fallocate, fstat,
    ftruncate, linkat, openat, seek,
};
use rustix::io::{Errno, pwrite};
use std::os::fd::AsRawFd as _;

#[test]
fn b35_holes_are_found_where_they_are_natively() {
    compared(|pair| {
        let seen = pair.same("seek", |root| {
            let fd = open(root, "sparse", OFlags::RDWR | OFlags::CREATE)?;
            ftruncate(&fd, 1 << 20)?;
            pwrite(&fd, &[1; 4096], 65536)?;
            pwrite(&fd, &[1; 100], 300_000)?;
            rustix::fs::fsync(&fd)?;
            let mut found = Vec::new();
            for at in [
                0,
                1,
                65536,
                66000,
                69632,
                70000,
                299_000,
                300_050,
                400_000,
                (1 << 20) - 1,
                1 << 20,
                1 << 21,
            ] {
                found.push((seek(&fd, SeekFrom::Data(at)), seek(&fd, SeekFrom::Hole(at))));
            }
            found.push((
                seek(&fd, SeekFrom::End(-5)),
                seek(&fd, SeekFrom::Current(2)),
            ));
            Ok((found, fstat(&fd)?.st_blocks))
        });
        let (found, blocks) = seen.expect("works natively");
        assert_eq!(found[0], (Ok(65536), Ok(0)));
        assert_eq!(found[11], (Err(Errno::NXIO), Err(Errno::NXIO)));
        assert!(blocks < 100, "the file is sparse below: {blocks} blocks");
        // Asking for data in a file open for reading only, as cp(1) does.
        let read = pair.same("seek in a file open for reading", |root| {
            let fd = open(root, "sparse", OFlags::RDONLY)?;
            Ok((
                seek(&fd, SeekFrom::Data(0))?,
                seek(&fd, SeekFrom::Hole(65536))?,
            ))
        });
        assert_eq!(read.map(|r| r.0), Ok(65536));
    });
}

#[test]
fn allocation_modes_do_what_they_do_natively() {
    compared(|pair| {
        for (n, mode) in [
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::PUNCH_HOLE,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        ]
        .into_iter()
        .enumerate()
        {
            for (offset, len) in [
                (0, 4096),
                (5000, 10_000),
                (100_000, 50_000),
                (0, 0),
                (1 << 62, 1 << 62),
            ] {
                let _ = pair.same(&format!("{mode:?} {offset} {len}"), |root| {
                    let fd = open(
                        root,
                        &format!("f{n}-{offset}"),
                        OFlags::RDWR | OFlags::CREATE,
                    )?;
                    pwrite(&fd, &[7; 20_000], 0)?;
                    let done = fallocate(&fd, mode, offset, len);
                    let stat = fstat(&fd)?;
                    Ok((done, stat.st_size, stat.st_blocks, contents(&fd)?))
                });
            }
            let refused = pair.same("in a file open for reading", |root| {
                let fd = open(root, &format!("f{n}-0"), OFlags::RDONLY)?;
                fallocate(&fd, mode, 0, 10)
            });
            assert!(refused.is_err());
        }
    });
}

#[test]
fn b17_copy_file_range_copies_within_the_mount() {
    compared(|pair| {
        let seen = pair.same("copy", |root| {
            let from = open(root, "from", OFlags::RDWR | OFlags::CREATE)?;
            let text: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
            pwrite(&from, &text, 0)?;
            let to = open(root, "to", OFlags::RDWR | OFlags::CREATE)?;
            let mut all = Vec::new();
            for (off_in, off_out, len) in [
                (0, 0, 1000),
                (5, 100_000, 90_000),
                (199_990, 3, 100),
                (300_000, 0, 10),
            ] {
                let (mut i, mut o) = (off_in, off_out);
                let mut copied = 0;
                // A copy may be short; natively it is whole here, so both are asked until done.
                while copied < len {
                    match copy_file_range(&from, Some(&mut i), &to, Some(&mut o), len - copied)? {
                        0 => break,
                        n => copied += n,
                    }
                }
                all.push((copied, i, o));
            }
            // Within one file, not overlapping, and overlapping.
            let apart = copy_file_range(&from, Some(&mut 0), &from, Some(&mut 250_000), 1000);
            let overlapping = copy_file_range(&from, Some(&mut 0), &from, Some(&mut 10), 1000);
            let readable = open(root, "from", OFlags::RDONLY)?;
            let into_reader = copy_file_range(&from, Some(&mut 0), &readable, Some(&mut 0), 10);
            Ok((
                all,
                apart,
                overlapping,
                into_reader,
                contents(&to)?,
                contents(&from)?,
            ))
        });
        assert_eq!(seen.map(|s| s.0[1].0), Ok(90_000));
    });
}

#[test]
fn appends_go_to_the_end_and_truncation_sets_the_length() {
    compared(|pair| {
        let seen = pair.same("append", |root| {
            let log = open(
                root,
                "log",
                OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
            )?;
            let other = open(root, "log", OFlags::RDWR)?;
            rustix::io::write(&log, b"one ")?;
            pwrite(&other, b"TWO ", 4)?;
            rustix::io::write(&log, b"three")?;
            pwrite(&log, b"!", 0)?;
            let all = contents(&other)?;
            // Set and cleared by fcntl, after the open.
            rustix::fs::fcntl_setfl(&other, OFlags::APPEND)?;
            rustix::io::write(&other, b"?")?;
            rustix::fs::fcntl_setfl(&other, OFlags::empty())?;
            pwrite(&other, b"O", 0)?;
            let again = contents(&other)?;
            ftruncate(&other, 3)?;
            let cut = contents(&other)?;
            ftruncate(&other, 6)?;
            Ok((
                all,
                again,
                cut,
                contents(&other)?,
                ftruncate(&other, 1 << 63),
                rustix::fs::ftruncate(&log, 2),
            ))
        });
        let seen = seen.expect("works natively");
        assert_eq!(seen.0, b"one TWO three!");
        assert_eq!(seen.3, b"One\0\0\0");
    });
}

/// RWF_NOAPPEND of Linux 6.9. With passthrough the kernel's own handle of the lower file appends (README).
#[test]
fn a_write_that_must_not_append_goes_where_it_says_9_13() {
    crate::private(crate::DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mut pair = Pair::of(&etcfs);
        let no_append = rustix::io::ReadWriteFlags::from_bits_retain(0x20);
        let seen = pair.same("pwritev2", |root| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
            let log = open(root, "log", flags)?;
            let other = open(root, "log", OFlags::RDWR)?;
            rustix::io::write(&log, b"one two")?;
            let there = [std::io::IoSlice::new(b"O")];
            let placed = rustix::io::pwritev2(&log, &there, 0, no_append);
            pwrite(&other, b"!", 7)?;
            rustix::io::write(&log, b"?")?;
            Ok((placed, contents(&other)?))
        });
        let native = seen.expect("works natively");
        if native.0.is_ok() {
            assert_eq!(native.1, b"One two!?");
        }
        pair.finish();
    });
}

#[test]
fn b17_an_unnamed_file_gets_a_name_by_linking() {
    compared(|pair| {
        let seen = pair.same("unnamed", |root| {
            rustix::fs::mkdirat(&root.dir, "d", Mode::RWXU)?;
            let fd = openat(
                &root.dir,
                "d",
                OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o640),
            )?;
            rustix::io::write(&fd, b"unnamed")?;
            let before = (
                fstat(&fd)?.st_nlink,
                std::fs::read_dir(root.join("d")).map_err(errno)?.count(),
            );
            let by_proc = format!("/proc/self/fd/{}", fd.as_raw_fd());
            linkat(CWD, &by_proc, &root.dir, "d/first", AtFlags::SYMLINK_FOLLOW)?;
            linkat(&fd, "", &root.dir, "second", AtFlags::EMPTY_PATH)?;
            let exists = linkat(&fd, "", &root.dir, "second", AtFlags::EMPTY_PATH);
            rustix::io::write(&fd, b" no more")?;
            let named = std::fs::read(root.join("d/first")).map_err(errno)?;
            let hidden = openat(
                &root.dir,
                "d",
                OFlags::TMPFILE | OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC,
                Mode::RWXU,
            )?;
            let never = linkat(&hidden, "", &root.dir, "third", AtFlags::EMPTY_PATH);
            let reading = openat(
                &root.dir,
                "d",
                OFlags::TMPFILE | OFlags::CLOEXEC,
                Mode::RWXU,
            )
            .map(drop);
            Ok((before, fstat(&fd)?.st_nlink, exists, named, never, reading))
        });
        let seen = seen.expect("works natively");
        assert_eq!((seen.0, seen.1, seen.2), ((0, 0), 2, Err(Errno::EXIST)));
        assert_eq!(seen.3, b"unnamed no more");
        assert_eq!(seen.4, Err(Errno::NOENT));
    });
}

#[test]
fn large_and_unaligned_transfers_arrive_whole() {
    compared(|pair| {
        let seen = pair.same("transfer", |root| {
            let fd = open(root, "big", OFlags::RDWR | OFlags::CREATE)?;
            let text: Vec<u8> = (0..5_000_003_u32).map(|n| (n % 253) as u8).collect();
            let mut done = 0;
            while done < text.len() {
                done += pwrite(&fd, &text[done..], 17 + done as u64)?;
            }
            let mut back = vec![0; text.len() + 100];
            let got = rustix::io::pread(&fd, &mut back[..], 17)?;
            Ok((
                done,
                back[..got] == text[..got],
                fstat(&fd)?.st_size,
                contents(&fd)?.len(),
            ))
        });
        assert_eq!(seen, Ok((5_000_003, true, 5_000_020, 5_000_020)));
    });
}

#[test]
fn an_open_file_with_o_direct_reads_and_writes() {
    compared(|pair| {
        let seen = pair.same("O_DIRECT", |root| {
            let fd = open(root, "direct", OFlags::RDWR | OFlags::CREATE)?;
            pwrite(&fd, &[3; 8192], 0)?;
            drop(fd);
            let fd = open(root, "direct", OFlags::RDONLY | OFlags::DIRECT)?;
            Ok(rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::DIRECT))
        });
        assert_eq!(seen, Ok(true));
    });
}
