//! Room for messages.

use zerocopy::IntoBytes as _;

/// A buffer for requests, aligned for the wire's 64-bit fields.
pub(crate) struct Buffer {
    words: Vec<u64>,
    len: usize,
    /// When its message was read, see [`now`](super::meter::now).
    pub(crate) taken: u64,
}

impl Buffer {
    /// Room for `len` bytes. Pages that are never written cost no memory.
    pub(crate) fn new(len: usize) -> Buffer {
        Buffer {
            words: vec![0; len.div_ceil(8)],
            len,
            taken: 0,
        }
    }

    /// A copy of one message, read at `taken`.
    pub(crate) fn copy(message: &[u8], taken: u64) -> Buffer {
        let mut buffer = Buffer::new(message.len());
        buffer.taken = taken;
        buffer.bytes_mut().copy_from_slice(message);
        buffer
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    /// The bytes, for filling.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.len]
    }
}
