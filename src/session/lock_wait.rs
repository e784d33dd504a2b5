//! Requests that wait for a lock: each in a thread of its own, so that no worker and no lock of the daemon is occupied,
//! and each can be ended by INTERRUPT.

use super::buffer::Request;
use super::connection::Session;
use super::debt::Debt;
use super::interrupts::Ticket;
use super::observe::Times;
use super::serve::finish;
use super::{head, meter, panics};
use crate::fs::locks::Wait;
use crate::log;
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::{Frame, Reply};
use rustix::io::Errno;
use std::sync::Arc;

/// Stack of a waiting thread, in bytes: it makes one system call and one answer. Pages never used cost nothing.
const STACK: usize = 64 * 1024;

/// Waits in the calling thread until the lock is had, or the client has given up.
fn wait(ticket: &Ticket, wait: &Wait) -> Result<(), Errno> {
    ticket.wake_me();
    loop {
        if ticket.is_interrupted() {
            return Err(Errno::INTR);
        }
        match wait.block() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

fn until_now(taken: u64) -> Times {
    Times {
        taken,
        done: meter::now(),
    }
}

/// Has the request in `message` wait, and answered afterwards; or answers it now, with `reply`, if it may not wait.
pub(crate) fn start(
    session: &Arc<Session>,
    debt: Debt<'_>,
    request: Request<'_>,
    lock: Box<Wait>,
    reply: &mut Reply,
) {
    let Request {
        message,
        taken,
        flight,
    } = request;
    // It was cut before.
    let Ok(frame) = Frame::cut(message) else {
        return;
    };
    let ticket = session.interrupts.ticket(frame.head.unique);
    let refusal = lock.refusal();
    let entered = match ticket.is_interrupted() {
        true => Err(Errno::INTR),
        false => session.waiters.enter(lock.uid()).ok_or(refusal),
    };
    let waiting = match entered {
        Ok(waiting) => waiting,
        Err(errno) => {
            drop((lock, ticket));
            let times = until_now(taken);
            debt.pay(finish(session, &frame, times, reply, Err(errno)));
            return;
        }
    };
    let own = session.clone();
    let own_unique = frame.head.unique;
    let request = session.flights.copy(message, taken, flight);
    stop::at(StopPoint::Parked);
    let started = std::thread::Builder::new()
        .name("etcfs-lock".into())
        .stack_size(STACK)
        .spawn(move || {
            let debt = Debt::of(&own, request.bytes());
            stop::enlist(false);
            stop::request(head::opcode_of(request.bytes()).0);
            let (unique, flight) = (own_unique, request.flight());
            flight.begin(unique, &[0]);
            stop::at(StopPoint::Waits);
            let waited = panics::catch(|| {
                let result = wait(&ticket, &lock);
                stop::at(StopPoint::Acted);
                let errno = result.err().map_or(0, Errno::raw_os_error);
                flight.answered(unique, errno, &[]);
                stop::at(StopPoint::Noted);
                // All is given back before the client can ask for the next lock.
                drop((lock, ticket, waiting));
                let mut reply = Reply::with_capacity(0);
                if let Ok(frame) = Frame::cut(request.bytes()) {
                    let times = until_now(taken);
                    debt.pay(finish(&own, &frame, times, &mut reply, result));
                }
            });
            if let Err(panic) = waited {
                log::error(format_args!(
                    "waiting for a lock {panic}; it was answered EIO, please report this"
                ));
            }
        });
    match started {
        Ok(_) => debt.pass_on(),
        Err(error) => {
            log::error(format_args!(
                "no thread can be made to wait for a file lock ({error}); the request is refused"
            ));
            let times = until_now(taken);
            debt.pay(finish(session, &frame, times, reply, Err(refusal)));
        }
    }
}

#[cfg(test)]
mod tests;
