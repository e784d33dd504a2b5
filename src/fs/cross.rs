//! A rename from one side to the other: one atomic replacement, although the sides may be different file systems.
//!
//! Where both sides lie on one file system, the lower file system renames ([`rename_natively`]), and nothing differs
//! from any other rename. Otherwise the object is copied ([`copy_across`]): a new inode with the same contents, sparse
//! where the old one was, the same owner, group, mode, extended attributes (ACLs, capabilities and labels among them),
//! access and modification time. It is complete and on disk before it takes the target's name in one step, and the
//! old name goes only after that name is on disk. A crash between any two [`CopyStep`]s leaves the source, or the target,
//! or both, each of them whole.
//!
//! What a copy cannot keep: the inode number and the birth time; other hard links of the source, which go on naming
//! the old inode; and what is written to the old inode, by somebody who has it open, after it was compared for the
//! last time. Handles open on the source or on the replaced target go on working with the inodes they were opened on.
//!
//! While it lasts the kernel keeps both directories of the mount locked, as during any rename: names in them that it
//! does not know yet wait, everything else goes on.

mod content;
mod errand;
pub(in crate::fs) mod fresh;
pub(in crate::fs) mod metadata;
mod share;

use super::asker::Asker;
use super::lower::walk;
use super::mark::Mark;
use super::staging::sweep;
use super::staging::{Staging, open_pinned, open_regular};
use super::stat::Stat;
use crate::sys::creds::{looking, own, set_umask};
use crate::sys::file_handle::FileHandle;
use crate::sys::object;
use crate::sys::xattr::Target;
pub use errand::Errand;
use fresh::Fresh;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Access, AtFlags, OFlags, RenameFlags, StatxAttributes};
use rustix::io::Errno;
pub(crate) use share::Share;
use std::ffi::CStr;

/// How often a source that changes while it is copied is copied again.
const ATTEMPTS: u32 = 4;

/// What is to be moved: names in lower directories that lie on different sides.
#[derive(Clone, Copy)]
pub struct Move<'a> {
    /// The directory of the source.
    pub from: BorrowedFd<'a>,
    /// The name of the source.
    pub old: &'a CStr,
    /// The directory of the target.
    pub to: BorrowedFd<'a>,
    /// The name of the target.
    pub new: &'a CStr,
    /// `RENAME_NOREPLACE`: EEXIST if the target exists.
    pub no_replace: bool,
}

/// What has been done so far. The order is that of the declaration; not every object takes every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyStep {
    /// The source is known and, if it is a regular file, open.
    Found,
    /// A new inode holds the contents. A regular file has no name yet, if the file system can do that.
    Copied,
    /// The new inode has the source's owner, mode, attributes and times.
    Dressed,
    /// The new inode is on disk.
    Synced,
    /// It has a name in a place of the daemon's own beside the target.
    Named,
    /// It has the target's name.
    Published,
    /// That name is on disk.
    Durable,
    /// The source is in a place of the daemon's own in its directory.
    SetAside,
    /// The source is gone.
    Removed,
}

/// How one attempt ended.
enum CopyAttempt {
    Done,
    /// The source changed meanwhile; `published` says whether the target has been replaced.
    Changed {
        published: bool,
    },
}

/// Renames by the lower file system itself, if both directories lie on the same one, with the rights of whoever asks. The
/// two sides are reached through different mounts, between which the kernel does not rename (`do_renameat2` compares the
/// mounts, not the file systems), so the source's directory is looked up again, by its file handle, in the mount of the
/// target.
///
/// # Errors
/// EXDEV when that is impossible, and then nothing has happened; else what `renameat2(2)` answers.
pub fn rename_natively(work: &Move<'_>, asker: &dyn Asker) -> Result<(), Errno> {
    let flags = if work.no_replace {
        RenameFlags::NOREPLACE
    } else {
        RenameFlags::empty()
    };
    let rename = |from: BorrowedFd<'_>| {
        let renamed =
            asker.act(&mut || rustix::fs::renameat_with(from, work.old, work.to, work.new, flags));
        match renamed {
            // A file system that knows no flags; copying does without them.
            Err(Errno::INVAL) if work.no_replace => Err(Errno::XDEV),
            other => other,
        }
    };
    match rename(work.from) {
        Err(Errno::XDEV) => {}
        other => return other,
    }
    let here = Stat::of(work.from)?;
    if here.dev() != Stat::of(work.to)?.dev() {
        return Err(Errno::XDEV);
    }
    let again = FileHandle::of(work.from)
        .and_then(|handle| looking(|| handle.open(work.to, OFlags::PATH | OFlags::DIRECTORY)))
        .map_err(|_| Errno::XDEV)?;
    // Two file systems of a kind may use the same handle for different directories.
    if !Mark::of(&Stat::of(again.as_fd())?).is_same_inode(&Mark::of(&here)) {
        return Err(Errno::XDEV);
    }
    rename(again.as_fd())
}

/// Copies the object to the target's name and removes the source. `reached` is told of every step once it is done.
///
/// # Errors
/// EXDEV, upon which mv(1) copies by itself: for a directory, for a source that never stops changing, for more than the
/// errand allows, in a sticky directory of somebody else's, and where the target's file system cannot hold the source's
/// ACL. EEXIST with `no_replace`. EACCES without the right to change both directories. EPERM for an immutable or
/// append-only source, or one in such a directory. EINTR once nobody waits for it. ENOSPC, EDQUOT, EROFS, EIO and the
/// like as any copy. The source is then untouched, and so is the target unless the removal of the source itself failed.
pub fn copy_across(
    work: &Move<'_>,
    errand: &Errand<'_>,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<(), Errno> {
    let mut work = *work;
    // New inodes must get the modes that are asked for; this thread's umask may be the last caller's.
    set_umask(0);
    own(|| {
        for dir in [work.from, work.to] {
            let _ = sweep::sweep(dir, sweep::STALE_AFTER);
        }
        Ok(())
    })?;
    for _ in 0..ATTEMPTS {
        (errand.keep_going)()?;
        let source = Stat::at(work.from, work.old)?;
        if source.is_dir() {
            return Err(Errno::XDEV);
        }
        for dir in [work.from, work.to] {
            errand.may_change(dir)?;
        }
        may_remove(&work, &source)?;
        match Stat::at(work.to, work.new) {
            // rename(2): two names of one inode, and nothing to do.
            Ok(target) if Mark::of(&target).is_same_inode(&Mark::of(&source)) => {
                return if work.no_replace {
                    Err(Errno::EXIST)
                } else {
                    Ok(())
                };
            }
            Ok(_) if work.no_replace => return Err(Errno::EXIST),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let attempt = if source.is_file() {
            copy_file(&work, errand, &source, reached)?
        } else {
            copy_special(&work, errand, &source, reached)?
        };
        match attempt {
            CopyAttempt::Done => return Ok(()),
            // The target is this rename's own work, to be replaced by the newer state of the source.
            CopyAttempt::Changed { published: true } => work.no_replace = false,
            CopyAttempt::Changed { published: false } => {}
        }
    }
    Err(Errno::XDEV)
}

/// Refuses what a native rename would refuse and what would otherwise show only after the target has been replaced.
fn may_remove(work: &Move<'_>, source: &Stat) -> Result<(), Errno> {
    let kept = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    if source.0.stx_attributes.intersects(kept)
        || Stat::of(work.from)?.0.stx_attributes.intersects(kept)
    {
        return Err(Errno::PERM);
    }
    match rustix::fs::accessat(work.from, c".", Access::WRITE_OK, AtFlags::EACCESS) {
        Err(Errno::ROFS) => Err(Errno::ROFS),
        _ => Ok(()),
    }
}

fn copy_file(
    work: &Move<'_>,
    errand: &Errand<'_>,
    found: &Stat,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<CopyAttempt, Errno> {
    if errand.most.is_some_and(|most| found.0.stx_size > most) {
        return Err(Errno::XDEV);
    }
    // Copying is no reading by the user, so it leaves the access time.
    let open = || open_regular(work.from, work.old, OFlags::RDONLY | OFlags::NOATIME);
    let source = match own(open) {
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Ok(CopyAttempt::Changed { published: false });
        }
        other => other?,
    };
    let source_stat = Stat::of(source.as_fd())?;
    if !Mark::of(&source_stat).is_same_inode(&Mark::of(found)) {
        return Ok(CopyAttempt::Changed { published: false });
    }
    reached(CopyStep::Found);
    let fresh = Fresh::file(work.to, &|dir| errand.make_nameless(dir))?;
    // Whoever asks has a quota, and root has space that others have not.
    errand.asker.act(&mut || {
        content::copy(
            source.as_fd(),
            fresh.fd(),
            source_stat.0.stx_size,
            &|bytes| errand.copied(bytes),
        )
    })?;
    reached(CopyStep::Copied);
    let dressed = own(|| {
        let (from, to) = (Target::Open(source.as_fd()), Target::Open(fresh.fd()));
        metadata::carry(&source_stat, from, to, fresh.fd(), errand)?;
        reached(CopyStep::Dressed);
        rustix::fs::fsync(fresh.fd())?;
        reached(CopyStep::Synced);
        Stat::of(source.as_fd())
    })?;
    if Mark::of(&source_stat) != Mark::of(&dressed) {
        return Ok(CopyAttempt::Changed { published: false });
    }
    arrive(work, errand, fresh, reached)?;
    retire(work, errand, &source_stat, Some(source.as_fd()), reached)
}

fn copy_special(
    work: &Move<'_>,
    errand: &Errand<'_>,
    found: &Stat,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<CopyAttempt, Errno> {
    let source = looking(|| open_pinned(work.from, work.old))?;
    let source_stat = Stat::of(source.as_fd())?;
    if source_stat.kind() != found.kind() || !Mark::of(&source_stat).is_same_inode(&Mark::of(found))
    {
        return Ok(CopyAttempt::Changed { published: false });
    }
    reached(CopyStep::Found);
    let fresh = own(|| {
        let fresh = Fresh::special(work.to, &source_stat, source.as_fd())?;
        reached(CopyStep::Copied);
        let from = Target::Pinned(source.as_fd());
        let to = Target::Pinned(fresh.fd());
        metadata::carry(&source_stat, from, to, fresh.fd(), errand)?;
        Ok(fresh)
    })?;
    reached(CopyStep::Dressed);
    arrive(work, errand, fresh, reached)?;
    retire(work, errand, &source_stat, None, reached)
}

/// Gives the new inode the target's name, on disk.
fn arrive(
    work: &Move<'_>,
    errand: &Errand<'_>,
    fresh: Fresh<'_>,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<(), Errno> {
    (errand.keep_going)()?;
    errand.may_change(work.to)?;
    errand.about_to_publish(fresh.fd())?;
    own(|| {
        publish(work, fresh, reached)?;
        reached(CopyStep::Published);
        walk::sync(work.to)?;
        reached(CopyStep::Durable);
        Ok(())
    })
}

/// Gives the new inode the target's name, in one step and, with `no_replace`, only if it is free.
///
/// # Errors
/// EEXIST with `no_replace`; EISDIR, EPERM (an immutable target), EROFS as `renameat(2)`.
fn publish(
    work: &Move<'_>,
    fresh: Fresh<'_>,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<(), Errno> {
    if fresh.is_nameless() {
        match object::link(fresh.fd(), work.to, work.new) {
            // A free name needs no second one.
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) if !work.no_replace => {}
            Err(errno) => return Err(errno),
        }
    }
    let (staging, _fd) = fresh.named(work.to)?;
    reached(CopyStep::Named);
    match work.no_replace {
        true => staging.put_at_free_name(work.new),
        false => staging.put(work.new),
    }
}

/// Removes the source, if its name still leads to what was copied.
///
/// `unlinkat` takes a name, and what that leads to may have been exchanged since the last look. So it is first taken to
/// where nobody else reaches it, then looked at, and given back if it is something else.
fn retire(
    work: &Move<'_>,
    errand: &Errand<'_>,
    copied: &Stat,
    open: Option<BorrowedFd<'_>>,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<CopyAttempt, Errno> {
    errand.may_change(work.from)?;
    own(|| remove_source(work, copied, open, reached))
}

fn remove_source(
    work: &Move<'_>,
    copied: &Stat,
    open: Option<BorrowedFd<'_>>,
    reached: &mut dyn FnMut(CopyStep),
) -> Result<CopyAttempt, Errno> {
    let again = CopyAttempt::Changed { published: true };
    if let Some(fd) = open {
        if Mark::of(copied) != Mark::of(&Stat::of(fd)?) {
            return Ok(again);
        }
    }
    // Files are often moved because their file system is full.
    let aside = Staging::aside(work.from)?;
    match aside.take(work.old) {
        Ok(()) => {}
        // Somebody else has removed it, which is what was wanted.
        Err(Errno::NOENT) => return Ok(CopyAttempt::Done),
        Err(errno) => return Err(errno),
    }
    reached(CopyStep::SetAside);
    // The rename itself has changed ctime.
    if !Mark::of(copied).has_same_data(&Mark::of(&aside.stat()?)) {
        let back = aside.put_at_free_name(work.old);
        if back.is_err() {
            aside.leave();
        }
        back?;
        return Ok(again);
    }
    aside.remove()?;
    reached(CopyStep::Removed);
    Ok(CopyAttempt::Done)
}
