//! From a message to its one answer.

use super::meter::{Done, Meter, Snapshot};
use super::{Session, Times, panics};
use crate::fs::locks::Wait;
use crate::log;
use crate::ops::{self, Call, Handled, Leave, Row, Where};
use etcfs_proto::abi::{InHeader, InterruptIn};
use etcfs_proto::{Frame, Opcode, Reply};
use rustix::io::Errno;
use std::sync::atomic::AtomicBool;
use zerocopy::FromBytes as _;

/// What a worker's handler asks for whether its client was interrupted: it is answered in a moment anyway.
static NEVER: AtomicBool = AtomicBool::new(false);

/// What becomes of a request.
pub enum Outcome<'r> {
    /// Write this to the device.
    Answer(&'r [u8]),
    /// The kernel waits for no answer.
    Silent,
    /// It may take long: serve it again in another thread, with `aside` set.
    Aside,
    /// It is to wait in a thread of its own; [`finish`] makes the answer of what comes of that.
    Wait(Box<Wait>),
}

/// Handles one message, read at `taken`, and counts it in `meter`. `aside`: this is not a worker, so what may take long
/// is done here.
///
/// A handler's error becomes its errno, a panic EIO with one loud line, a malformed message EIO (never ENOSYS, which
/// the kernel remembers for good), an opcode without a row ENOSYS.
pub fn serve<'r>(
    session: &Session,
    meter: &Meter,
    (message, taken): (&[u8], u64),
    reply: &'r mut Reply,
    aside: bool,
) -> Outcome<'r> {
    reply.clear();
    let frame = match Frame::cut(message) {
        Ok(frame) => frame,
        Err(error) => {
            log::error(format_args!("malformed request: {error}"));
            let errno = Errno::IO.raw_os_error();
            meter.end(Snapshot::OTHER, &Done::failed(taken, errno));
            return match unique_of(message) {
                Some(unique) if opcode_of(message).wants_answer() => {
                    Outcome::Answer(reply.finish_error(unique, errno))
                }
                _ => Outcome::Silent,
            };
        }
    };
    let row = ops::find(&frame);
    if row.is_some_and(|row| row.at == Where::Aside) && !aside {
        return Outcome::Aside;
    }
    // What a worker's handler has handed on was shown when the worker read it.
    if !(aside && row.is_some_and(|row| row.at == Where::Worker)) {
        session.observers.each(|observer| observer.request(&frame));
    }
    meter.begin(&frame, taken);
    let at = if aside { Where::Aside } else { Where::Worker };
    let result = match row {
        Some(row) => match run(session, row, &frame, reply, (at, &NEVER)) {
            Ok(()) => Ok(()),
            Err(Leave::Failed(errno)) => Err(errno),
            Err(Leave::Wait(wait)) => {
                // Counted as done: how long others hold a lock says nothing about this daemon.
                meter.end(frame.opcode(), &Done::failed(taken, 0));
                return Outcome::Wait(wait);
            }
            Err(Leave::Later) => {
                meter.hand_on();
                return Outcome::Aside;
            }
        },
        None => Err(Errno::NOSYS),
    };
    let opcode = frame.opcode();
    let times = Times {
        taken,
        done: meter.end(opcode, &done(&frame, taken, result, reply)),
    };
    if opcode == Opcode::INTERRUPT
        && let Ok(args) = frame.args::<InterruptIn>()
    {
        // Most requests are answered in a moment anyway; locks are what is waited for.
        session.waiters.interrupt(args.unique);
    }
    if !opcode.wants_answer() || opcode == Opcode::INTERRUPT {
        session.observers.each(|o| o.answer(&frame, &[], times));
        return Outcome::Silent;
    }
    Outcome::Answer(finish(session, &frame, times, reply, result))
}

/// The one answer to a request: the body that its handler has put into `reply`, or an errno.
pub fn finish<'r>(
    session: &Session,
    frame: &Frame<'_>,
    times: Times,
    reply: &'r mut Reply,
    result: Result<(), Errno>,
) -> &'r [u8] {
    let answer = match result {
        Ok(()) => reply.finish(frame.head.unique),
        // The daemon's descriptors have run out, not the client's own.
        Err(Errno::MFILE) => reply.finish_error(frame.head.unique, Errno::NFILE.raw_os_error()),
        Err(errno) => reply.finish_error(frame.head.unique, errno.raw_os_error()),
    };
    session
        .observers
        .each(|observer| observer.answer(frame, answer, times));
    answer
}

/// What is to be counted of a request.
fn done(frame: &Frame<'_>, taken: u64, result: Result<(), Errno>, reply: &Reply) -> Done {
    let mut done = Done::failed(taken, result.err().map_or(0, Errno::raw_os_error));
    match frame.opcode() {
        Opcode::READ if result.is_ok() => done.read = reply.body_len(),
        Opcode::WRITE if result.is_ok() => done.written = frame.tail.len(),
        _ => {}
    }
    done
}

/// Runs the handler.
fn run(
    session: &Session,
    row: &'static Row,
    frame: &Frame<'_>,
    reply: &mut Reply,
    (at, interrupted): (Where, &AtomicBool),
) -> Handled {
    let mut call = Call {
        frame,
        fs: &session.fs,
        agreed: &session.agreed,
        reply,
        at,
        interrupted,
    };
    panics::catch(|| (row.run)(&mut call)).unwrap_or_else(|panic| {
        log::error(format_args!(
            "{} of node {} {panic}; it was answered EIO, please report this",
            frame.opcode(),
            frame.head.nodeid
        ));
        Err(Errno::IO.into())
    })
}

/// The opcode of a message that has its number: bytes 4 to 7.
fn opcode_of(message: &[u8]) -> Opcode {
    let bytes = message.get(4..8).and_then(|bytes| bytes.try_into().ok());
    Opcode(bytes.map_or(0, u32::from_ne_bytes))
}

/// The thread that asks, of a message that has a whole head; 0 otherwise.
pub fn caller_of(message: &[u8]) -> u32 {
    InHeader::ref_from_prefix(message).map_or(0, |(head, _)| head.pid)
}

/// The number of a message too short or too wrong to be cut, if it has one: bytes 8 to 15.
fn unique_of(message: &[u8]) -> Option<u64> {
    let bytes = message.get(8..16)?.try_into().ok()?;
    Some(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests;
