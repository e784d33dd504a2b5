//! One answer. The only place where an answer's length and sign are computed.

use crate::abi::OutHeader;
use crate::{Opcode, WireError};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The error that stands for one that the kernel would not take (`EIO`, the same number on every architecture).
const EIO: i32 = 5;
/// The kernel takes errors above -512 only; a lower one is refused and the caller would wait for ever.
const MAX_ERROR: i32 = 511;
const HEAD: usize = size_of::<OutHeader>();

/// A buffer for one answer at a time, with room for the header in front. Reused, it allocates only to grow.
#[derive(Debug, Default)]
pub struct Reply {
    /// Initialised throughout; longer than the message where an earlier one was longer.
    bytes: Vec<u8>,
    /// Length of the body in `bytes`, behind the header.
    body: usize,
}

impl Reply {
    /// A buffer that takes a body of `n` bytes without allocating.
    pub fn with_capacity(n: usize) -> Self {
        Self {
            bytes: vec![0; HEAD + n],
            body: 0,
        }
    }

    /// Empties the body.
    pub fn clear(&mut self) {
        self.body = 0;
    }

    /// Appends a struct to the body.
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.put_bytes(value.as_bytes());
    }

    /// Appends bytes to the body.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
    }

    /// Appends `n` bytes to the body for the caller to fill. Their content is not specified (it may be an earlier
    /// answer's): what is not filled must be cut off with [`Reply::truncate_body`], or the caller of another request
    /// would see it.
    pub fn space(&mut self, n: usize) -> &mut [u8] {
        let begin = HEAD + self.body;
        let end = begin + n;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.body += n;
        &mut self.bytes[begin..end]
    }

    /// Shortens the body to `n` bytes; a shorter one stays as it is.
    pub fn truncate_body(&mut self, n: usize) {
        self.body = self.body.min(n);
    }

    /// The body so far.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEAD..HEAD + self.body).unwrap_or_default()
    }

    /// Length of the body so far, in bytes.
    pub fn body_len(&self) -> usize {
        self.body
    }

    /// The message that answers request `unique` with the body. A body beyond 4 GiB becomes the error EIO.
    pub fn finish(&mut self, unique: u64) -> &[u8] {
        self.seal(unique, 0)
    }

    /// The message that answers request `unique` with an error, given as a positive errno; the body is dropped. A number
    /// that the kernel would refuse becomes EIO: without an answer the caller would wait for ever.
    pub fn finish_error(&mut self, unique: u64, errno: i32) -> &[u8] {
        self.body = 0;
        let errno = if (1..=MAX_ERROR).contains(&errno) {
            errno
        } else {
            EIO
        };
        self.seal(unique, -errno)
    }

    /// The message that notifies the kernel with the body.
    pub(crate) fn finish_notice(&mut self, code: i32) -> &[u8] {
        self.seal(0, code)
    }

    fn seal(&mut self, unique: u64, error: i32) -> &[u8] {
        let Ok(len) = u32::try_from(HEAD + self.body) else {
            return self.finish_error(unique, EIO);
        };
        let end = HEAD + self.body;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[..HEAD].copy_from_slice(OutHeader { len, error, unique }.as_bytes());
        &self.bytes[..end]
    }
}

/// Cuts an answer or a notice into its header and its body. `opcode` is the request's, for the error's sake. The bytes may
/// lie at any address: the header is copied.
pub fn cut_answer(opcode: Opcode, message: &[u8]) -> Result<(OutHeader, &[u8]), WireError> {
    let (head, body) = OutHeader::read_from_prefix(message).map_err(|_| WireError::ShortHead {
        have: message.len(),
    })?;
    if u32::try_from(message.len()) != Ok(head.len) {
        return Err(WireError::WrongLength {
            opcode,
            says: head.len,
            have: message.len(),
        });
    }
    Ok((head, body))
}
