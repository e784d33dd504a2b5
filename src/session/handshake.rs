//! INIT: the first request of a connection, answered before any worker runs.

use super::buffer::Buffer;
use etcfs_proto::init::{Agreed, Offer, Refusal, Wish, negotiate};
use etcfs_proto::{Frame, Opcode, Reply, WireError};
use rustix::fd::BorrowedFd;
use rustix::io::{self, Errno};
use std::fmt;

/// The smallest buffer that the kernel accepts for reading (`FUSE_MIN_READ_BUFFER`): 8192 bytes.
const MIN_READ_BUFFER: usize = 8192;

/// Why no session came about.
#[derive(Debug)]
pub enum HandshakeError {
    /// The device could not be read.
    Read(Errno),
    /// The answer could not be written.
    Write(Errno),
    /// What came was no request.
    Malformed(WireError),
    /// What came first was not INIT.
    NotInit(Opcode),
    /// The kernel's offer cannot be taken.
    Refused(Refusal),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Read(errno) => write!(f, "reading the kernel's INIT request: {errno}"),
            HandshakeError::Write(errno) => {
                write!(f, "answering the kernel's INIT request: {errno}")
            }
            HandshakeError::Malformed(error) => write!(f, "the kernel's INIT request: {error}"),
            HandshakeError::NotInit(opcode) => {
                write!(f, "the first request was {opcode}, not INIT")
            }
            HandshakeError::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// Reads INIT from `dev`, negotiates, and answers.
///
/// # Errors
/// See [`HandshakeError`]. After a refusal the kernel has been told, and every use of the mount fails.
pub fn handshake(dev: BorrowedFd<'_>, wish: &Wish) -> Result<Agreed, HandshakeError> {
    let mut buffer = Buffer::own(MIN_READ_BUFFER);
    let len = loop {
        match io::read(dev, buffer.bytes_mut()) {
            Ok(len) => break len,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(HandshakeError::Read(errno)),
        }
    };
    let frame = Frame::cut(&buffer.bytes()[..len]).map_err(HandshakeError::Malformed)?;
    if frame.opcode() != Opcode::INIT {
        return Err(HandshakeError::NotInit(frame.opcode()));
    }
    let mut reply = Reply::with_capacity(64);
    let offer = Offer::of(&frame).map_err(HandshakeError::Malformed)?;
    match negotiate(&offer, wish) {
        Ok(agreed) => {
            let (out, len) = agreed.to_out();
            reply.put(&out);
            reply.truncate_body(len);
            io::write(dev, reply.finish(frame.head.unique)).map_err(HandshakeError::Write)?;
            Ok(agreed)
        }
        Err(refusal) => {
            let answer = reply.finish_error(frame.head.unique, Errno::PROTO.raw_os_error());
            let _ = io::write(dev, answer);
            Err(HandshakeError::Refused(refusal))
        }
    }
}
