//! Asking for a lock, and waiting for it.

use super::all::Locks;
use super::ask::{Ask, Owner, may_lack_flush};
use super::holder::Description;
use super::in_use::Use;
use super::waits::WaitId;
use crate::fs::attributes::Notices;
use crate::fs::lower::Lower;
use crate::fs::node::Node;
use crate::sys::lease::may_wait;
use crate::sys::lock as sys;
use crate::sys::lock::{Conflict, LockKind, become_wakeable};
use crate::sys::proc::LockCall;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::sync::Arc;
use std::time::Duration;

/// How long after a refusal a lock that does not wait is tried again: see [`Locker::set_lock`].
const SETTLING: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(6),
];

/// A lock that could not be had at once, ready to be waited for in a thread of its own.
pub(crate) struct Wait {
    used: Use,
    node: Arc<Node>,
    ask: Ask,
    kind: LockKind,
    until: Until,
    /// The way to tell the kernel of the lock before its client is told.
    notices: Arc<Notices>,
}

/// How long to wait.
enum Until {
    /// Until it can be had. In the graph of waits unless it is an open file's: natively nobody looks for rings of those.
    Had(Option<WaitId>),
    /// For a moment: see [`Locker::set_lock`].
    Settled,
}

impl Wait {
    /// Waits. To be called again after EINTR, unless the client has given up.
    ///
    /// # Errors
    /// EINTR when the thread was woken, EAGAIN when the lock was not to be waited for, EDEADLK when waiting for it would never
    /// end, and what locking answers.
    pub(crate) fn block(&self) -> Result<(), Errno> {
        self.until_had()?;
        self.notices.show_as_left(&self.node);
        Ok(())
    }

    fn until_had(&self) -> Result<(), Errno> {
        if let Until::Had(wait) = self.until {
            if let Some(id) = wait {
                self.used.locks().waits.waits_in(id, become_wakeable())?;
            }
            return self.used.wait(&self.ask, self.kind);
        }
        for pause in SETTLING {
            std::thread::sleep(pause);
            match self.used.set(&self.ask) {
                Err(Errno::AGAIN) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The user who waits.
    pub(crate) fn uid(&self) -> u32 {
        self.ask.uid
    }

    /// What to answer when there may be no more waiting threads.
    pub(crate) fn refusal(&self) -> Errno {
        match self.until {
            Until::Had(_) => Errno::NOLCK,
            Until::Settled => Errno::AGAIN,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Until::Had(Some(id)) = self.until {
            self.used.locks().waits.end(id);
        }
    }
}

/// What came of asking for a lock.
pub(crate) enum Asked {
    /// Done.
    Done,
    /// To be waited for.
    Waits(Box<Wait>),
}

/// What takes locks for clients.
pub(crate) struct Locker {
    locks: Arc<Locks>,
    lower: Arc<Lower>,
    notices: Arc<Notices>,
}

impl Locker {
    /// Takes `locks` on files of `lower`.
    pub(crate) fn new(locks: Arc<Locks>, lower: Arc<Lower>, notices: Arc<Notices>) -> Locker {
        Locker {
            locks,
            lower,
            notices,
        }
    }

    /// Sets or removes a lock. With `wait`, one that cannot be had at once is handed back to be waited for.
    ///
    /// So is, for some milliseconds, one that is not to be waited for but is in the way of another client of this
    /// mount: close(2) does not wait for RELEASE, so that a lock may still be there that its holder has closed already,
    /// and a shell script that runs `flock -n` twice would fail now and then.
    ///
    /// # Errors
    /// EAGAIN; ENOLCK when the user has too many descriptions or ranges; EDEADLK when waiting would never end; what opening the
    /// lower file answers.
    pub(crate) fn set_lock(&self, node: &Arc<Node>, ask: &Ask, wait: bool) -> Result<Asked, Errno> {
        if let Owner::Posix(_) = ask.owner {
            node.note_posix_locks();
        }
        let used = match (self.locks.find(node.id, ask.owner), ask.kind) {
            (Some(used), _) => {
                used.release_if_ended();
                used
            }
            (None, None) => return Ok(Asked::Done),
            (None, Some(_)) => self
                .locks
                .add(node.id, ask, || self.description(node, ask.owner, ask.fh))?,
        };
        let exclusive =
            matches!(ask.owner, Owner::Posix(_)) && ask.kind == Some(LockKind::Exclusive);
        if exclusive && !used.description().writable {
            // What the owner has so far came through a descriptor for reading, this comes through another one.
            used.move_to(self.description(node, ask.owner, ask.fh)?)?;
        }
        if ask.kind.is_none() && node.has_pages() && node.handles().any_writable() && may_wait() {
            self.notices.drop_pages(node);
        }
        if ask.kind.is_some() && may_outlive(node, ask) {
            used.watch(ask);
        }
        let mut set = used.set(ask);
        if set == Err(Errno::AGAIN) && self.locks.release_ended(node.id, ask) {
            set = used.set(ask);
        }
        match (set, ask.kind) {
            (Err(Errno::AGAIN), Some(kind)) => {
                let until = match wait {
                    true if is_an_open_files(ask) => Until::Had(None),
                    true => {
                        let locks = &self.locks;
                        Until::Had(Some(locks.waits.begin(
                            &locks.tables,
                            node.id,
                            ask,
                            kind,
                        )?))
                    }
                    false if self.locks.is_held_here(node.id, ask) => Until::Settled,
                    false => return Err(Errno::AGAIN),
                };
                let ask = *ask;
                Ok(Asked::Waits(Box::new(Wait {
                    used,
                    node: node.clone(),
                    ask,
                    kind,
                    until,
                    notices: self.notices.clone(),
                })))
            }
            (done, None) => done.map(|()| Asked::Done),
            (done, Some(_)) => {
                done?;
                self.notices.show_as_left(node);
                Ok(Asked::Done)
            }
        }
    }

    /// The first lock that would be in the way of `ask`, or none.
    ///
    /// # Errors
    /// What opening the lower file answers.
    pub(crate) fn get_lock(&self, node: &Arc<Node>, ask: &Ask) -> Result<Option<Conflict>, Errno> {
        let Some(kind) = ask.kind else {
            return Err(Errno::INVAL);
        };
        self.locks.release_ended(node.id, ask);
        let conflict = match self.locks.find(node.id, ask.owner) {
            Some(used) => sys::ofd_get(&used.description().fd, ask.range, kind)?,
            None => {
                let asking = self.description(node, ask.owner, ask.fh)?;
                sys::ofd_get(&asking.fd, ask.range, kind)?
            }
        };
        Ok(conflict.map(|mut conflict| {
            if conflict.pid == 0 {
                conflict.pid = self.locks.process_of(node.id, ask.owner, &conflict);
            }
            conflict
        }))
    }

    /// A new description of the lower file to hold locks on, open as the client's handle `fh` is: a reader's lock must not
    /// make the file one that is being written, which natively cannot be run then and is not replaced by enforcement. One
    /// for writing is for reading as well, since the owner may have locks for both, or, where nobody can write the file
    /// any more (read-only file system, immutable, being executed), for reading alone. `flock(2)` needs no mode where it
    /// is local, and on network file systems that of the client.
    fn description(&self, node: &Arc<Node>, owner: Owner, fh: u64) -> Result<Description, Errno> {
        let file = node.handles().file(fh);
        let first = match owner {
            Owner::Posix(_) if file.as_ref().is_some_and(|file| file.is_writable()) => OFlags::RDWR,
            Owner::Posix(_) => OFlags::RDONLY,
            Owner::Flock(_) => {
                let flags = file.map_or(0, |file| file.flags);
                OFlags::from_bits_retain(flags) & OFlags::RWMODE
            }
        };
        let (opened, mode) = match self.lower.open_file(node, first) {
            Err(Errno::ROFS | Errno::PERM | Errno::ACCESS | Errno::TXTBSY)
                if first != OFlags::RDONLY =>
            {
                (self.lower.open_file(node, OFlags::RDONLY), OFlags::RDONLY)
            }
            other => (other, first),
        };
        match opened {
            Ok((fd, _)) => Ok(Description {
                fd,
                writable: mode != OFlags::RDONLY,
            }),
            Err(Errno::MFILE | Errno::NFILE) => Err(Errno::NOLCK),
            Err(errno) => Err(errno),
        }
    }
}

/// True if the kernel may not say when the process that asks has closed the file.
fn may_outlive(node: &Node, ask: &Ask) -> bool {
    let Owner::Posix(_) = ask.owner else {
        return false;
    };
    let file = node.handles().file(ask.fh);
    file.is_none_or(|file| may_lack_flush(file.flags))
}

/// True if the lock is an open file's, and not a process's. Looked at where somebody is going to wait.
fn is_an_open_files(ask: &Ask) -> bool {
    matches!(ask.owner, Owner::Flock(_)) || ask.call() == Some(LockCall::OfOpenFile)
}
