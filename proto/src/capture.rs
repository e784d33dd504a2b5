//! Recordings of a conversation with the kernel: bytes of a file in, records out, and the reverse.
//!
//! ```text
//! file    header | record ...                          the first record is what INIT agreed on, the second the rules
//! header  "etcfsrec" | version u16 | flags u16 | 0 u32 | began u64 | 0 u64                             32 bytes
//! record  kind u8 | 0 u8 | cpu u16 | thread u32 | time u64 | opcode u32 | len u32 | kept u32 | bytes   28 bytes + kept
//! ```
//!
//! Everything here is little-endian; the messages themselves are in the byte order of the machine that recorded them,
//! which a flag tells. `began` is in nanoseconds since 1970, `time` in nanoseconds since `began`.
//!
//! `len` is the message's length on the wire and `kept` how many of its bytes, from the first on, follow: the contents of
//! files and extended attributes come last in every message that holds any ([`strip`]), and are cut off unless they were
//! asked for. What was cut off reads as zeros. Names may be hidden by [`Redactor`], which keeps every length.
//!
//! The rules are text, one line each: `legacy_global exact` if that was set, `source LEN PATH` for the text of LEN bytes
//! that an inject override has from PATH, `more N` for N lines that did not fit, and for everything else the commands
//! that make the configuration as it is. Version 1 has no such records, and no recording before version 3 goes on over a
//! restart of the server.

mod check;
mod error;
mod read;
mod redact;
pub mod strip;
mod write;

pub use check::{Conversation, Fault};
pub use error::CaptureError;
pub use read::{Message, Reader};
pub use redact::{KEPT_NAMES, Redactor};
pub use write::write_record;

use crate::Opcode;

/// The first bytes of a recording.
pub const MAGIC: [u8; 8] = *b"etcfsrec";
/// The version of the format that this crate writes.
pub const VERSION: u16 = 3;
/// The oldest version that it reads.
pub const OLDEST: u16 = 1;
/// Length of the header in bytes.
pub const HEADER: usize = 32;
/// Length of a record without its message, in bytes.
pub const RECORD: usize = 28;
/// The longest message in bytes: twice what the largest WRITE of this implementation takes, with its header.
pub const MESSAGE_MAX: u32 = 2 << 20;

bitflags::bitflags! {
    /// What a recording holds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CaptureFlags: u16 {
        /// The contents of files and extended attributes.
        const DATA = 1;
        /// Hidden names.
        const REDACTED = 2;
        /// Messages of a big-endian machine.
        const BIG_ENDIAN = 4;
    }
}

impl CaptureFlags {
    /// The byte order of this machine.
    pub fn native() -> CaptureFlags {
        if cfg!(target_endian = "big") {
            CaptureFlags::BIG_ENDIAN
        } else {
            CaptureFlags::empty()
        }
    }
}

/// What a file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the recording holds.
    pub flags: CaptureFlags,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
}

impl Header {
    /// The bytes of the file's header.
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.flags.bits().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.began.to_le_bytes());
        bytes
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The answer to INIT: what the connection had agreed on when the recording began.
    Init = 1,
    /// A request was about to be carried out.
    Request = 2,
    /// An answer was about to be written.
    Answer = 3,
    /// A request that the kernel wants no answer to was carried out; the message is the answer's place, and empty.
    Done = 4,
    /// `len` records are missing here, because they came faster than they could be written. No message.
    Lost = 5,
    /// The rules in force from here on; not a message of the wire.
    Rules = 6,
    /// The server was replaced, because it was killed or another one was asked for. Its successor does again what it had
    /// begun: a request from before may follow once more, and so may its answer, with [`UNIQUE_RESEND`](crate::abi) in
    /// their numbers if the kernel has sent it again. No message.
    Restart = 7,
}

impl RecordKind {
    fn of(byte: u8) -> Option<RecordKind> {
        [
            RecordKind::Init,
            RecordKind::Request,
            RecordKind::Answer,
            RecordKind::Done,
            RecordKind::Lost,
            RecordKind::Rules,
            RecordKind::Restart,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// The processor that handled it.
    pub cpu: u16,
    /// The thread that handled it.
    pub thread: u32,
    /// Nanoseconds since the recording began.
    pub time: u64,
    /// The request's opcode; of an answer, the opcode of the request that it answers.
    pub opcode: Opcode,
    /// The message's length on the wire in bytes; for [`RecordKind::Lost`] how many records are missing.
    pub len: u32,
    /// The message, or its beginning.
    pub kept: &'a [u8],
}

impl Record<'_> {
    /// Whether the end of the message was left out.
    pub fn is_cut(&self) -> bool {
        self.kind != RecordKind::Lost && (self.kept.len() as u64) < u64::from(self.len)
    }
}
