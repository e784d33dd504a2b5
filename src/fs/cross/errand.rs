//! For whom a copy across sides is made, and how much of it.
//!
//! The daemon copies with rights of its own: natively a rename needs none on the file. What a rename does need is asked
//! immediately before each of the two steps that change a directory of the client's, as the client and of the lower file
//! system itself; that the kernel has asked a while ago is not enough, because the copy took its time.

use crate::fs::asker::{Asker, Daemon};
use crate::fs::stat::Stat;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

/// For whom, and how much.
pub struct Errand<'a> {
    /// Whoever has asked for the rename.
    pub(crate) asker: &'a dyn Asker,
    /// How many bytes may be copied, contents and attributes together; `None`: any number.
    pub(crate) most: Option<u64>,
    /// Answers an error once nobody waits for the copy any more. Asked at least once for each MiB.
    pub(crate) keep_going: &'a dyn Fn() -> Result<(), Errno>,
    /// Told of the new inode before it gets the target's name.
    publishes: Option<&'a dyn Fn(&Stat)>,
    /// Bytes copied so far.
    so_far: Cell<u64>,
    /// The last attribute that the target's file system did not take, and how it refused.
    lost: RefCell<Option<(CString, Errno)>>,
}

impl<'a> Errand<'a> {
    /// An errand on which nothing has been copied yet.
    pub(crate) fn new(
        asker: &'a dyn Asker,
        most: Option<u64>,
        keep_going: &'a dyn Fn() -> Result<(), Errno>,
    ) -> Errand<'a> {
        Errand {
            asker,
            most,
            keep_going,
            publishes: None,
            so_far: Cell::new(0),
            lost: RefCell::default(),
        }
    }

    /// The same, with `publishes` told of the new inode before it gets the target's name.
    pub(crate) fn telling(self, publishes: &'a dyn Fn(&Stat)) -> Errand<'a> {
        Errand {
            publishes: Some(publishes),
            ..self
        }
    }

    /// To be called before the inode `fresh` gets the target's name.
    ///
    /// # Errors
    /// What `statx(2)` answers.
    pub(super) fn about_to_publish(&self, fresh: BorrowedFd<'_>) -> Result<(), Errno> {
        if let Some(publishes) = self.publishes {
            publishes(&Stat::of(fresh)?);
        }
        Ok(())
    }

    /// The daemon's own, without bounds.
    pub fn unbounded() -> Errand<'static> {
        Errand::new(&Daemon, None, &|| Ok(()))
    }

    /// To be called when `bytes` more have been copied.
    ///
    /// # Errors
    /// EXDEV if that is too much, and those of [`Errand::keep_going`].
    pub(super) fn copied(&self, bytes: u64) -> Result<(), Errno> {
        self.so_far.set(self.so_far.get().saturating_add(bytes));
        if self.most.is_some_and(|most| self.so_far.get() > most) {
            return Err(Errno::XDEV);
        }
        (self.keep_going)()
    }

    /// To be called when an attribute is left out.
    pub(super) fn leave_out(&self, name: &CStr, errno: Errno) {
        *self.lost.borrow_mut() = Some((name.to_owned(), errno));
    }

    /// An attribute that was left out, asked once.
    pub(crate) fn take_lost(&self) -> Option<(CString, Errno)> {
        self.lost.borrow_mut().take()
    }

    /// Asks whether names in `dir` may be made, replaced and removed, whosever they are.
    ///
    /// Making a file without a name is what asks: it is refused for the same reasons as any change of a directory
    /// (`vfs_tmpfile`, fs/namei.c), with ACLs, groups and capabilities, and leaves nothing. In a sticky directory it would
    /// depend on what has the names at that moment whether they may be replaced, so that is left to mv(1), whose every
    /// step is a native one.
    ///
    /// # Errors
    /// EACCES, EPERM (immutable), EROFS. EXDEV for a sticky directory of somebody else's.
    pub(super) fn may_change(&self, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        let stat = Stat::of(dir)?;
        let is_sticky = u32::from(stat.0.stx_mode) & libc::S_ISVTX != 0;
        if is_sticky && !self.asker.rules_over(stat.0.stx_uid) {
            return Err(Errno::XDEV);
        }
        let made = self.make_nameless(dir).map(drop);
        match made {
            // All of these come after the question.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSPC | Errno::DQUOT) => {
                Ok(())
            }
            other => other,
        }
    }

    /// A file without a name for the directory `dir`, made by whoever asks, so that its blocks are theirs.
    ///
    /// # Errors
    /// As `openat(2)`: EACCES; EOPNOTSUPP where there are no such files.
    pub(in crate::fs) fn make_nameless(&self, dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mut made = Err(Errno::IO);
        self.asker.act(&mut || {
            made = rustix::fs::openat(dir, c".", flags, Mode::RUSR | Mode::WUSR);
            made.as_ref().map(drop).map_err(|errno| *errno)
        })?;
        made
    }
}
