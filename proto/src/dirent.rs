//! Packing the entries of READDIR.

use crate::Reply;
use crate::abi::{Dirent, rec_align};

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
        let len = size_of::<Dirent>() + name.len();
        let record = rec_align(len);
        let Ok(namelen) = u32::try_from(name.len()) else {
            return false;
        };
        if record > self.left {
            return false;
        }
        self.left -= record;
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

    /// Bytes of the budget that are left.
    pub fn left(&self) -> usize {
        self.left
    }
}
