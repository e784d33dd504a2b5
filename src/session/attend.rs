//! The one place that answers a request, exactly once, whatever happens to it.
//!
//! A request whose client nobody answers keeps that client for ever, past SIGKILL. So what serves one, in whatever thread,
//! holds its [`Debt`], which is paid by an answer, passed to the thread that goes on with it, or, if all that is given up
//! by a panic, paid with EIO when it is dropped.

use super::meter::Meter;
use super::serve::{self, Outcome, refuse, serve};
use super::worker::Buffer;
use super::{Session, panics, waiters};
use crate::log;
use crate::ops::Where;
use etcfs_proto::Reply;
use etcfs_proto::abi::OutHeader;
use rustix::io::{self, Errno};
use std::sync::Arc;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// An answer that is owed to the kernel.
#[must_use = "dropped, it is paid with EIO"]
pub struct Debt<'s> {
    session: &'s Session,
    /// The request; `None`: nothing is owed.
    unique: Option<u64>,
}

impl<'s> Debt<'s> {
    /// What is owed for `message`; nothing if the kernel waits for no answer.
    pub fn of(session: &'s Session, message: &[u8]) -> Debt<'s> {
        Debt {
            session,
            unique: serve::owed(message),
        }
    }

    /// Writes the answer.
    pub fn pay(mut self, answer: &[u8]) {
        self.unique = None;
        write(self.session, answer);
    }

    /// Nothing is owed, or somebody else owes it from here on.
    pub fn pass_on(mut self) {
        self.unique = None;
    }
}

impl Drop for Debt<'_> {
    fn drop(&mut self) {
        if let Some(unique) = self.unique {
            write(self.session, error(unique, Errno::IO).as_bytes());
        }
    }
}

fn error(unique: u64, errno: Errno) -> OutHeader {
    OutHeader {
        len: size_of::<OutHeader>() as u32,
        error: -errno.raw_os_error(),
        unique,
    }
}

/// Writes an answer. ENOENT: the request was interrupted, and nobody waits. After an unmount the next read says so. Any
/// other error means that the kernel did not take it: the request is answered EIO.
fn write(session: &Session, answer: &[u8]) {
    let Err(errno) = try_to_write(session, answer) else {
        return;
    };
    log::error(format_args!(
        "the kernel refused the answer to a request ({} bytes: {errno}); EIO took its place, please report this",
        answer.len()
    ));
    if let Ok((head, _)) = OutHeader::read_from_prefix(answer) {
        let instead = error(head.unique, Errno::IO);
        let _ = try_to_write(session, instead.as_bytes());
    }
}

fn try_to_write(session: &Session, answer: &[u8]) -> io::Result<()> {
    match io::write(&session.dev, answer) {
        Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// How a request is served.
pub struct Way<'a> {
    /// By whom.
    pub at: Where,
    /// Its observers have been told of it.
    pub shown: bool,
    /// Asked by what takes long: whether the client has given up.
    pub given_up: &'a dyn Fn() -> bool,
}

impl Way<'static> {
    /// By the worker that has read it.
    pub const WORKER: Way<'static> = Way {
        at: Where::Worker,
        shown: false,
        given_up: &|| false,
    };
}

impl<'a> Way<'a> {
    /// In a thread where it may take long.
    pub fn aside(shown: bool, given_up: &'a dyn Fn() -> bool) -> Way<'a> {
        Way {
            at: Where::Aside,
            shown,
            given_up,
        }
    }
}

/// Serves one message, read at `taken`, to its answer, or to where it is handed on.
pub fn attend(
    session: &Arc<Session>,
    meter: &Meter,
    (message, taken): (&[u8], u64),
    reply: &mut Reply,
    way: &Way<'_>,
) {
    let served = panics::catch(|| {
        let debt = Debt::of(session, message);
        match serve(session, meter, (message, taken), reply, way) {
            Outcome::Answer(answer) => debt.pay(answer),
            Outcome::Silent => debt.pass_on(),
            Outcome::Aside { shown } => {
                set_aside(session, debt, (message, taken), reply, shown);
            }
            Outcome::Wait(wait) => waiters::start(session, debt, (message, taken), wait, reply),
        }
    });
    if let Err(panic) = served {
        meter.hand_on();
        log::error(format_args!(
            "serving a request {panic}; it was answered EIO, please report this"
        ));
    }
}

/// Has the request served by another thread, or refuses it.
pub fn set_aside(
    session: &Arc<Session>,
    debt: Debt<'_>,
    (message, taken): (&[u8], u64),
    reply: &mut Reply,
    shown: bool,
) {
    let account = serve::account_of(message);
    let request = Buffer::copy(message, taken);
    match session.pool.run(session, account, request, shown) {
        Ok(()) => debt.pass_on(),
        Err(errno) => debt.pay(refuse(session, (message, taken), reply, shown, errno)),
    }
}

#[cfg(test)]
mod tests;
