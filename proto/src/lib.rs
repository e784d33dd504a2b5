//! The FUSE wire protocol, version 7.45 (Linux 6.18), as spoken over `/dev/fuse`.
//!
//! Bytes in, borrowed structs out; values in, bytes out. This crate performs no I/O and knows no descriptor, no thread
//! and no clock, so everything in it can be tested, fuzzed and replayed from bytes alone.
//!
//! * [`abi`]: every struct of the protocol, with the kernel's field names.
//! * [`flags`], [`op`]: the flag groups and the opcodes; unknown bits and opcodes are kept and printed.
//! * [`Frame`]: one request, cut into head, fixed arguments, tail and extensions without copying.
//! * [`Reply`], [`DirPacker`]: one answer; length and sign are computed in one place.
//! * [`init`]: the INIT negotiation as a pure function.
//! * [`notify`]: messages that the server sends unasked.
//! * [`show`]: one line of text per message.
//! * [`capture`]: recordings of a conversation.
//!
//! Integers are in the machine's own byte order, as the kernel sends them, and no wire struct holds a `usize`.

#![deny(unreachable_pub)]

pub mod abi;
pub mod capture;
pub mod dirent;
pub mod error;
pub mod ext;
pub mod flags;
pub mod frame;
pub mod init;
pub mod notify;
pub mod op;
pub mod reply;
pub mod show;

pub use dirent::DirPacker;
pub use error::WireError;
pub use frame::Frame;
pub use op::Opcode;
pub use reply::Reply;
