//! The contents of a regular file, holes kept.

use rustix::fd::BorrowedFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How much is handed to `copy_file_range` at once: 1 MiB, so that a client that is killed does not wait for long.
const AT_ONCE: u64 = 1 << 20;

/// The buffer where the kernel cannot copy by itself: 128 KiB.
const BUFFER: usize = 128 << 10;

/// Copies the `size` bytes of `from` into the empty file `to`, its holes as holes. `copied` is told of every piece of 1 MiB
/// at most.
///
/// # Errors
/// EIO, ENOSPC, EDQUOT, EFBIG as `read(2)` and `write(2)`, and those of `copied`.
pub(crate) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    size: u64,
    copied: &dyn Fn(u64) -> Result<(), Errno>,
) -> Result<(), Errno> {
    // First, so that holes need nothing but to be passed over.
    rustix::fs::ftruncate(to, size)?;
    let mut copier = Copier {
        from,
        to,
        copied,
        buffer: Vec::new(),
    };
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole from here on.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes: all of it is data.
            Err(_) => {
                copier.range(at, size)?;
                break;
            }
        };
        let hole = rustix::fs::seek(from, SeekFrom::Hole(data)).unwrap_or(size);
        let end = hole.min(size);
        if data < end {
            copier.range(data, end)?;
        }
        at = hole.max(data + 1);
    }
    Ok(())
}

struct Copier<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    copied: &'a dyn Fn(u64) -> Result<(), Errno>,
    /// Empty as long as the kernel copies by itself.
    buffer: Vec<u8>,
}

impl Copier<'_> {
    /// Copies the bytes from `at` to `end`. A file that has become shorter meanwhile is copied as far as it goes; the
    /// caller finds out that it has changed.
    fn range(&mut self, mut at: u64, end: u64) -> Result<(), Errno> {
        while at < end {
            let copied = self.some(at, end.min(at + AT_ONCE))?;
            if copied == 0 {
                return Ok(());
            }
            (self.copied)(copied)?;
            at += copied;
        }
        Ok(())
    }

    fn some(&mut self, at: u64, end: u64) -> Result<u64, Errno> {
        if self.buffer.is_empty() {
            let (mut off_in, mut off_out) = (at, at);
            let len = (end - at) as usize;
            match rustix::fs::copy_file_range(
                self.from,
                Some(&mut off_in),
                self.to,
                Some(&mut off_out),
                len,
            ) {
                // 0 may mean that the file has ended, or that the file system cannot (before Linux 5.19): read it.
                Ok(0) => {}
                Ok(copied) => return Ok(copied as u64),
                Err(Errno::INTR) => return self.some(at, end),
                // Between file systems of different kinds (EXDEV), or where one of them cannot.
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(errno),
            }
            self.buffer = vec![0; BUFFER];
        }
        let len = (end - at).min(BUFFER as u64) as usize;
        let read = retry(|| rustix::io::pread(self.from, &mut self.buffer[..len], at))?;
        let mut written = 0;
        while written < read {
            written += retry(|| {
                rustix::io::pwrite(self.to, &self.buffer[written..read], at + written as u64)
            })?;
        }
        Ok(read as u64)
    }
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
