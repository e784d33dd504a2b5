//! Opening regular files, plainly or with a backing id.

use super::Fs;
use super::backing::{Candidate, Io};
use super::budget::Charge;
use super::handle::File;
use super::node::Node;
use super::stat::Stat;
use crate::sys::creds::looking;
use crate::sys::lease::{Lease, may_wait, past_leases};
use crate::sys::object::ProcName;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::sync::Arc;
use std::time::Duration;

/// Set in the handle number of an open that needs no descriptor here: passed through, for reading. Such numbers differ
/// all the same, because RELEASE ends the locks that were taken through its handle.
pub const NO_DESCRIPTOR: u64 = 1 << 63;

/// Set by execve(2) in the flags of its open, and passed on by FUSE (`__FMODE_EXEC`, include/linux/fs.h).
const FMODE_EXEC: u32 = 0x20;

/// A file opened for a client.
pub struct Opened {
    /// The handle's number, with [`NO_DESCRIPTOR`] or without.
    pub fh: u64,
    /// How it is served.
    pub io: Io,
}

/// The flags with which the lower file is opened for a client's flags.
///
/// Left out: creation and truncation, which are done apart; O_DIRECT, whose alignment rules the request buffers do not
/// keep; O_APPEND, which every WRITE carries as it stands at that moment (fcntl can change it).
pub fn lower_flags(flags: u32) -> OFlags {
    let kept = OFlags::RWMODE | OFlags::SYNC | OFlags::DSYNC | OFlags::NOATIME | OFlags::LARGEFILE;
    (OFlags::from_bits_retain(flags) & kept) | OFlags::CLOEXEC | OFlags::NONBLOCK
}

impl Fs {
    /// Opens the regular file `node` for a client with `flags`; `truncate` empties it, as the caller, where they say so.
    ///
    /// An open for reading that is passed through has no descriptor here: the kernel opens the lower file itself. One
    /// for writing has, so that the lower file system refuses what it refuses natively (immutable, running, read-only).
    ///
    /// # Errors
    /// ESTALE when the file is not where it was last seen, and what `openat(2)` and `truncate` answer. EAGAIN in a thread
    /// that [never waits](crate::sys::lease::never_wait) when it would have to wait for somebody; nothing has changed then.
    pub fn open<E: From<Errno>>(
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
        let _opening = self.before_open(node, flags);
        if lower & OFlags::RWMODE == OFlags::RDONLY
            && self.backing.is_on()
            && let Some(io) = self.open_for_reading(node)?
        {
            let fh = node.handles().lend(charge, self.new_handle()) | NO_DESCRIPTOR;
            return Ok(Opened { fh, io });
        }
        let (fd, stat) = match self.open_file(node, lower) {
            // An append-only file (chattr +a) cannot be opened for writing in any other way.
            Err(Errno::PERM) if flags & libc::O_APPEND as u32 != 0 => {
                self.open_file(node, lower | OFlags::APPEND)?
            }
            other => other?,
        };
        if empties {
            truncate(fd.as_fd(), &stat)?;
        }
        Ok(self.adopt(node, fd, &stat, flags, charge))
    }

    /// Checks that nobody has a file open for writing that is about to be run. The kernel has asked those who opened it
    /// through this mount; others, and those who hold a passed-through mapping only, write the lower file, and a lease
    /// finds them. The end of an open comes here after close(2) has returned, so a writer is believed in after 20 ms.
    /// Where locks of this mount's clients have the file open for writing, nothing can be known.
    pub(super) fn is_not_written(&self, node: &Arc<Node>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
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
                self.end_open(node, io != Io::Plain);
                None
            }
        };
        if let Some(io) = self.open_like_others(node) {
            return Ok(passed(node, io));
        }
        loop {
            let flags = if self.pins_for_backing() {
                OFlags::PATH
            } else {
                OFlags::RDONLY
            };
            let (anchor, stat) = self.open_file(node, flags)?;
            if stat.is_append_only() {
                return Ok(None);
            }
            match self.open_first(node, Candidate::Anchor(anchor)) {
                Ok(io) => return Ok(passed(node, io)),
                // The kernel wants a descriptor that is really open; it is asked for one at the second attempt.
                Err(_) if !self.pins_for_backing() => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Keeps `fd`, a file just opened or created for a client, as a handle of `node`; `stat` is what it is.
    pub fn adopt(
        &self,
        node: &Arc<Node>,
        fd: OwnedFd,
        stat: &Stat,
        flags: u32,
        charge: Charge<'_>,
    ) -> Opened {
        let like_others = if stat.is_append_only() {
            Some(self.open_append_only(node))
        } else {
            self.open_like_others(node)
        };
        let io = match like_others {
            Some(io) => io,
            None => self.adopt_first(node, fd.as_fd(), flags),
        };
        let registered = io != Io::Plain;
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
            handles.add_file(fh, other);
            drop(handles);
            self.let_go(node, file(fd, None));
            return Opened { fh, io };
        }
        let (fh, held) = charge.into_handle(self.new_handle());
        handles.add_file(fh, file(fd, Some(held)));
        Opened { fh, io }
    }

    /// Decides how the first open of `node` is served, whose descriptor is `fd`. A reader's is not what is registered: the id
    /// would end with it, and each open of a file that is read again and again would register it anew.
    fn adopt_first(&self, node: &Arc<Node>, fd: BorrowedFd<'_>, flags: u32) -> Io {
        let reads = flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
        if reads
            && self.backing.wants(node.side())
            && self.pins_for_backing()
            && let Ok((anchor, _)) = self.open_file(node, OFlags::PATH)
            && let Ok(io) = self.open_first(node, Candidate::Anchor(anchor))
        {
            return io;
        }
        self.open_first(node, Candidate::Handle(fd))
            .unwrap_or(Io::Plain)
    }

    /// Ends the open with handle `fh`.
    pub fn close(&self, node: &Node, fh: u64) {
        let file = node.handles().remove_file(fh);
        if fh & NO_DESCRIPTOR != 0 {
            node.handles().end_lending(fh);
        }
        if file.is_some() || fh & NO_DESCRIPTOR != 0 {
            self.descriptors.give_back(fh);
        }
        let registered = file.as_ref().is_none_or(|file| file.registered);
        self.end_open(node, registered);
        if let Some(file) = file {
            self.let_go(node, file);
        }
    }

    fn let_go(&self, node: &Node, file: Arc<File>) {
        if ![self.local.dev, self.global.dev].contains(&node.key.dev) {
            self.closing.hand_over(node.key.dev, file);
        }
    }

    /// The open file behind handle `fh`; for one without a descriptor, a descriptor for reading made for the moment.
    ///
    /// # Errors
    /// EBADF for an unknown handle, and what opening answers.
    pub fn file(&self, node: &Arc<Node>, fh: u64) -> Result<Arc<File>, Errno> {
        if fh & NO_DESCRIPTOR == 0 {
            return node.handles().file(fh).ok_or(Errno::BADF);
        }
        let (fd, _) = self.open_file(node, OFlags::RDONLY)?;
        Ok(Arc::new(File {
            fd,
            flags: libc::O_RDONLY as u32,
            registered: true,
            held: None,
        }))
    }

    /// Opens the regular file `node` with `flags` of its own, checked to be the node's inode. `O_TRUNC` and `O_CREAT`
    /// must not be among them: nothing may happen to the file before the check.
    ///
    /// # Errors
    /// ESTALE when the file is not where it was last seen, and what `openat(2)` answers (EPERM for an immutable file,
    /// EROFS, ETXTBSY, ENFILE).
    pub fn open_file(&self, node: &Arc<Node>, flags: OFlags) -> Result<(OwnedFd, Stat), Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let (dir, name) = match self.spot_of(node) {
            Ok(found) => found,
            Err(errno) => return self.reopen(node, flags).ok_or(errno),
        };
        let openat = |flags| {
            past_leases(|| {
                looking(|| rustix::fs::openat(&*dir, name.as_c_str(), flags, Mode::empty()))
            })
        };
        let opened = self.with_relief(|| self.keeping_times(flags, openat));
        let fd = match opened {
            // The name is gone, or a symlink's, a directory's or a socket's by now.
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return self.reopen(node, flags).ok_or(Errno::STALE);
            }
            // What refuses may be another object that has the name by now, such as a device (EACCES). If it is the file
            // itself, it refuses again.
            Err(errno) => return self.reopen(node, flags).ok_or(errno),
            Ok(fd) => fd,
        };
        let stat = Stat::of(fd.as_fd())?;
        // What is written must go to the file that enforcement has put in the place of this one: the kernel looks again.
        // A file that is open for writing is not replaced, so one that has its name at this moment keeps it.
        if flags & OFlags::RWMODE != OFlags::RDONLY && self.replaced.has(&node.key) {
            let named = Stat::at(dir.as_fd(), name.as_c_str()).map(|named| named.key(node.side()));
            if named != Ok(node.key) {
                return Err(Errno::STALE);
            }
        }
        if stat.key(node.side()) != node.key {
            return self.reopen(node, flags).ok_or(Errno::STALE);
        }
        Ok((fd, stat))
    }

    /// Opens with `flags`, so that reads change no access time where the mount has it so. Of others' files the daemon of an
    /// ordinary user cannot ask for that; they are opened all the same.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn keeping_times<T>(
        &self,
        flags: OFlags,
        open: impl Fn(OFlags) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let reads = flags & OFlags::RWMODE != OFlags::WRONLY && !flags.contains(OFlags::PATH);
        if !self.keeps_access_times || !reads {
            return open(flags);
        }
        match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            done => done,
        }
    }

    /// Opens an unlinked or replaced file that is still open, through what is held of it, which is held until that is done:
    /// the number of a descriptor that its owner lets go meanwhile leads nowhere, or to another file.
    fn reopen(&self, node: &Node, flags: OFlags) -> Option<(OwnedFd, Stat)> {
        let pinned = self.pin_without_name(node).ok()?;
        let name = ProcName::of(pinned.as_fd());
        let flags = flags - OFlags::NOFOLLOW;
        let fd = looking(|| rustix::fs::open(name.as_c_str(), flags, Mode::empty())).ok()?;
        let stat = Stat::of(fd.as_fd()).ok()?;
        (stat.key(node.side()) == node.key).then_some((fd, stat))
    }
}
