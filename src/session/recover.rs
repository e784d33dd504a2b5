//! What a killed predecessor had read and not answered.
//!
//! Each such request lies in the ledger ([`super::flights`]), with what its handler had come to:
//!
//! | noted | what it means | what is done |
//! |---|---|---|
//! | done, with its answer | it may have been answered | it is answered again, first of all; the kernel refuses a second answer (ENOENT) |
//! | begun | it has not been answered; the change may have been made | what was counted and opened for it is taken back, and it is carried out again by a handler that looks whether the change is there (`ops::intent`) |
//! | nothing | it changes nothing, or was not begun with | it is carried out |
//!
//! Where the kernel knows RESEND (Linux 6.9) it is asked for what it waits for. It hands those requests out again before any
//! other one, with [`UNIQUE_RESEND`] in their numbers, which their answers must bear. So what is not among them has been
//! answered, or was given up by its client while it was to be sent again; and what is among them and not in the ledger is carried
//! out as well. Where it does not, the ledger alone decides.
//!
//! All of it is done by the threads of the [pool](super::slow_pool), as what takes long, since it may: the predecessor may have
//! been killed because a request hung. If it died of a fault of its own, with [more care](super::blame).

use super::blame::Blame;
use super::buffer::Buffer;
use super::connection::Session;
use super::debt::Debt;
use super::device::Device;
use super::pool::Job;
use super::serve::answer_again;
use super::slow_pool::take_back;
use super::{head, meter};
use crate::ledger::flight::{Intent, number};
use crate::log;
use crate::sys::{proc, stop};
use etcfs_proto::abi::UNIQUE_RESEND;
use etcfs_proto::{Frame, Opcode, Reply};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{self, Errno};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Goes on with what a predecessor has left. To be called before any thread reads requests.
pub(super) fn recover(session: &Arc<Session>) {
    if session.servers() <= 1 {
        return;
    }
    let mut left = HashMap::new();
    for buffer in session.flights.left() {
        keep(&mut left, buffer);
    }
    // Before the kernel is asked: a client that is killed while its request is to be sent again takes it back
    // (`request_wait_answer`, fs/fuse/dev.c), and nobody would ever know whether this answer had come.
    left.values()
        .for_each(|buffer| answer_known(session, buffer));
    let asked = session.resends.load(Ordering::Relaxed)
        && !stop::resends_nothing()
        && session.kernel().ask_again();
    let mut fresh = Vec::new();
    if asked {
        let resent = read_again(session, &mut fresh);
        for (unique, buffer) in resent {
            left.entry(unique)
                .and_modify(|known| known.mark_resent())
                .or_insert(buffer);
        }
        left.retain(|_, buffer| {
            let message = buffer.bytes();
            let is_wanted = head::owed(message).is_none_or(|unique| unique & UNIQUE_RESEND != 0);
            if !is_wanted {
                take_back_unanswered(session, buffer);
            }
            is_wanted
        });
    }
    let blame = Blame::of(session);
    let (left, fresh) = (left.into_values(), fresh.into_iter());
    for buffer in left.chain(fresh) {
        let Some(blame) = &blame else {
            go_on(session, buffer, asked);
            continue;
        };
        if let Some(buffer) = blame.refuse(buffer) {
            blame.begin(head::unique_of(buffer.bytes()).unwrap_or(0));
            go_on(session, buffer, asked);
            blame.wait();
        }
    }
}

/// Keeps a flight, or of two of one request the one of which more is known.
fn keep(left: &mut HashMap<u64, Buffer>, mut buffer: Buffer) {
    if Frame::cut(buffer.bytes()).is_err() {
        return;
    }
    buffer.taken = meter::now();
    let unique = number(head::unique_of(buffer.bytes()).unwrap_or(0));
    let known = left.get(&unique);
    if known.is_none_or(|known| known.flight().intent(unique).is_none()) {
        left.insert(unique, buffer);
    }
}

/// Answers a request whose answer is known.
fn answer_known(session: &Session, buffer: &Buffer) {
    let unique = head::unique_of(buffer.bytes()).unwrap_or(0);
    if let Some(Intent::Done(errno, body)) = buffer.flight().intent(unique) {
        let mut reply = Reply::with_capacity(body.len());
        let debt = Debt::of(session, buffer.bytes());
        let answer = (errno, &*body);
        debt.pay(answer_again(session, buffer.request(), &mut reply, answer));
    }
}

/// Takes back what was given for a request that nobody waits for any more, if it has not been answered: the answer of one that
/// gives something is noted before it is written.
fn take_back_unanswered(session: &Session, buffer: &Buffer) {
    let unique = head::unique_of(buffer.bytes()).unwrap_or(0);
    if let Some(Intent::Begun(_)) = buffer.flight().intent(unique) {
        take_back(session, buffer);
    }
}

/// Reads what the kernel sends again, which comes first, and puts what else comes until then into `fresh`.
fn read_again(session: &Session, fresh: &mut Vec<Buffer>) -> Vec<(u64, Buffer)> {
    let mut resent = Vec::new();
    let mut buffer = session.flights.to_read_into(session.agreed.buffer_size);
    let blocking = fcntl_getfl(&session.dev).unwrap_or(OFlags::RDWR) - OFlags::NONBLOCK;
    if fcntl_setfl(&session.dev, blocking | OFlags::NONBLOCK).is_err() {
        return resent;
    }
    loop {
        let len = match io::read(&session.dev, buffer.bytes_mut()) {
            Ok(0) => break,
            Ok(len) => len,
            // Its client has given up.
            Err(Errno::INTR | Errno::NOENT) => continue,
            // Whoever reads next finds out why.
            Err(_) => break,
        };
        buffer.note_read(len);
        let message = &buffer.bytes()[..len];
        let unique = head::unique_of(message).unwrap_or(0);
        let copy = session.flights.copy(message, meter::now(), buffer.flight());
        let is_last = unique & UNIQUE_RESEND == 0 && head::owed(message).is_some();
        if unique & UNIQUE_RESEND == 0 || head::owed(message).is_none() {
            fresh.push(copy);
        } else {
            resent.push((number(unique), copy));
        }
        buffer.empty();
        if is_last {
            break;
        }
    }
    let _ = fcntl_setfl(&session.dev, blocking);
    resent
}

/// Has one request carried out, or answered.
fn go_on(session: &Arc<Session>, buffer: Buffer, asked: bool) {
    let Ok(frame) = Frame::cut(buffer.bytes()) else {
        return;
    };
    let (unique, pid) = (frame.head.unique, frame.head.pid);
    if frame.opcode() == Opcode::INTERRUPT {
        session.interrupted(&frame);
        return;
    }
    let account = head::account_of(buffer.bytes());
    let ticket = session.interrupts.ticket(unique);
    // INTERRUPT is sent once for each time that a request is.
    if !asked && proc::has_signal(pid) {
        ticket.interrupt();
    }
    let job = Job {
        request: buffer,
        ticket,
        unique,
        pid,
        shown: false,
    };
    session.pool.take_over(session, account, job);
}

impl Device {
    /// Asks the kernel for all that it waits for. False: it does not know how (before Linux 6.9).
    fn ask_again(&self) -> bool {
        let mut reply = etcfs_proto::Reply::with_capacity(0);
        let notice = etcfs_proto::notify::Notice::Resend.pack(&mut reply);
        match io::write(&self.dev, notice) {
            Ok(_) => true,
            Err(errno) => {
                log::info(format_args!(
                    "the kernel does not send again what was in flight ({errno}); it is answered as it was read"
                ));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
