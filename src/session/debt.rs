//! The answer that is owed to a request.

use super::connection::Session;
use super::head;
use crate::log;
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::abi::OutHeader;
use rustix::io::{self, Errno};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// An answer that is owed to the kernel.
#[must_use = "dropped, it is paid with EIO"]
pub(crate) struct Debt<'s> {
    session: &'s Session,
    /// The request; `None`: nothing is owed.
    unique: Option<u64>,
}

impl<'s> Debt<'s> {
    /// What is owed for `message`; nothing if the kernel waits for no answer.
    pub(crate) fn of(session: &'s Session, message: &[u8]) -> Debt<'s> {
        Debt {
            session,
            unique: head::owed(message),
        }
    }

    /// Writes the answer.
    pub(crate) fn pay(mut self, answer: &[u8]) {
        self.unique = None;
        stop::at(StopPoint::Made);
        write(self.session, answer);
        stop::at(StopPoint::Written);
    }

    /// Nothing is owed, or somebody else owes it from here on.
    pub(crate) fn pass_on(mut self) {
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

pub(crate) fn error(unique: u64, errno: Errno) -> OutHeader {
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
