//! From a message to its one answer.

use super::buffer::Request;
use super::connection::Session;
use super::head::{opcode_of, unique_of};
use super::meter::{Done, Meter, Snapshot};
use super::observe::Times;
use super::way::Way;
use super::{meter, panics};
use crate::fs::locks::Wait;
use crate::ledger::flight::Flight;
use crate::log;
use crate::ops::{self, Call, Handled, Leave, Row, Where};
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::{Frame, Opcode, Reply};
use rustix::io::Errno;

/// What becomes of a request.
pub(crate) enum Served<'r> {
    /// Write this to the device.
    Answer(&'r [u8]),
    /// The kernel waits for no answer.
    Silent,
    /// It may take long: it is to be served again in another thread. `shown`: its observers have been told of it.
    Aside {
        /// See there.
        shown: bool,
    },
    /// It is to wait in a thread of its own; [`finish`] makes the answer of what comes of that.
    Wait(Box<Wait>),
}

/// Handles one message and counts it in `meter`.
///
/// A handler's error becomes its errno, a panic EIO with one loud line, a malformed message EIO (never ENOSYS, which
/// the kernel remembers for good), an opcode without a row ENOSYS.
pub(crate) fn serve<'r>(
    session: &Session,
    meter: &Meter,
    request: Request<'_>,
    reply: &'r mut Reply,
    way: &Way<'_>,
) -> Served<'r> {
    let Request {
        message,
        taken,
        flight,
    } = request;
    reply.clear();
    let frame = match Frame::cut(message) {
        Ok(frame) => frame,
        Err(error) => {
            log::error(format_args!(
                "the kernel sent a malformed request ({error}); it is answered EIO, please report this"
            ));
            let errno = Errno::IO.raw_os_error();
            meter.end(Snapshot::OTHER, &Done::failed(taken, errno));
            return match unique_of(message) {
                Some(unique) if opcode_of(message).wants_answer() => {
                    Served::Answer(reply.finish_error(unique, errno))
                }
                _ => Served::Silent,
            };
        }
    };
    let row = ops::find(&session.fs, &frame);
    if row.is_some_and(|row| row.at == Where::Aside) && way.at == Where::Worker {
        return Served::Aside { shown: false };
    }
    meter.begin(&frame, taken);
    if !way.shown {
        session.observers.each(|observer| observer.request(&frame));
    }
    stop::at(StopPoint::Cut);
    let result = match row {
        Some(row) => match run(session, row, &frame, flight, reply, way) {
            Ok(()) => Ok(()),
            Err(Leave::Failed(errno)) => Err(errno),
            Err(Leave::Wait(wait)) => {
                // Counted as done: how long others hold a lock says nothing about this daemon.
                meter.end(frame.opcode(), &Done::failed(taken, 0));
                return Served::Wait(wait);
            }
            Err(Leave::Later) => {
                meter.hand_on();
                return Served::Aside { shown: true };
            }
        },
        None => Err(Errno::NOSYS),
    };
    let errno = result.err().map_or(0, Errno::raw_os_error);
    flight.answered(frame.head.unique, errno, reply.body());
    stop::at(StopPoint::Noted);
    let opcode = frame.opcode();
    let times = Times {
        taken,
        done: meter.end(opcode, &done(&frame, taken, result, reply)),
    };
    if opcode == Opcode::INTERRUPT {
        session.interrupted(&frame);
    }
    if !opcode.wants_answer() || opcode == Opcode::INTERRUPT {
        session.observers.each(|o| o.answer(&frame, &[], times));
        return Served::Silent;
    }
    Served::Answer(finish(session, &frame, times, reply, result))
}

/// The one answer to a request: the body that its handler has put into `reply`, or an errno.
pub(crate) fn finish<'r>(
    session: &Session,
    frame: &Frame<'_>,
    times: Times,
    reply: &'r mut Reply,
    result: Result<(), Errno>,
) -> &'r [u8] {
    let answer = match result {
        Ok(()) => reply.finish(frame.head.unique),
        // The kernel takes every other error for the end of the name, and unmounts what is mounted on it
        // (`fuse_dentry_revalidate`).
        Err(Errno::MFILE | Errno::NFILE) if frame.opcode() == Opcode::LOOKUP => {
            reply.finish_error(frame.head.unique, Errno::NOMEM.raw_os_error())
        }
        // The daemon's descriptors have run out, not the client's own.
        Err(Errno::MFILE) => reply.finish_error(frame.head.unique, Errno::NFILE.raw_os_error()),
        Err(errno) => reply.finish_error(frame.head.unique, errno.raw_os_error()),
    };
    session
        .observers
        .each(|observer| observer.answer(frame, answer, times));
    answer
}

/// The answer to a request that a predecessor has carried out: what it had noted.
pub(crate) fn answer_again<'r>(
    session: &Session,
    request: Request<'_>,
    reply: &'r mut Reply,
    (errno, body): (i32, &[u8]),
) -> &'r [u8] {
    reply.clear();
    let Ok(frame) = Frame::cut(request.message) else {
        return reply.finish_error(unique_of(request.message).unwrap_or(0), errno);
    };
    // What the predecessor has watched is watched no more.
    let mut body = body.to_vec();
    ops::keep_nothing(frame.opcode(), &mut body);
    reply.put_bytes(&body);
    session.observers.each(|observer| observer.request(&frame));
    let times = Times {
        taken: request.taken,
        done: meter::now(),
    };
    let result = match errno {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    };
    finish(session, &frame, times, reply, result)
}

/// The answer to a request that is not carried out.
pub(crate) fn refuse<'r>(
    session: &Session,
    request: Request<'_>,
    reply: &'r mut Reply,
    shown: bool,
    errno: Errno,
) -> &'r [u8] {
    let Request { message, taken, .. } = request;
    let Ok(frame) = Frame::cut(message) else {
        // It was cut before.
        return reply.finish_error(unique_of(message).unwrap_or(0), errno.raw_os_error());
    };
    if !shown {
        session.observers.each(|observer| observer.request(&frame));
    }
    let done = meter::now();
    finish(session, &frame, Times { taken, done }, reply, Err(errno))
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
    flight: &Flight,
    reply: &mut Reply,
    way: &Way<'_>,
) -> Handled {
    let mut call = Call {
        frame,
        fs: &session.fs,
        agreed: &session.agreed,
        reply,
        flight,
        begun: way.begun,
        at: way.at,
        given_up: way.given_up,
    };
    panics::catch(|| ops::run(row, &mut call)).unwrap_or_else(|panic| {
        log::error(format_args!(
            "{} of node {} {panic}; it was answered EIO, please report this",
            frame.opcode(),
            frame.head.nodeid
        ));
        Err(Errno::IO.into())
    })
}

#[cfg(test)]
mod tests;
