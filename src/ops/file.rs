//! Open files: OPEN, READ, WRITE, RELEASE, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE.

use super::{Call, Handled, lock};
use crate::fs::backing::Io;
use crate::fs::handle::File;
use crate::fs::handle::NO_DESCRIPTOR;
use crate::fs::ids::NodeId;
use crate::fs::node::Node;
use crate::fs::opens::Opened;
use crate::fs::stat::Stat;
use crate::ledger::flight::tally::CountChange;
use crate::sys::{creds, proc};
use etcfs_proto::abi::{
    CopyFileRangeIn, CopyFileRangeOut, FallocateIn, FsyncIn, LseekIn, LseekOut, OpenIn, OpenOut,
    ReadIn, ReleaseIn, WriteIn, WriteOut,
};
use etcfs_proto::flags::{FsyncFlags, InitFlags, OpenFlags, OpenInFlags, ReadFlags, WriteFlags};
use rustix::fd::AsFd;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use std::io::IoSlice;
use std::sync::Arc;

/// OPEN of a regular file: the kernel opens everything else itself.
pub(crate) fn open(call: &mut Call<'_>) -> Handled {
    let args = call.args::<OpenIn>()?;
    let node = call.node()?;
    let kill = OpenInFlags::from_bits_retain(args.open_flags).contains(OpenInFlags::KILL_SUIDGID);
    let told = call.actor().told(kill);
    let charge = call.charge()?;
    let opened = call.or_later(call.fs.opens.open(
        &node,
        args.flags,
        charge,
        |fd, stat| -> Handled {
            if frees_much(stat, 0) {
                call.go_aside()?;
            }
            call.actor()
                .act_dropping_set_ids(fd, told, || rustix::fs::ftruncate(fd, 0))?;
            Ok(())
        },
    ))?;
    // With what `Opens` may have added to the number.
    call.opened(opened.fh);
    if args.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32 {
        call.fs.enforcer.note_writer(&node, call.frame.head.pid);
    }
    put(call, &node, &opened, args.flags);
    Ok(())
}

/// True if giving the file this size frees so much that it may take milliseconds: [`FREED`] or more.
pub(crate) fn frees_much(stat: &Stat, size: u64) -> bool {
    let held = stat.0.stx_size.min(stat.0.stx_blocks * 512);
    held.saturating_sub(size) >= FREED
}

/// Bytes that are freed in a moment.
const FREED: u64 = 4 << 20;

/// Puts the answer to OPEN of `node` with `flags` into the reply.
pub(crate) fn put(call: &mut Call<'_>, node: &Node, opened: &Opened, flags: u32) {
    let mut open_flags = lock::flush_wanted(node, flags);
    let mut backing_id = 0;
    match opened.io {
        Io::Passthrough(id) => {
            open_flags |= OpenFlags::PASSTHROUGH;
            backing_id = id as i32;
        }
        // Direct I/O goes before passthrough (`fuse_file_read_iter`), and is nothing to mmap(2).
        Io::Mapped(id) => {
            open_flags |=
                OpenFlags::PASSTHROUGH | OpenFlags::DIRECT_IO | OpenFlags::PARALLEL_DIRECT_WRITES;
            backing_id = id as i32;
        }
        // A handle must show what a native reader of the lower file would see, so reads and writes bypass the kernel's
        // pages. Where a file opened so cannot be mapped shared (before Linux 6.6), pages are kept until the next open.
        Io::Plain if call.agreed.flags.contains(InitFlags::DIRECT_IO_ALLOW_MMAP) => {
            open_flags |= OpenFlags::DIRECT_IO | OpenFlags::PARALLEL_DIRECT_WRITES;
        }
        Io::Plain => {}
    }
    call.reply.put(&OpenOut {
        fh: opened.fh,
        open_flags: open_flags.bits(),
        backing_id,
    });
}

fn handle(call: &Call<'_>, fh: u64) -> Handled<Arc<File>> {
    call.or_later(call.fs.opens.file(&call.node()?, fh))
}

/// READ: `pread` straight into the answer.
pub(crate) fn read(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReadIn>()?;
    let node = call.node()?;
    let file = call.or_later(call.fs.opens.file(&node, args.fh))?;
    // What a client reads comes with its number (`fuse_send_read`); what has none is for the kernel's pages.
    if !ReadFlags::from_bits_retain(args.read_flags).contains(ReadFlags::LOCKOWNER) {
        node.note_pages();
    }
    let size = call.most(args.size) as usize;
    let mut done = 0;
    let space = call.reply.space(size);
    while done < size {
        match rustix::io::pread(&file.fd, &mut space[done..], args.offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    call.reply.truncate_body(done);
    Ok(())
}

/// WRITE: straight from the request. With O_APPEND set at this moment the lower file's end decides the place, so that
/// writers on several mounts do not overwrite each other.
pub(crate) fn write(call: &mut Call<'_>) -> Handled {
    let args = call.args::<WriteIn>()?;
    let data = call.frame.data().map_err(super::malformed)?;
    let file = handle(call, args.fh)?;
    if file.flags & libc::O_DSYNC as u32 != 0 {
        call.go_aside()?;
    }
    let write_flags = WriteFlags::from_bits_retain(args.write_flags);
    let actor = call.actor();
    let told = actor.told(write_flags.contains(WriteFlags::KILL_SUIDGID));
    let mapped = write_flags.contains(WriteFlags::CACHE);
    // Natively such a file cannot be mapped for writing; what was stored would go to its end.
    if mapped && Stat::of(file.fd.as_fd())?.is_append_only() {
        return Err(Errno::PERM.into());
    }
    if args.flags & libc::O_APPEND as u32 != 0 && !mapped {
        let stat = Stat::of(file.fd.as_fd())?;
        if !is_placed(call, &stat, args.offset)? {
            return append(call, &file, data, told, stat);
        }
    }
    let mut done = 0;
    while done < data.len() {
        let write = || rustix::io::pwrite(&file.fd, &data[done..], args.offset + done as u64);
        let wrote = match mapped {
            true => creds::act_as_nobody(write),
            false => actor.act_dropping_set_ids(file.fd.as_fd(), told, write),
        };
        match wrote {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    wrote(call, done)
}

/// Appends `data`; `stat` is what the file is.
///
/// With the offset -1 the write goes through the description's own position, which nothing else of this daemon uses, and
/// which the kernel leaves behind what was appended. It is set to 0 before, and outlives a server that is killed; so where it
/// is says whether these bytes have been appended, whatever others have appended meanwhile. The kernel sends one append to a
/// file at a time, and no LSEEK meanwhile (`fuse_direct_write_iter`, `fuse_file_llseek`: both with the inode's lock).
fn append(
    call: &mut Call<'_>,
    file: &File,
    data: &[u8],
    told: Option<bool>,
    mut stat: Stat,
) -> Handled {
    let mut done = 0;
    if let Some([size, before, ..]) = call.begun() {
        let end = rustix::fs::seek(&file.fd, SeekFrom::Current(0))?;
        let appended = match end {
            0 => 0,
            end => end.saturating_sub(size) as usize,
        };
        done = (before as usize + appended).min(data.len());
    }
    while done < data.len() {
        rustix::fs::seek(&file.fd, SeekFrom::Start(0))?;
        call.begin(&[stat.0.stx_size, done as u64]);
        let slices = [IoSlice::new(&data[done..])];
        let write = || rustix::io::pwritev2(&file.fd, &slices, u64::MAX, ReadWriteFlags::APPEND);
        let actor = call.actor();
        match actor.act_dropping_set_ids_of(&stat, told, write) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
        if done < data.len() {
            stat = Stat::of(file.fd.as_fd())?;
        }
    }
    wrote(call, done)
}

fn wrote(call: &mut Call<'_>, size: usize) -> Handled {
    call.reply.put(&WriteOut {
        size: size as u32,
        padding: 0,
    });
    Ok(())
}

/// True if a WRITE through an O_APPEND handle is to go where it says (RWF_NOAPPEND), which the kernel does not tell. What
/// appends is sent with the end that the kernel knows; only where that is not the end is the client looked at.
fn is_placed(call: &Call<'_>, stat: &Stat, offset: u64) -> Result<bool, Errno> {
    let thread = call.frame.head.pid;
    let placed = thread != 0
        && stat.0.stx_size != offset
        && creds::own(|| Ok(proc::writes_without_append(thread))) == Ok(true);
    // As `kiocb_set_rw_flags` does, which has not seen the attribute on the inode of the mount.
    if placed && stat.is_append_only() {
        return Err(Errno::PERM);
    }
    Ok(placed)
}

/// RELEASE: the last use of the handle is over.
pub(crate) fn release(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReleaseIn>()?;
    let node = call.node()?;
    lock::release(call, args);
    // Of opens without descriptors only the number is known, from which one is not to be taken twice. One that is not taken
    // off keeps the backing file registered.
    if args.fh & NO_DESCRIPTOR == 0 || call.flight.steps(call.frame.head.unique) == 0 {
        let asker = call.changes(CountChange::Step(1));
        call.fs.opens.close(&node, args.fh, asker);
    }
    Ok(())
}

/// FSYNC.
pub(crate) fn fsync(call: &mut Call<'_>) -> Handled {
    let args = call.args::<FsyncIn>()?;
    let file = handle(call, args.fh)?;
    sync(file.fd.as_fd(), args)?;
    Ok(())
}

/// fsync or fdatasync, as asked.
pub(crate) fn sync(fd: rustix::fd::BorrowedFd<'_>, args: &FsyncIn) -> Result<(), Errno> {
    if FsyncFlags::from_bits_retain(args.fsync_flags).contains(FsyncFlags::FDATASYNC) {
        rustix::fs::fdatasync(fd)
    } else {
        rustix::fs::fsync(fd)
    }
}

/// FALLOCATE, with the lower file system's modes.
pub(crate) fn fallocate(call: &mut Call<'_>) -> Handled {
    let args = call.args::<FallocateIn>()?;
    let file = handle(call, args.fh)?;
    let mode = FallocateFlags::from_bits_retain(args.mode);
    if mode.intersects(FallocateFlags::COLLAPSE_RANGE | FallocateFlags::INSERT_RANGE) {
        // What follows is moved, so the size tells whether it has been.
        let size = Stat::of(file.fd.as_fd())?.0.stx_size;
        if call.begun().is_some_and(|[before, ..]| before != size) {
            return Ok(());
        }
        call.begin(&[size]);
    }
    call.actor()
        .act_dropping_set_ids(file.fd.as_fd(), None, || {
            rustix::fs::fallocate(&file.fd, mode, args.offset, args.length)
        })?;
    Ok(())
}

/// LSEEK, sent for SEEK_DATA and SEEK_HOLE only.
pub(crate) fn lseek(call: &mut Call<'_>) -> Handled {
    let args = call.args::<LseekIn>()?;
    let file = handle(call, args.fh)?;
    let to = match args.whence as i32 {
        libc::SEEK_DATA => SeekFrom::Data(args.offset),
        libc::SEEK_HOLE => SeekFrom::Hole(args.offset),
        libc::SEEK_SET => SeekFrom::Start(args.offset),
        libc::SEEK_END => SeekFrom::End(args.offset as i64),
        _ => return Err(Errno::INVAL.into()),
    };
    let offset = rustix::fs::seek(&file.fd, to)?;
    call.reply.put(&LseekOut { offset });
    Ok(())
}

/// COPY_FILE_RANGE, whose answer has 32 bits.
pub(crate) fn copy_file_range(call: &mut Call<'_>) -> Handled {
    let copied = copy(call, u64::from(u32::MAX) & !0xfff)?;
    wrote(call, copied as usize)
}

/// COPY_FILE_RANGE_64 (protocol 7.45, Linux 6.18).
pub(crate) fn copy_file_range_64(call: &mut Call<'_>) -> Handled {
    let copied = copy(call, u64::MAX)?;
    call.reply.put(&CopyFileRangeOut {
        bytes_copied: copied,
    });
    Ok(())
}

/// How much is copied between two looks at whether the client still waits, in bytes: a fraction of a second on a slow
/// disk, and a multiple of every block size, so that what can be shared is shared.
const COPY_PART: u64 = 16 << 20;

fn copy(call: &mut Call<'_>, most: u64) -> Handled<u64> {
    let args = call.args::<CopyFileRangeIn>()?;
    if args.flags != 0 {
        return Err(Errno::INVAL.into());
    }
    let from = handle(call, args.fh_in)?;
    let to = call
        .fs
        .lower
        .nodes
        .get(NodeId::of(args.nodeid_out))
        .ok_or(Errno::BADF)
        .and_then(|node| call.fs.opens.file(&node, args.fh_out))?;
    let len = args.len.min(most);
    let (mut off_in, mut off_out) = (args.off_in, args.off_out);
    let mut done = 0;
    while done < len {
        // Who asks for a part is told how much was copied.
        match call.check_interrupt() {
            Err(_) if done > 0 => break,
            other => other?,
        }
        let part = (len - done).min(COPY_PART);
        let copied = call.actor().act_dropping_set_ids(to.fd.as_fd(), None, || {
            let (at_in, at_out) = (Some(&mut off_in), Some(&mut off_out));
            rustix::fs::copy_file_range(&from.fd, at_in, &to.fd, at_out, part as usize)
        });
        match copied {
            Ok(n) => {
                done += n as u64;
                if (n as u64) < part {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}
