//! Opening regular files, plainly or with a backing id.

mod restore;

use super::attributes::Notices;
use super::backing::Io;
use super::backing::registered::Candidate;
use super::budget::{Charge, Descriptors};
use super::closing::Closing;
use super::grants::Grants;
use super::handle::NO_DESCRIPTOR;
use super::handle::{Dir, File, Noted};
use super::locks::Locks;
use super::lower::Lower;
use super::node::Node;
use super::passthrough::Passthrough;
use super::stat::Stat;
use crate::ledger::flight::tally::Changer;
use crate::ledger::handle::{HandleKind, HandleRecord, OpenRecord};
use crate::ledger::header::FirstPage;
use crate::ledger::table::{Slot, Table};
use crate::ledger::{Ledger, Region};
use crate::sys::lease::{Lease, may_wait};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Set by execve(2) in the flags of its open, and passed on by FUSE (`__FMODE_EXEC`, include/linux/fs.h).
const FMODE_EXEC: u32 = 0x20;

/// A file opened for a client.
pub(crate) struct Opened {
    /// The handle's number, with [`NO_DESCRIPTOR`] or without.
    pub(crate) fh: u64,
    /// How it is served.
    pub(crate) io: Io,
}

/// The flags with which the lower file is opened for a client's flags.
///
/// Left out: creation and truncation, which are done apart; O_DIRECT, whose alignment rules the request buffers do not
/// keep; O_APPEND, which every WRITE carries as it stands at that moment (fcntl can change it).
pub(crate) fn lower_flags(flags: u32) -> OFlags {
    let kept = OFlags::RWMODE | OFlags::SYNC | OFlags::DSYNC | OFlags::NOATIME | OFlags::LARGEFILE;
    (OFlags::from_bits_retain(flags) & kept) | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// What users are told apart by, the same for every successor: what they have open is counted where it was.
fn seed(header: &FirstPage) -> u64 {
    let chosen = std::hash::RandomState::new().hash_one(0);
    let seed = &header.account_seed;
    match seed.compare_exchange(0, chosen, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => chosen,
        Err(before) => before,
    }
}

/// What the clients have open, and how it is opened.
pub(crate) struct Opens {
    lower: Arc<Lower>,
    locks: Arc<Locks>,
    notices: Arc<Notices>,
    passthrough: Arc<Passthrough>,
    grants: Grants,
    /// How many files and directories the clients have open.
    pub(crate) descriptors: Descriptors,
    closing: Closing,
    /// What a successor will find of it.
    records: &'static Table<HandleRecord>,
    header: &'static FirstPage,
}

impl Opens {
    /// What is open according to `ledger`, once that was [restored](Opens::restore). At most `most` files and directories will
    /// be.
    pub(crate) fn over(
        ledger: &'static Ledger,
        lower: Arc<Lower>,
        locks: Arc<Locks>,
        notices: Arc<Notices>,
        passthrough: Arc<Passthrough>,
        grants: Grants,
        most: usize,
    ) -> Opens {
        let header = ledger.header();
        header.next_handle.fetch_max(1, Ordering::Relaxed);
        let records: &'static Table<HandleRecord> =
            Box::leak(Box::new(ledger.table(Region::Handles)));
        Opens {
            lower,
            locks,
            notices,
            passthrough,
            grants,
            descriptors: Descriptors::new(most, seed(header)),
            closing: Closing::default(),
            records,
            header,
        }
    }

    /// A number for a new handle.
    pub(crate) fn new_handle(&self) -> u64 {
        self.header.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens the regular file `node` for a client with `flags`; `truncate` empties it, as the caller, where they say so.
    ///
    /// An open for reading that is passed through has no descriptor here: the kernel opens the lower file itself. One
    /// for writing has, so that the lower file system refuses what it refuses natively (immutable, running, read-only).
    ///
    /// # Errors
    /// ESTALE when the file is not where it was last seen, and what `openat(2)` and `truncate` answer. EAGAIN in a thread
    /// that [never waits](crate::sys::lease::never_wait) when it would have to wait for somebody; nothing has changed then.
    pub(crate) fn open<E: From<Errno>>(
        &self,
        node: &Arc<Node>,
        flags: u32,
        charge: Charge<'_>,
        truncate: impl FnOnce(BorrowedFd<'_>, &Stat) -> Result<(), E>,
    ) -> Result<Opened, E> {
        let empties = flags & libc::O_TRUNC as u32 != 0;
        let mut lower = lower_flags(flags);
        if empties && lower & OFlags::RWMODE == OFlags::RDONLY {
            lower |= OFlags::RDWR;
        }
        if flags & FMODE_EXEC != 0 {
            self.may_be_run(node)?;
        }
        let _opening = self.notices.before_open(node, flags);
        if lower & OFlags::RWMODE == OFlags::RDONLY && self.passthrough.registry.is_on() {
            if let Some(io) = self.open_for_reading(node)? {
                let note = |fh| self.note(node, HandleKind::Lent, fh, None, 1);
                let fh = node
                    .handles()
                    .lend(node.id, charge, self.new_handle(), note);
                return Ok(Opened { fh, io });
            }
        }
        let (fd, stat) = match self.lower.open_file(node, lower) {
            // An append-only file (chattr +a) cannot be opened for writing in any other way.
            Err(Errno::PERM) if flags & libc::O_APPEND as u32 != 0 => {
                self.lower.open_file(node, lower | OFlags::APPEND)?
            }
            other => other?,
        };
        if empties {
            truncate(fd.as_fd(), &stat)?;
        }
        Ok(self.adopt(node, fd, &stat, flags, charge))
    }

    /// Checks what the kernel checks natively where a program lies and cannot check here: the flags of the very mount, which
    /// may lie within a base directory or have got its flags after the start; that nobody writes it; and that the ids which
    /// it gives are its own.
    ///
    /// # Errors
    /// EACCES; ETXTBSY; ESTALE when the kernel should look again; EAGAIN in a thread that never waits; what opening answers.
    fn may_be_run(&self, node: &Arc<Node>) -> Result<(), Errno> {
        let (fd, stat) = self.lower.open_file(node, OFlags::RDONLY)?;
        if fstatvfs(&fd).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
            return Err(Errno::ACCESS);
        }
        self.is_not_written(node, fd.as_fd())?;
        self.grants.gives_its_own(node, fd.as_fd(), &stat)
    }

    /// Checks that nobody has a file open for writing that is about to be run. The kernel has asked those who opened it
    /// through this mount; others, and those who hold a passed-through mapping only, write the lower file, and a lease
    /// finds them. The end of an open comes here after close(2) has returned, so a writer is believed in after 20 ms.
    /// Where locks of this mount's clients have the file open for writing, nothing can be known.
    fn is_not_written(&self, node: &Arc<Node>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.locks.may_write(node.id) {
            return Ok(());
        }
        for _ in 0..20 {
            // What fails otherwise has no leases, and cannot tell.
            if Lease::against_writers(fd).err() != Some(Errno::AGAIN) {
                return Ok(());
            }
            if !may_wait() {
                return Err(Errno::AGAIN);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Errno::TXTBSY)
    }

    /// Passes an open for reading through. `None`: it has to be a plain one.
    fn open_for_reading(&self, node: &Arc<Node>) -> Result<Option<Io>, Errno> {
        let passed = |node: &Node, io| match io {
            Io::Passthrough(_) => Some(io),
            Io::Mapped(_) | Io::Plain => {
                // The open is counted when its descriptor is there.
                self.passthrough.end_open(node, io != Io::Plain);
                None
            }
        };
        if let Some(io) = self.passthrough.open_like_others(node) {
            return Ok(passed(node, io));
        }
        loop {
            let flags = if self.passthrough.takes_pins() {
                OFlags::PATH
            } else {
                OFlags::RDONLY
            };
            let (anchor, stat) = self.lower.open_file(node, flags)?;
            if stat.is_append_only() {
                return Ok(None);
            }
            match self.passthrough.open_first(node, Candidate::Anchor(anchor)) {
                Ok(io) => return Ok(passed(node, io)),
                // The kernel wants a descriptor that is really open; it is asked for one at the second attempt.
                Err(_) if !self.passthrough.takes_pins() => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Keeps `fd`, a file just opened or created for a client, as a handle of `node`; `stat` is what it is.
    pub(crate) fn adopt(
        &self,
        node: &Arc<Node>,
        fd: OwnedFd,
        stat: &Stat,
        flags: u32,
        charge: Charge<'_>,
    ) -> Opened {
        let like_others = if stat.is_append_only() {
            Some(self.passthrough.open_append_only(node))
        } else {
            self.passthrough.open_like_others(node)
        };
        let io = match like_others {
            Some(io) => io,
            None => self.adopt_first(node, fd.as_fd(), flags),
        };
        let registered = io != Io::Plain;
        let kind = HandleKind::File { registered };
        let file = |fd, held| {
            Arc::new(File {
                fd,
                flags,
                registered,
                held,
            })
        };
        let mut handles = node.handles();
        // It was opened to be refused where the lower file system refuses.
        if let Some(other) = handles.alike(charge.slot(), flags, registered) {
            let fh = charge.into_sharing_handle(self.new_handle());
            let noted = self.note(node, kind, fh, Some(other.fd.as_fd()), flags);
            handles.add_file(fh, other, noted);
            drop(handles);
            self.let_go(node, file(fd, None));
            return Opened { fh, io };
        }
        let (fh, held) = charge.into_handle(self.new_handle());
        let noted = self.note(node, kind, fh, Some(fd.as_fd()), flags);
        handles.add_file(fh, file(fd, Some(held)), noted);
        Opened { fh, io }
    }

    /// Keeps `dir`, a directory just opened for a client, as a handle of `node`, and returns its number.
    pub(crate) fn adopt_dir(&self, node: &Node, mut dir: Dir, charge: Charge<'_>) -> u64 {
        let (fh, held) = charge.into_handle(self.new_handle());
        dir.held = Some(held);
        let noted = self.note(node, HandleKind::Dir, fh, Some(dir.fd.as_fd()), 0);
        node.handles().add_dir(fh, dir, noted);
        fh
    }

    /// Has a successor find a handle.
    fn note(
        &self,
        node: &Node,
        kind: HandleKind,
        fh: u64,
        fd: Option<BorrowedFd<'_>>,
        flags: u32,
    ) -> Noted {
        let record = Slot::take(self.records)?;
        record.begin(&OpenRecord {
            kind,
            fh,
            node: node.id.0,
            fd: fd.map(|fd| fd.as_raw_fd()),
            flags,
        });
        Some(record)
    }

    /// Decides how the first open of `node` is served, whose descriptor is `fd`. A reader's is not what is registered: the id
    /// would end with it, and each open of a file that is read again and again would register it anew.
    fn adopt_first(&self, node: &Arc<Node>, fd: BorrowedFd<'_>, flags: u32) -> Io {
        let reads = flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
        if reads && self.passthrough.registry.wants(node.side()) && self.passthrough.takes_pins() {
            let anchor = self.lower.open_file(node, OFlags::PATH).ok();
            let anchored =
                anchor.map(|(fd, _)| self.passthrough.open_first(node, Candidate::Anchor(fd)));
            if let Some(Ok(io)) = anchored {
                return io;
            }
        }
        self.passthrough
            .open_first(node, Candidate::Handle(fd))
            .unwrap_or(Io::Plain)
    }

    /// Ends the open with handle `fh`, for `asker`.
    pub(crate) fn close(&self, node: &Node, fh: u64, asker: Changer<'_>) {
        let file = node.handles().remove_file(fh);
        if fh & NO_DESCRIPTOR != 0 {
            node.handles().end_lending(node.id, fh, asker);
        } else if file.is_none() {
            // A predecessor has closed it.
            return;
        }
        self.descriptors.give_back(fh);
        let registered = file.as_ref().is_none_or(|file| file.registered);
        self.passthrough.end_open(node, registered);
        if let Some(file) = file {
            self.let_go(node, file);
        }
    }

    fn let_go(&self, node: &Node, file: Arc<File>) {
        if !self.lower.is_of_a_side(node.dev()) {
            self.closing.hand_over(node.dev(), file);
        }
    }

    /// The open file behind handle `fh`; for one without a descriptor, a descriptor for reading made for the moment.
    ///
    /// # Errors
    /// EBADF for an unknown handle, and what opening answers.
    pub(crate) fn file(&self, node: &Arc<Node>, fh: u64) -> Result<Arc<File>, Errno> {
        if fh & NO_DESCRIPTOR == 0 {
            return node.handles().file(fh).ok_or(Errno::BADF);
        }
        let (fd, _) = self.lower.open_file(node, OFlags::RDONLY)?;
        Ok(Arc::new(File {
            fd,
            flags: libc::O_RDONLY as u32,
            registered: true,
            held: None,
        }))
    }
}
