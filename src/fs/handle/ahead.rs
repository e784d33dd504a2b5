//! What has been read from a lower directory and may still be asked for.
//!
//! On ramfs, and on tmpfs before Linux 6.6 (fs/libfs.c, `dcache_dir_lseek`), the offset of an entry is the number of
//! entries before it, so that a seek to an offset after removals lands further on and loses entries. Only a descriptor that
//! is read on and never sought keeps its place there. Therefore what was read and did not fit into an answer is kept;
//! so is what the last answer held, because the kernel asks again for that part of an answer that its caller's buffer
//! had no room for (fs/fuse/readdir.c). All of it is lost with its server; see `go_back`.

use rustix::fd::OwnedFd;
use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// Bytes of lower entries read at once. An entry takes about as many bytes in the answer.
const CHUNK: usize = 16 * 1024;

/// An entry of the lower directory.
#[derive(Clone, Copy)]
pub(crate) struct Read<'a> {
    /// Lower inode number.
    pub(crate) ino: u64,
    /// The lower cookie behind this entry.
    pub(crate) next: u64,
    /// `DT_REG` and so on.
    pub(crate) kind: u8,
    /// The name.
    pub(crate) name: &'a [u8],
}

struct Batched {
    ino: u64,
    next: u64,
    kind: u8,
    /// Where the name ends in `Ahead::names`; it begins where that of the entry before it ends.
    name_end: usize,
}

/// Entries that have been read, in the lower directory's order: those of the last answer and those behind it. The lower
/// descriptor stands behind the last of them.
#[derive(Default)]
pub(crate) struct Ahead {
    /// The cookie before the first entry.
    begin: u64,
    entries: Vec<Batched>,
    names: Vec<u8>,
    /// The entry that follows those of the last answer.
    at: usize,
    /// The descriptor has been read since it was last sought; perhaps nothing but hidden entries.
    moved: bool,
    /// A predecessor has read from it.
    inherited: bool,
}

impl Ahead {
    /// Of a directory that a predecessor has read: where the descriptor stands is not known.
    pub(crate) fn inherited() -> Ahead {
        Ahead {
            begin: u64::MAX,
            moved: true,
            inherited: true,
            ..Ahead::default()
        }
    }

    /// Goes to the entry behind `cookie`, and lets go of what lies before it. Entries read earlier serve again, except
    /// from the directory's very beginning if `afresh`, which rewinddir(3) demands.
    ///
    /// # Errors
    /// What lseek(2) answers on the lower directory.
    pub(crate) fn go_to(&mut self, fd: &OwnedFd, cookie: u64, afresh: bool) -> Result<(), Errno> {
        let known = if afresh {
            (!self.moved && self.begin == cookie).then_some(0)
        } else if self.before(self.at) == cookie {
            // Before the search: where two names have one hash, ext4 has two entries behind one cookie.
            Some(self.at)
        } else {
            (0..=self.entries.len()).find(|&index| self.before(index) == cookie)
        };
        if let Some(index) = known {
            self.let_go(index, cookie);
            return Ok(());
        }
        self.let_go(self.entries.len(), cookie);
        // A descriptor whose seek failed stands where it stood.
        self.begin = u64::MAX;
        match std::mem::take(&mut self.inherited) {
            true => go_back(fd, cookie)?,
            false => _ = rustix::fs::seek(fd, SeekFrom::Start(cookie))?,
        }
        self.begin = cookie;
        self.moved = false;
        Ok(())
    }

    /// Gives the entries from here on to `take` until that returns false; the entry that it refuses stays the next one.
    /// Entries that are `hidden` are passed over.
    ///
    /// # Errors
    /// What getdents64(2) answers.
    pub(crate) fn give(
        &mut self,
        fd: &OwnedFd,
        hidden: impl Fn(&[u8]) -> bool,
        take: &mut dyn FnMut(Read<'_>) -> bool,
    ) -> Result<(), Errno> {
        loop {
            while let Some(entry) = self.entry(self.at) {
                if !take(entry) {
                    return Ok(());
                }
                self.at += 1;
            }
            if !self.read_on(fd, &hidden)? {
                if self.entries.is_empty() {
                    // The client has everything: directories that stay open take no memory.
                    self.entries = Vec::new();
                    self.names = Vec::new();
                }
                return Ok(());
            }
        }
    }

    /// Reads the next entries of the lower directory. False: it has ended.
    fn read_on(&mut self, fd: &OwnedFd, hidden: impl Fn(&[u8]) -> bool) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); CHUNK];
        let mut read = RawDir::new(fd, &mut buffer);
        let mut any = false;
        self.moved = true;
        // One system call: the next one would be made by the call of next() behind the last entry.
        while !any || !read.is_buffer_empty() {
            let Some(entry) = read.next() else {
                return Ok(false);
            };
            let entry = entry?;
            any = true;
            let name = entry.file_name().to_bytes();
            if !hidden(name) {
                self.names.extend_from_slice(name);
                self.entries.push(Batched {
                    ino: entry.ino(),
                    next: entry.next_entry_cookie(),
                    kind: dirent_kind(entry.file_type()),
                    name_end: self.names.len(),
                });
            }
        }
        Ok(true)
    }

    /// The cookie before entry `index`.
    fn before(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            Some(previous) => self.entries[previous].next,
            None => self.begin,
        }
    }

    fn entry(&self, index: usize) -> Option<Read<'_>> {
        let kept = self.entries.get(index)?;
        let name = self.names.get(self.name_begin(index)..kept.name_end)?;
        Some(Read {
            ino: kept.ino,
            next: kept.next,
            kind: kept.kind,
            name,
        })
    }

    /// Where the name of entry `index` begins, or would.
    fn name_begin(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            Some(previous) => self.entries[previous].name_end,
            None => 0,
        }
    }

    /// Forgets the entries before `index`, which lies behind `cookie`.
    fn let_go(&mut self, index: usize, cookie: u64) {
        let names = self.name_begin(index);
        self.names.drain(..names);
        self.entries.drain(..index);
        for kept in &mut self.entries {
            kept.name_end -= names;
        }
        self.begin = cookie;
        self.at = 0;
    }
}

/// Goes to the entry behind `cookie` in a directory from which somebody else has read that far and further, who is gone.
///
/// Where offsets are numbers of entries, what was read and not given is the entries just before the place at which the
/// descriptor stands: so many of them as the two offsets differ by, however many names before those have come or gone. If some
/// of those themselves are gone, the last ones before them come twice; none is lost.
fn go_back(fd: &OwnedFd, cookie: u64) -> Result<(), Errno> {
    let stands = rustix::fs::seek(fd, SeekFrom::Current(0))?;
    if stands == cookie {
        // A seek to where it stands would find another place.
        return Ok(());
    }
    let mut to = cookie;
    if let Some(ahead) = stands
        .checked_sub(cookie)
        .filter(|_| cookie > 0 && may_count(fd))
    {
        let (behind, _) = count(fd)?;
        rustix::fs::seek(fd, SeekFrom::Start(0))?;
        let (all, are_numbers) = count(fd)?;
        if are_numbers {
            to = all.saturating_sub(behind).saturating_sub(ahead);
        }
    }
    rustix::fs::seek(fd, SeekFrom::Start(to))?;
    Ok(())
}

/// True on file systems whose offsets may be numbers of entries.
fn may_count(fd: &OwnedFd) -> bool {
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let kind = rustix::fs::fstatfs(fd).map(|stat| stat.f_type as u64 & 0xffff_ffff);
    kind.is_ok_and(|kind| kind == RAMFS_MAGIC || kind == TMPFS_MAGIC)
}

/// How many entries there are from here to the end, and whether each one's cookie is its number.
fn count(fd: &OwnedFd) -> Result<(u64, bool), Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); CHUNK];
    let mut entries = RawDir::new(fd, &mut buffer);
    let (mut count, mut are_numbers) = (0, true);
    while let Some(entry) = entries.next() {
        count += 1;
        are_numbers &= entry?.next_entry_cookie() == count;
    }
    Ok((count, are_numbers))
}

fn dirent_kind(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}
