//! Directory listings: the lower directory's own order and offsets, with what rules add and hide (contract S6).
//!
//! Offsets must survive changes of the directory, so an entry of the lower directory keeps the lower file system's
//! cookie, moved up by [`OWN`]; offsets below that count the names that rules bring in, which come first. Where a cookie
//! does not survive changes, `ahead` reads on without it.

use super::asker::Asker;
use super::handle::Dir;
use super::ids::{CONFIG_INO, CONFIG_NAME};
use super::lower::Lower;
use super::node::Node;
use super::rules::{OverrideKind, Place, Rules};
use super::staging::temp_names::is_hidden;
use crate::sys::creds::looking;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::sync::{Arc, Mutex};

/// How many offsets are set aside for names that rules bring in; also the most that one directory can show of them.
const OWN: u64 = 1 << 20;

/// One entry of a listing.
pub(crate) struct Listed<'a> {
    /// Inode number as the mount shows it.
    pub(crate) ino: u64,
    /// Where a listing that continues after this entry begins.
    pub(crate) offset: u64,
    /// `DT_REG` and so on.
    pub(crate) kind: u8,
    /// The name.
    pub(crate) name: &'a [u8],
}

/// Opens the directory `node` for listing.
///
/// # Errors
/// EACCES, ESTALE, ENFILE.
pub(crate) fn open(lower: &Lower, node: &Arc<Node>) -> Result<Dir, Errno> {
    let at = lower.dir_fd(node)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::empty();
    let open = |flags| looking(|| rustix::fs::openat(&*at, c".", flags, mode));
    let fd = lower.with_relief(|| lower.keeping_times(flags, open))?;
    Ok(Dir {
        fd,
        merge: merge_of(lower, node).into(),
        ahead: Mutex::default(),
        held: None,
    })
}

/// What a rule adds to a listing of the directory `node` or hides from it.
fn merge_of(lower: &Lower, node: &Arc<Node>) -> Option<(Arc<Rules>, Place)> {
    let rules = arc_swap::Guard::into_inner(lower.rules());
    lower
        .place_of(&rules, node)
        .filter(|&at| at == Place::ROOT || rules.children(at).next().is_some())
        .map(|at| (rules, at))
}

/// Gives `asker` the entries of `dir`, an open listing of `node`, from `offset` on to `take` until that returns false.
///
/// # Errors
/// What reading the lower directory answers.
pub(crate) fn list(
    lower: &Lower,
    asker: &dyn Asker,
    node: &Arc<Node>,
    dir: &Dir,
    offset: u64,
    take: &mut dyn FnMut(&Listed<'_>) -> bool,
) -> Result<(), Errno> {
    let merge = dir.merge.get_or_init(|| merge_of(lower, node));
    if let Some((rules, at)) = merge.as_ref().filter(|_| offset < OWN) {
        if !list_brought_in(lower, asker, node, rules, *at, offset as usize, take) {
            return Ok(());
        }
    }
    list_lower(lower, node, dir, merge.as_ref(), offset, take)
}

fn list_lower(
    lower: &Lower,
    node: &Arc<Node>,
    dir: &Dir,
    merge: Option<&(Arc<Rules>, Place)>,
    offset: u64,
    take: &mut dyn FnMut(&Listed<'_>) -> bool,
) -> Result<(), Errno> {
    let hidden = |name: &[u8]| {
        is_hidden(name)
            || merge.is_some_and(|(rules, at)| {
                (*at == Place::ROOT && name == CONFIG_NAME.to_bytes())
                    || rules
                        .child(*at, name)
                        .is_some_and(|child| brings_in(rules, child))
            })
    };
    let mut ahead = crate::mutex::lock(&dir.ahead);
    ahead.go_to(&dir.fd, lower_cookie(offset), offset == 0)?;
    ahead.give(&dir.fd, hidden, &mut |read| {
        take(&Listed {
            ino: lower.ino(node.dev(), read.ino),
            offset: shown_offset(read.next),
            kind: read.kind,
            name: read.name,
        })
    })
}

/// Gives the names that rules bring into the directory at `at`: the configuration file, overrides, and global names
/// that exist. The offset behind a name is its number among all names of the rules that the listing was opened
/// under, whether they exist or not, so that one which comes or goes moves no other. False: `take` wants no more.
fn list_brought_in(
    lower: &Lower,
    asker: &dyn Asker,
    node: &Arc<Node>,
    rules: &Rules,
    at: Place,
    offset: usize,
    take: &mut dyn FnMut(&Listed<'_>) -> bool,
) -> bool {
    if at == Place::ROOT && offset == 0 {
        let entry = Listed {
            ino: CONFIG_INO,
            offset: 1,
            kind: libc::DT_REG,
            name: CONFIG_NAME.to_bytes(),
        };
        if !take(&entry) {
            return false;
        }
    }
    // Offset 1 is behind the configuration file, or behind nothing where there is none.
    let children = rules.children(at).enumerate().take(OWN as usize - 2);
    for (index, (name, child)) in children.skip(offset.saturating_sub(1)) {
        if !brings_in(rules, child) {
            continue;
        }
        let Some((ino, kind)) = brought_in(lower, asker, node, rules, name, child) else {
            continue;
        };
        let entry = Listed {
            ino,
            offset: index as u64 + 2,
            kind,
            name,
        };
        if !take(&entry) {
            return false;
        }
    }
    true
}

/// Inode number and type of a name that a rule brings in; none: it is not there.
fn brought_in(
    lower: &Lower,
    asker: &dyn Asker,
    node: &Arc<Node>,
    rules: &Rules,
    name: &[u8],
    child: Place,
) -> Option<(u64, u8)> {
    let name = CString::new(name).ok()?;
    let found = lower
        .spot_in(asker, rules, node, &name, false)
        .and_then(|spot| spot.look(asker, &name));
    match found {
        Ok(stat) => {
            return Some((
                lower.ino(stat.dev(), stat.0.stx_ino),
                (stat.kind() >> 12) as u8,
            ));
        }
        // What is in a directory that one may not search is for others to know.
        Err(Errno::ACCESS) => return None,
        Err(_) => {}
    }
    match rules.override_at(child)?.kind {
        OverrideKind::Symlink => Some((UNKNOWN_INO, libc::DT_LNK)),
        OverrideKind::Directory => Some((UNKNOWN_INO, libc::DT_DIR)),
        // Injection never makes a file (contract D41).
        OverrideKind::Inject => None,
    }
}

/// The number of an object that enforcement has yet to make; 0 would make readers skip the entry.
const UNKNOWN_INO: u64 = u32::MAX as u64;

/// True if the rule at `place` decides where that very name comes from.
fn brings_in(rules: &Rules, place: Place) -> bool {
    rules.is_global(place) || rules.override_at(place).is_some()
}

/// The offset shown for a lower cookie. ext4's end-of-directory cookie is the largest there is and stays.
fn shown_offset(cookie: u64) -> u64 {
    match cookie.checked_add(OWN) {
        Some(offset) if offset <= i64::MAX as u64 => offset,
        _ => cookie,
    }
}

fn lower_cookie(offset: u64) -> u64 {
    if offset > i64::MAX as u64 - OWN {
        offset
    } else {
        offset.saturating_sub(OWN)
    }
}
