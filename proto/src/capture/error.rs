//! What can be wrong with a recording.

use super::{MESSAGE_MAX, OLDEST, VERSION};
use std::fmt;

/// Why a recording cannot be read, or not further. `at` is a record's offset in the file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureError {
    /// It does not begin as a recording does.
    NotARecording,
    /// It is of another version.
    Version {
        /// Its version.
        found: u16,
    },
    /// It was made on a machine of the other byte order.
    ByteOrder,
    /// The first record is not what INIT agreed on.
    NoInit,
    /// The file ends within a record. Everything before it is whole.
    Truncated {
        /// Where the record begins.
        at: usize,
        /// Bytes that it needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// A record of no known kind.
    Kind {
        /// Where it begins.
        at: usize,
        /// Its kind.
        kind: u8,
    },
    /// A message longer than any can be.
    TooLong {
        /// Where the record begins.
        at: usize,
        /// The message's length.
        len: u32,
    },
    /// More bytes are kept than the message has.
    TooMuchKept {
        /// Where the record begins.
        at: usize,
        /// The message's length.
        len: u32,
        /// Bytes kept.
        kept: u32,
    },
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotARecording => f.write_str("this is no recording; etcfsctl record makes one"),
            Self::Version { found } => write!(
                f,
                "the recording is of version {found}, and versions {OLDEST} to {VERSION} can be read here: use the \
                 etcfsctl of its time"
            ),
            Self::ByteOrder => f.write_str(
                "the recording was made on a machine of the other byte order and can be read on such a one only",
            ),
            Self::NoInit => {
                f.write_str("the recording does not begin with what INIT agreed on")
            }
            Self::Truncated { at, need, have } => write!(
                f,
                "the recording ends within the record at byte {at}, which needs {need} bytes and has {have}"
            ),
            Self::Kind { at, kind } => write!(f, "the record at byte {at} is of no known kind ({kind})"),
            Self::TooLong { at, len } => write!(
                f,
                "the record at byte {at} has a message of {len} bytes, and none can have more than {MESSAGE_MAX}"
            ),
            Self::TooMuchKept { at, len, kept } => write!(
                f,
                "the record at byte {at} keeps {kept} bytes of a message of {len}"
            ),
        }
    }
}

impl std::error::Error for CaptureError {}
