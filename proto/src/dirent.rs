//! Packing the entries of READDIR and READDIRPLUS.

use crate::Reply;
use crate::abi::{Dirent, EntryOut, rec_align};
use zerocopy::IntoBytes;

/// Appends directory entries to an answer, up to a budget of bytes. An entry that does not fit is not begun.
#[derive(Debug)]
pub struct DirPacker<'a> {
    reply: &'a mut Reply,
    left: usize,
}

impl<'a> DirPacker<'a> {
    /// Packs into the body of `reply`, `size` bytes at most: the `size` of the request.
    pub fn new(reply: &'a mut Reply, size: u32) -> Self {
        Self {
            reply,
            left: usize::try_from(size).unwrap_or(usize::MAX),
        }
    }

    /// Appends an entry of READDIR. `off` continues the listing behind it, `kind` is its `DT_*`, and `name` has 1 to 1024
    /// bytes without a slash or a NUL: anything else makes the kernel answer the whole listing with EIO. False: no room.
    pub fn push(&mut self, ino: u64, off: u64, kind: u32, name: &[u8]) -> bool {
        self.append(&[], ino, off, kind, name)
    }

    /// Appends an entry of READDIRPLUS; otherwise as [`DirPacker::push`]. With a nodeid in `entry`, the kernel counts one
    /// lookup; only then, and only when this returned true, must the server count it too.
    pub fn push_plus(
        &mut self,
        entry: &EntryOut,
        ino: u64,
        off: u64,
        kind: u32,
        name: &[u8],
    ) -> bool {
        self.append(entry.as_bytes(), ino, off, kind, name)
    }

    /// Bytes of the budget that are left.
    pub fn left(&self) -> usize {
        self.left
    }

    fn append(&mut self, entry: &[u8], ino: u64, off: u64, kind: u32, name: &[u8]) -> bool {
        let len = entry.len() + size_of::<Dirent>() + name.len();
        let record = rec_align(len);
        let Ok(namelen) = u32::try_from(name.len()) else {
            return false;
        };
        if record > self.left {
            return false;
        }
        self.left -= record;
        self.reply.put_bytes(entry);
        self.reply.put(&Dirent {
            ino,
            off,
            namelen,
            r#type: kind,
        });
        self.reply.put_bytes(name);
        self.reply.space(record - len).fill(0);
        true
    }
}
