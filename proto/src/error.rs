//! What can be wrong with a message.

use crate::Opcode;
use std::fmt;

/// Why a message could not be taken apart. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The message does not even hold its header of 40 bytes (16 for an answer).
    ShortHead {
        /// Bytes that came.
        have: usize,
    },
    /// The buffer does not begin at a multiple of 8, so its structs cannot be borrowed.
    Unaligned,
    /// The header's length is not the number of bytes that came.
    WrongLength {
        /// The request; for an answer the one it answers.
        opcode: Opcode,
        /// The header's length.
        says: u32,
        /// Bytes that came.
        have: usize,
    },
    /// The fixed arguments are cut off, or of another size than the struct asked for.
    WrongArgs {
        /// The request.
        opcode: Opcode,
        /// Size of the struct.
        need: usize,
        /// Bytes that came.
        have: usize,
    },
    /// The header announces more extensions than the message holds.
    ShortExtensions {
        /// The request.
        opcode: Opcode,
        /// Bytes announced.
        need: usize,
        /// Bytes behind the fixed arguments.
        have: usize,
    },
    /// An extension is shorter than its own header or reaches beyond the extensions' end.
    BadExtension {
        /// The request.
        opcode: Opcode,
        /// The extension's size as it says.
        size: u32,
        /// Bytes left.
        have: usize,
    },
    /// A name is missing or does not end in a NUL.
    MissingNul {
        /// The request.
        opcode: Opcode,
        /// Which name: 1 or 2.
        name: u8,
    },
    /// A name has no byte before its NUL.
    EmptyName {
        /// The request.
        opcode: Opcode,
        /// Which name: 1 or 2.
        name: u8,
    },
    /// Bytes follow the last name's NUL: a NUL within a name, or a name too many.
    BytesAfterName {
        /// The request.
        opcode: Opcode,
        /// How many bytes.
        extra: usize,
    },
    /// The data is not as long as the arguments say.
    WrongData {
        /// The request.
        opcode: Opcode,
        /// Bytes that the arguments announce.
        need: u64,
        /// Bytes that came.
        have: usize,
    },
    /// An answer's body is not what answers the request.
    WrongBody {
        /// The request.
        opcode: Opcode,
        /// Size of what was expected, or of its next part.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The request has no such part, as with a name of READ.
    NoSuchPart {
        /// The request.
        opcode: Opcode,
        /// What was asked for.
        part: &'static str,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ShortHead { have } => write!(f, "message of {have} bytes has no complete header"),
            Self::Unaligned => f.write_str("message does not begin at a multiple of 8 bytes"),
            Self::WrongLength { opcode, says, have } => {
                write!(f, "{opcode}: header says {says} bytes, {have} came")
            }
            Self::WrongArgs { opcode, need, have } => {
                write!(f, "{opcode}: arguments need {need} bytes, {have} came")
            }
            Self::ShortExtensions { opcode, need, have } => {
                write!(f, "{opcode}: extensions need {need} bytes, {have} are left")
            }
            Self::BadExtension { opcode, size, have } => {
                write!(f, "{opcode}: extension of {size} bytes among {have}")
            }
            Self::MissingNul { opcode, name } => write!(f, "{opcode}: name {name} has no NUL"),
            Self::EmptyName { opcode, name } => write!(f, "{opcode}: name {name} is empty"),
            Self::BytesAfterName { opcode, extra } => {
                write!(f, "{opcode}: {extra} bytes follow the last name")
            }
            Self::WrongData { opcode, need, have } => {
                write!(f, "{opcode}: data needs {need} bytes, {have} came")
            }
            Self::WrongBody { opcode, need, have } => {
                write!(f, "{opcode}: answer needs {need} bytes, {have} came")
            }
            Self::NoSuchPart { opcode, part } => write!(f, "{opcode} has no {part}"),
        }
    }
}

impl std::error::Error for WireError {}
