//! The handler table: one row per opcode. The only place where the wire and the model meet.
//!
//! A handler takes its typed arguments, calls the model and puts the body of its answer into the reply, or says how it
//! leaves the request ([`Leave`]): an errno, or that it goes on in another thread. It cannot send: "exactly one answer" is the business of `session::serve` alone.

mod above;
mod act;
mod answer;
mod attr;
mod config;
mod connection;
mod create;
mod dir;
mod file;
mod intent;
mod ioctl;
mod lock;
mod lookup;
mod remove;
mod rename;
#[cfg(test)]
mod trial;
mod xattr;

pub(crate) use answer::keep_nothing;

use crate::fs::Fs;
use crate::fs::ids::NodeId;
use crate::fs::locks::Wait;
use crate::fs::node::Node;
use crate::fs::watch::WatchLease;
use crate::ledger::flight::tally::{Changer, CountChange};
use crate::ledger::flight::{BEFORE, Flight};
use etcfs_proto::abi::ROOT_ID;
use etcfs_proto::init::Agreed;
use etcfs_proto::{Frame, Opcode, Reply, WireError};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// One request on its way through a handler.
pub(crate) struct Call<'a> {
    /// The request, cut into its parts.
    pub(crate) frame: &'a Frame<'a>,
    /// The tree it acts on.
    pub(crate) fs: &'a Fs,
    /// What INIT agreed on.
    pub(crate) agreed: &'a Agreed,
    /// Where the body of the answer goes.
    pub(crate) reply: &'a mut Reply,
    /// Where it is noted what it changes.
    pub(crate) flight: &'a Flight,
    /// What a predecessor had noted before it may have made the change.
    pub(crate) begun: Option<[u64; BEFORE]>,
    /// Where it is being worked on.
    pub(crate) at: Where,
    /// True once the client has given up; see [`Call::check_interrupt`].
    pub(crate) given_up: &'a dyn Fn() -> bool,
}

/// How a handler leaves a request that it has not carried out.
pub(crate) enum Leave {
    /// It is answered this errno.
    Failed(Errno),
    /// It may take long: it is to be carried out from the beginning in a thread of its own. Nothing has been changed.
    Later,
    /// A lock is to be waited for, in a thread of its own, before the answer.
    Wait(Box<Wait>),
}

impl From<Errno> for Leave {
    fn from(errno: Errno) -> Leave {
        Leave::Failed(errno)
    }
}

/// What a handler has come to: `Ok` when the body of the answer is in the reply.
pub(crate) type Handled<T = ()> = Result<T, Leave>;

/// What a handler is.
pub(crate) type Handler = fn(&mut Call<'_>) -> Handled;

/// Where a request is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the worker that has read it.
    Worker,
    /// In a thread of its own, because it may take long: a worker that waits for a disk serves nobody.
    Aside,
}

/// One row of the table.
pub(crate) struct Row {
    /// What it handles.
    pub(crate) opcode: Opcode,
    /// The handler.
    pub(crate) run: Handler,
    /// Where it runs.
    pub(crate) at: Where,
    /// It changes something, or counts something for the kernel: it is not to be carried out twice.
    pub(crate) changes: bool,
}

const fn row(opcode: Opcode, run: Handler) -> Row {
    Row {
        opcode,
        run,
        at: Where::Worker,
        changes: true,
    }
}

/// A row that changes nothing.
const fn looks(opcode: Opcode, run: Handler) -> Row {
    Row {
        changes: false,
        ..row(opcode, run)
    }
}

/// A row that runs aside.
const fn slow(row: Row) -> Row {
    Row {
        at: Where::Aside,
        ..row
    }
}

/// Every opcode that is handled, for every node but the configuration file. What is not here is answered ENOSYS, and
/// the kernel then does natively what it can: POLL and BMAP.
static TABLE: &[Row] = &[
    row(Opcode::LOOKUP, lookup::lookup),
    looks(Opcode::FORGET, lookup::forget),
    looks(Opcode::GETATTR, attr::getattr),
    row(Opcode::SETATTR, attr::setattr),
    looks(Opcode::READLINK, lookup::readlink),
    row(Opcode::SYMLINK, create::symlink),
    row(Opcode::MKNOD, create::mknod),
    row(Opcode::MKDIR, create::mkdir),
    row(Opcode::UNLINK, remove::unlink),
    row(Opcode::RMDIR, remove::rmdir),
    row(Opcode::RENAME, rename::rename),
    row(Opcode::LINK, create::link),
    row(Opcode::OPEN, file::open),
    looks(Opcode::READ, file::read),
    row(Opcode::WRITE, file::write),
    looks(Opcode::STATFS, attr::statfs),
    row(Opcode::RELEASE, file::release),
    slow(looks(Opcode::FSYNC, file::fsync)),
    row(Opcode::SETXATTR, xattr::setxattr),
    looks(Opcode::GETXATTR, xattr::getxattr),
    looks(Opcode::LISTXATTR, xattr::listxattr),
    row(Opcode::REMOVEXATTR, xattr::removexattr),
    row(Opcode::FLUSH, lock::flush),
    looks(Opcode::INIT, connection::init),
    row(Opcode::OPENDIR, dir::opendir),
    looks(Opcode::READDIR, dir::readdir),
    row(Opcode::RELEASEDIR, dir::releasedir),
    slow(looks(Opcode::FSYNCDIR, dir::fsyncdir)),
    row(Opcode::IOCTL, ioctl::ioctl),
    looks(Opcode::GETLK, lock::getlk),
    row(Opcode::SETLK, lock::setlk),
    row(Opcode::SETLKW, lock::setlkw),
    looks(Opcode::ACCESS, attr::access),
    row(Opcode::CREATE, create::create),
    looks(Opcode::INTERRUPT, connection::interrupt),
    looks(Opcode::DESTROY, connection::destroy),
    looks(Opcode::BATCH_FORGET, lookup::batch_forget),
    slow(row(Opcode::FALLOCATE, file::fallocate)),
    row(Opcode::RENAME2, rename::rename2),
    looks(Opcode::LSEEK, file::lseek),
    slow(row(Opcode::COPY_FILE_RANGE, file::copy_file_range)),
    row(Opcode::TMPFILE, create::tmpfile),
    looks(Opcode::STATX, attr::statx),
    slow(row(Opcode::COPY_FILE_RANGE_64, file::copy_file_range_64)),
    #[cfg(test)]
    row(Opcode(7), trial::run),
    #[cfg(test)]
    slow(row(Opcode(19), trial::run)),
];

/// One more than the largest opcode that has a row.
const ROWS: usize = Opcode::COPY_FILE_RANGE_64.0 as usize + 1;

/// A table of rows by opcode number.
type Index = [Option<&'static Row>; ROWS];

const fn index(table: &'static [Row]) -> Index {
    let mut rows: Index = [None; ROWS];
    let mut at = 0;
    while at < table.len() {
        rows[table[at].opcode.0 as usize] = Some(&table[at]);
        at += 1;
    }
    rows
}

static BY_OPCODE: Index = index(TABLE);
static BY_OPCODE_CONFIG: Index = index(config::TABLE);

/// The row that handles a request; none: ENOSYS. What concerns the configuration file goes its own way from here on, and
/// where the served directory lies below the FUSE root, what concerns that.
pub(crate) fn find(fs: &Fs, frame: &Frame<'_>) -> Option<&'static Row> {
    let opcode = frame.head.opcode as usize;
    let row = *BY_OPCODE.get(opcode)?;
    if frame.head.nodeid == ROOT_ID && fs.settings.below && frame.opcode().wants_answer() {
        return Some(above::row(frame));
    }
    if frame.head.nodeid != NodeId::CONFIG.0 {
        return config::by_name(frame).or(row);
    }
    // What the configuration file cannot do is refused where other files can do it: the kernel takes one ENOSYS as the
    // answer for all of them.
    BY_OPCODE_CONFIG[opcode].or(row.and(Some(&config::REFUSED)))
}

/// Carries a request out.
///
/// # Errors
/// How its handler leaves it. Upon ESTALE the kernel looks the name up again.
pub(crate) fn run(row: &Row, call: &mut Call<'_>) -> Handled {
    if row.changes {
        call.flight.begin(call.frame.head.unique, &[0]);
    }
    let handled = (row.run)(call);
    if let Err(Leave::Failed(Errno::STALE)) = handled {
        let head = &call.frame.head;
        call.fs.lower.sent_back.note(head.pid, head.uid);
    }
    handled
}

/// Takes back what a predecessor has counted and opened for a request that it has not answered.
pub(crate) fn take_back(fs: &Fs, frame: &Frame<'_>, flight: &Flight) {
    let unique = frame.head.unique;
    let given = flight.given(unique);
    let asker = Changer::new(flight, unique, CountChange::TakenBack);
    let owner = NodeId::of(given.unwrap_or(frame.head.nodeid));
    let opened = flight.handle(unique);
    let opened = opened.and_then(|fh| Some((fh, fs.lower.nodes.get(owner)?)));
    if let Some((fh, node)) = opened {
        if frame.opcode() == Opcode::OPENDIR {
            dir::close(fs, &node, fh);
        } else {
            fs.opens.close(&node, fh, asker);
        }
    }
    if let Some(given) = given {
        fs.lower.nodes.forget(NodeId(given), 1, asker);
    }
    flight.is_taken_back();
}

/// True for requests that are always carried out where they may take long.
pub(crate) fn is_long(opcode: Opcode) -> bool {
    let row = BY_OPCODE.get(opcode.0 as usize).copied().flatten();
    row.is_some_and(|row| row.at == Where::Aside)
}

impl<'a> Call<'a> {
    /// The operation's fixed arguments.
    fn args<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<&'a T, Errno> {
        self.frame.args().map_err(malformed)
    }

    /// The one name that the request carries.
    fn name(&self) -> Result<&'a CStr, Errno> {
        one_component(self.frame.name().map_err(malformed)?)
    }

    /// The name of an extended attribute, in which any byte may stand.
    fn attribute(&self) -> Result<&'a CStr, Errno> {
        self.frame.name().map_err(malformed)
    }

    /// The names of a rename: the old one and the new one.
    fn names2(&self) -> Result<(&'a CStr, &'a CStr), Errno> {
        let (old, new) = self.frame.names2().map_err(malformed)?;
        Ok((one_component(old)?, one_component(new)?))
    }

    /// The size that a request wishes its answer to have, cut to what one request may carry.
    fn most(&self, wished: u32) -> u32 {
        wished.min(self.agreed.max_write)
    }

    /// The node that the request is about. One that the kernel has forgotten it does not name, but to look for it.
    fn node(&self) -> Result<Arc<Node>, Errno> {
        self.fs
            .lower
            .nodes
            .get(NodeId::of(self.frame.head.nodeid))
            .filter(|node| node.is_known())
            .ok_or(Errno::STALE)
    }

    /// To be taken before `node` is looked at, for what the kernel may keep of it.
    fn lease_of(&self, node: &Arc<Node>) -> Option<WatchLease> {
        self.fs.watch.on()?.lease_of(node)
    }

    /// The request has changed what `name` leads to in the directory `dir`.
    fn changed(&self, dir: NodeId, name: &CStr) {
        if let Some(on) = self.fs.watch.on() {
            on.changed(dir, name);
        }
    }

    /// The number of the node that the request is about.
    fn node_id(&self) -> NodeId {
        NodeId::of(self.frame.head.nodeid)
    }

    /// To be called by a handler that finds out only by looking whether it may take long, and has changed nothing yet:
    /// most renames are done at once, but one to another file system copies and waits for the disk. The request then
    /// starts again from the beginning in a thread of its own, where this does nothing.
    ///
    /// # Errors
    /// [`Leave::Later`] in a worker, always.
    fn go_aside(&self) -> Handled {
        match self.at {
            Where::Aside => Ok(()),
            Where::Worker => Err(Leave::Later),
        }
    }

    /// What the model has answered. EAGAIN, which says to a worker that somebody else would have to be waited for for a
    /// moment (whoever holds a lease on the file, or closes it), has the request carried out where that is allowed.
    ///
    /// # Errors
    /// [`Leave::Later`] in a worker for EAGAIN, and every other error as it is.
    fn or_later<T>(&self, result: Result<T, impl Into<Leave>>) -> Handled<T> {
        match result.map_err(Into::into) {
            Err(Leave::Failed(Errno::AGAIN)) if self.at == Where::Worker => Err(Leave::Later),
            other => other,
        }
    }

    /// To be called now and then by what takes long, where it can be given up: a client that was killed is there until its
    /// request is answered.
    ///
    /// # Errors
    /// EINTR once the client was killed. In a worker never: what may take long goes aside first.
    pub(crate) fn check_interrupt(&self) -> Result<(), Errno> {
        if (self.given_up)() {
            return Err(Errno::INTR);
        }
        Ok(())
    }
}

/// The kernel walks paths itself and sends single names, never `.` or `..` but to LOOKUP, for file handles. A sender that does otherwise must not get out of the lower directories.
fn one_component(name: &CStr) -> Result<&CStr, Errno> {
    let bytes = name.to_bytes();
    if bytes == b"." || bytes == b".." || memchr::memchr(b'/', bytes).is_some() {
        return Err(Errno::INVAL);
    }
    Ok(name)
}

/// A malformed request is never answered ENOSYS, which the kernel would remember for the whole life of the mount.
fn malformed(_: WireError) -> Errno {
    Errno::IO
}
