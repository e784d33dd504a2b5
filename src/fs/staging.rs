//! A place of the daemon's own within a lower directory, where objects are made, dressed and taken apart.
//!
//! Many lower directories belong to ordinary users, or are written to by everybody. What has a name there can be exchanged
//! for something else at any moment, so nothing is given an owner or a mode, opened, compared or removed under a name
//! there. It is done in a directory with a hidden name that only the daemon can enter, and whose descriptor is what all
//! of it goes through; a rename then carries the finished object out, or the replaced one in.
//!
//! The place lies in the very directory that the object is meant for. So it is on the same file system and mount, and
//! hands down what that directory does: default ACL, group, project, label. Whoever may write in that directory can
//! remove the place while it is empty or give it another name, which ends the daemon's work with an error, and can put
//! another directory of root's own, which root alone can enter, under its name. The daemon then makes its object in that
//! one for a moment, under a name that nobody can foresee.

use living::Living;
use temp_names::{fresh_number, is_hidden, name_of, with_fresh_number};
pub(in crate::fs) mod left;
pub(in crate::fs) mod living;
pub mod sweep;
pub(crate) mod temp_names;

use super::stat::Stat;
use crate::sys::creds::{own, set_umask};
use crate::sys::object::{self, ProcName};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// The place, with room for one object. Dropping it removes the place, and the object if it still is there.
pub(crate) struct Staging<'a> {
    within: BorrowedFd<'a>,
    /// The place's name; `None`: it is `within` itself.
    name: Option<CString>,
    dir: OwnedFd,
    /// The object's name in the place.
    object: CString,
    /// The object has gone where it should.
    empty: Cell<bool>,
    stays: bool,
    /// Ends when all that is to go has gone.
    _living: Living,
}

impl<'a> Staging<'a> {
    /// Makes a place within the directory `within`.
    ///
    /// # Errors
    /// EACCES, EROFS, ENOSPC, EDQUOT as `mkdirat(2)`. EPERM where the directory that was made is not the daemon's alone:
    /// on a file system without owners and modes, or because somebody puts others in its place.
    pub(crate) fn within(within: BorrowedFd<'a>) -> Result<Staging<'a>, Errno> {
        Staging::make_within(within, &|place, object| {
            Living::begin(within, place, object)
        })
    }

    fn make_within(
        within: BorrowedFd<'a>,
        begin: &dyn Fn(u64, u64) -> Living,
    ) -> Result<Staging<'a>, Errno> {
        // The umask of a worker is the last caller's.
        set_umask(0o077);
        let mode = Mode::RWXU;
        let object = fresh_number()?;
        let (number, living) = with_fresh_number(&mut |number| {
            let living = begin(number, object);
            rustix::fs::mkdirat(within, &*name_of(number), mode).map(|()| living)
        })?;
        let name = name_of(number);
        match enter(within, &name, &Stat::of(within)?) {
            Ok(dir) => Ok(Staging {
                within,
                name: Some(name),
                dir,
                object: name_of(object),
                empty: Cell::new(false),
                stays: false,
                _living: living,
            }),
            Err(errno) => {
                // What somebody has put in its place stays. So does what was made, wherever that is now.
                if Stat::at(within, &name).is_ok_and(|stat| is_ours(&stat)) {
                    let _ = rustix::fs::unlinkat(within, &*name, AtFlags::REMOVEDIR);
                }
                Err(errno)
            }
        }
    }

    /// As [`Staging::within`], for what has a name and may get it back: should the daemon be killed, whoever carries the work
    /// out again sees to it. Where there is no room for a directory, a hidden name in `within` itself is made do with. For
    /// whom the work is done, that one must be allowed to do with the names in `within` what he likes.
    ///
    /// # Errors
    /// As [`Staging::within`], but for ENOSPC and EDQUOT.
    pub(crate) fn aside(within: BorrowedFd<'a>) -> Result<Staging<'a>, Errno> {
        match Staging::make_within(within, &|_, _| Living::untold()) {
            Err(Errno::NOSPC | Errno::DQUOT | Errno::MLINK) => {
                let object = fresh_number()?;
                Ok(Staging {
                    within,
                    name: None,
                    dir: rustix::io::fcntl_dupfd_cloexec(within, 0)?,
                    object: name_of(object),
                    empty: Cell::new(false),
                    stays: false,
                    _living: Living::untold(),
                })
            }
            made => made,
        }
    }

    /// Calls `make` with the place and the name that the object is to have in it, then takes hold of the object without
    /// opening it.
    ///
    /// # Errors
    /// What `make` answers.
    pub(crate) fn make(
        &self,
        make: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
    ) -> Result<OwnedFd, Errno> {
        make(self.dir.as_fd(), &self.object)?;
        open_pinned(self.dir.as_fd(), &self.object)
    }

    /// The place and the object's name in it, for calls that want both.
    pub(crate) fn at(&self) -> (BorrowedFd<'_>, &CStr) {
        (self.dir.as_fd(), &self.object)
    }

    /// What the object is.
    ///
    /// # Errors
    /// ENOENT where there is none.
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        Stat::at(self.dir.as_fd(), &self.object)
    }

    /// Gives the inode `fd`, which has no name or others, its name in the place.
    ///
    /// # Errors
    /// As `linkat(2)`.
    pub(crate) fn link(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        object::link(fd, self.dir.as_fd(), &self.object)
    }

    /// Takes what stands at `name` in the directory around the place into the place.
    ///
    /// # Errors
    /// As `renameat(2)`.
    pub(crate) fn take(&self, name: &CStr) -> Result<(), Errno> {
        rustix::fs::renameat(self.within, name, &self.dir, &*self.object)
    }

    /// Puts the object at `name` in the directory around the place, over what stands there.
    ///
    /// # Errors
    /// As `renameat(2)`.
    pub(crate) fn put(&self, name: &CStr) -> Result<(), Errno> {
        rustix::fs::renameat(&self.dir, &*self.object, self.within, name)?;
        self.empty.set(true);
        Ok(())
    }

    /// As [`Staging::put`], never over anything.
    ///
    /// # Errors
    /// EEXIST if the name is taken.
    pub(crate) fn put_at_free_name(&self, name: &CStr) -> Result<(), Errno> {
        let put = match self.rename(name, RenameFlags::NOREPLACE) {
            // A file system without the flag: a link to a taken name fails as well. What has no links is a directory, and
            // a plain rename of one replaces nothing but an empty one.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let object = &*self.object;
                match rustix::fs::linkat(&self.dir, object, self.within, name, AtFlags::empty()) {
                    Err(Errno::PERM) => self.put(name),
                    linked => linked.and_then(|()| self.remove()),
                }
            }
            other => other,
        };
        self.empty.set(put.is_ok());
        put
    }

    /// Exchanges the object with what stands at `name` in the directory around the place.
    ///
    /// # Errors
    /// As `renameat2(2)`: EINVAL or ENOSYS where the file system cannot.
    pub(crate) fn exchange(&self, name: &CStr) -> Result<(), Errno> {
        self.rename(name, RenameFlags::EXCHANGE)
    }

    fn rename(&self, name: &CStr, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.dir, &*self.object, self.within, name, flags)
    }

    /// Removes the object, which is not a directory.
    ///
    /// # Errors
    /// EISDIR, ENOENT as `unlinkat(2)`.
    pub(crate) fn remove(&self) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.dir, &*self.object, AtFlags::empty())?;
        self.empty.set(true);
        Ok(())
    }

    /// Lets the place and the object be: there is something in it that may be missed.
    pub(crate) fn leave(mut self) {
        self.stays = true;
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // A panic leaves what a killed daemon leaves: it cannot be known what the object is.
        if self.stays || std::thread::panicking() {
            return;
        }
        let _ = own(|| {
            if !self.empty.get() && self.remove() == Err(Errno::ISDIR) {
                let _ = rustix::fs::unlinkat(&self.dir, &*self.object, AtFlags::REMOVEDIR);
            }
            match &self.name {
                Some(name) => rustix::fs::unlinkat(self.within, &**name, AtFlags::REMOVEDIR),
                None => Ok(()),
            }
        });
    }
}

/// Removes what a killed daemon has left in its place `name` in `dir`, which `of_dir` says what it is. The place itself
/// stays.
///
/// # Errors
/// ENOTDIR or ELOOP for what is no directory, EPERM for one that is not the daemon's alone.
pub(crate) fn clear(dir: BorrowedFd<'_>, name: &CStr, of_dir: &Stat) -> Result<(), Errno> {
    let place = enter(dir, name, of_dir)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut entries = RawDir::new(&place, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        // Others would be somebody's who has put a directory of root's here.
        if is_hidden(name.to_bytes())
            && rustix::fs::unlinkat(&place, name, AtFlags::empty()) == Err(Errno::ISDIR)
        {
            let _ = rustix::fs::unlinkat(&place, name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

/// Opens the directory `name` in `dir`, if it is the daemon's own, nobody else's to enter, and on the same file system.
fn enter(dir: BorrowedFd<'_>, name: &CStr, of_dir: &Stat) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = Stat::of(place.as_fd())?;
    let others = u32::from(stat.0.stx_mode) & (libc::S_IRWXG | libc::S_IRWXO);
    if !is_ours(&stat) || others != 0 || stat.dev() != of_dir.dev() {
        return Err(Errno::PERM);
    }
    Ok(place)
}

fn is_ours(stat: &Stat) -> bool {
    stat.0.stx_uid == rustix::process::geteuid().as_raw()
}

/// True if nobody but the daemon's own user makes names in the directory `of_dir`. (With an ACL, the bits of the group are
/// the most that anybody gets.)
pub(crate) fn is_ours_alone(of_dir: &Stat) -> bool {
    is_ours(of_dir) && u32::from(of_dir.0.stx_mode) & (libc::S_IWGRP | libc::S_IWOTH) == 0
}

/// Takes hold of `name` in `dir` without opening it; a symlink is held itself.
///
/// # Errors
/// As `openat(2)`.
pub(crate) fn open_pinned(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens the regular file `name` in `dir` with `flags`; nothing else that has the name is ever opened, a device least of
/// all. What it is when it is open, it was when it was found.
///
/// # Errors
/// As `openat(2)`; ELOOP for a symlink, EISDIR for a directory, ENXIO for anything else.
pub(crate) fn open_regular(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let pinned = open_pinned(dir, name)?;
    match Stat::of(pinned.as_fd())?.kind() {
        libc::S_IFREG => {}
        libc::S_IFLNK => return Err(Errno::LOOP),
        libc::S_IFDIR => return Err(Errno::ISDIR),
        _ => return Err(Errno::NXIO),
    }
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| {
        let name = ProcName::of(pinned.as_fd());
        rustix::fs::open(name.as_c_str(), flags, Mode::empty())
    };
    // Leaving the access time alone is for the owner and the privileged.
    match open(flags) {
        Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => open(flags - OFlags::NOATIME),
        other => other,
    }
}
