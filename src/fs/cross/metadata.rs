//! Owner, group, mode, extended attributes and times, from one inode to another.

use super::Errand;
use crate::fs::stat::Stat;
use crate::sys::object;
use crate::sys::xattr::{self, LARGEST, Target, is_acl};
use rustix::fd::BorrowedFd;
use rustix::fs::{StatxTimestamp, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;

/// Gives `fresh` (as the attribute calls and as the others take it) what `stat` and the attributes of `source` say.
///
/// The order matters: a change of owner clears set-id bits and file capabilities, an ACL changes the mode, and the
/// times must be the last. An ACL that the new inode has inherited from its directory goes. `errand` is told of the length of
/// every attribute, and of those that are left out.
///
/// # Errors
/// EXDEV where the new inode's file system or the daemon's own rights cannot hold the owner or an ACL: the file would
/// become accessible to others. ENOSPC, EDQUOT, EIO, and those of [`Errand::copied`].
pub(crate) fn carry(
    stat: &Stat,
    source: Target<'_>,
    fresh: Target<'_>,
    fresh_fd: BorrowedFd<'_>,
    errand: &Errand<'_>,
) -> Result<(), Errno> {
    object::chown(fresh_fd, Some(stat.0.stx_uid), Some(stat.0.stx_gid)).map_err(unable)?;
    attributes(source, fresh, errand)?;
    if stat.kind() != libc::S_IFLNK {
        object::chmod(fresh_fd, u32::from(stat.0.stx_mode))?;
    }
    let time = |t: &StatxTimestamp| Timespec {
        tv_sec: t.tv_sec,
        tv_nsec: t.tv_nsec.into(),
    };
    object::set_times(
        fresh_fd,
        &Timestamps {
            last_access: time(&stat.0.stx_atime),
            last_modification: time(&stat.0.stx_mtime),
        },
    )
}

fn unable(errno: Errno) -> Errno {
    match errno {
        Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL => Errno::XDEV,
        other => other,
    }
}

fn attributes(source: Target<'_>, fresh: Target<'_>, errand: &Errand<'_>) -> Result<(), Errno> {
    let wanted = names(source)?;
    for name in names(fresh)?.difference(&wanted) {
        if is_acl(name.to_bytes()) {
            xattr::remove(fresh, name)?;
        }
    }
    let mut value = vec![0; if wanted.is_empty() { 0 } else { LARGEST }];
    for name in &wanted {
        let len = match xattr::get(source, name, &mut value) {
            Ok(len) => len,
            // Removed meanwhile: the caller sees that the source has changed.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        errand.copied(len as u64)?;
        match xattr::set(fresh, name, &value[..len], XattrFlags::empty()) {
            Ok(()) => {}
            Err(errno @ (Errno::PERM | Errno::OPNOTSUPP)) if !is_acl(name.to_bytes()) => {
                errand.leave_out(name, errno);
            }
            Err(errno) => return Err(unable(errno)),
        }
    }
    Ok(())
}

/// The names of all attributes; none where the file system has none.
fn names(target: Target<'_>) -> Result<BTreeSet<CString>, Errno> {
    // An empty list is the usual case, and asking for its length costs no 64 KiB.
    let list = match xattr::list(target, &mut []) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(BTreeSet::new()),
        Ok(_) => {
            let mut list = vec![0; LARGEST];
            let len = xattr::list(target, &mut list)?;
            list.truncate(len);
            list
        }
        Err(errno) => return Err(errno),
    };
    Ok(list
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}
