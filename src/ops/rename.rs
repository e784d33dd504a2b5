//! RENAME and RENAME2.

use super::{Call, Handled};
use crate::fs::cross::{self, Errand, Move};
use crate::fs::ids::NodeId;
use crate::fs::journal::Process;
use crate::fs::lower::hold::Orphan;
use crate::fs::lower::resolve::Spot;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::log;
use crate::printable::printable;
use etcfs_proto::abi::{Rename2In, RenameIn};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Instant;

/// RENAME.
pub(crate) fn rename(call: &mut Call<'_>) -> Handled {
    let newdir = call.args::<RenameIn>()?.newdir;
    run(call, newdir, RenameFlags::empty())
}

/// RENAME2: with RENAME_NOREPLACE or RENAME_EXCHANGE; RENAME_WHITEOUT is EINVAL (contract B1).
pub(crate) fn rename2(call: &mut Call<'_>) -> Handled {
    let args = call.args::<Rename2In>()?;
    let flags = RenameFlags::from_bits_retain(args.flags);
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL.into());
    }
    run(call, args.newdir, flags)
}

fn run(call: &mut Call<'_>, newdir: u64, flags: RenameFlags) -> Handled {
    let (old, new) = call.names2()?;
    let newdir = NodeId(newdir);
    let from_dir = call.node()?;
    let to_dir = call.fs.lower.nodes.get(newdir).ok_or(Errno::STALE)?;
    let asker = call.actor().unvouched();
    // One version for both names (contract D35).
    let rules = call.fs.lower.rules();
    let lower = &call.fs.lower;
    let from = lower.spot_in(&asker, &rules, &from_dir, old, false)?;
    let to = lower.spot_in(&asker, &rules, &to_dir, new, true)?;
    drop(rules);
    if from.side != to.side {
        return across(call, (&from_dir, &from), old, (&to_dir, &to), new, flags);
    }
    let replaced = replaced(call, &to, new, flags);
    let actor = match from.foreign || to.foreign {
        true => asker,
        false => call.actor(),
    };
    actor.act(|| match flags.is_empty() {
        true => rustix::fs::renameat(from.dir(), old, to.dir(), new),
        false => rustix::fs::renameat_with(from.dir(), old, to.dir(), new, flags),
    })?;
    if let Some(replaced) = replaced {
        replaced.keep(&call.fs.lower);
    }
    call.fs.enforcer.note_change(&from, call.frame.head.pid);
    call.fs.enforcer.note_change(&to, call.frame.head.pid);
    moved(call, &to_dir, &to, new);
    if flags.contains(RenameFlags::EXCHANGE) {
        moved(call, &from_dir, &from, old);
    }
    Ok(())
}

/// A rename to the other side. Directories are EXDEV, as on file systems that are apart, and mv(1) then copies what is
/// in them; an exchange is EXDEV too (contract B1). What is asked of the caller is what natively a rename asks (contract
/// B33): by the kernel on the mount, and by the lower file systems when it is done.
fn across(
    call: &mut Call<'_>,
    (from_dir, from): (&Arc<Node>, &Spot),
    old: &CStr,
    (to_dir, to): (&Arc<Node>, &Spot),
    new: &CStr,
    flags: RenameFlags,
) -> Handled {
    if flags.contains(RenameFlags::EXCHANGE) || Stat::at(from.dir(), old)?.is_dir() {
        return Err(Errno::XDEV.into());
    }
    let work = Move {
        from: from.dir(),
        old,
        to: to.dir(),
        new,
        no_replace: flags.contains(RenameFlags::NOREPLACE),
    };
    let replaced = replaced(call, to, new, flags);
    let source = call.fs.lower.hold(from, old);
    let actor = call.actor().unvouched();
    match cross::rename_natively(&work, &actor) {
        Err(Errno::XDEV) => {
            let most = most(call);
            // Within one directory the kernel locks only that.
            let share = (most.is_some() && from_dir.id != to_dir.id).then_some(&call.fs.copies);
            if share.is_some_and(|share| !share.is_left()) {
                return Err(Errno::XDEV.into());
            }
            call.go_aside()?;
            let keep_going = || call.check_interrupt();
            let errand = Errand::new(&actor, most, &keep_going);
            let began = Instant::now();
            let copied = cross::copy_across(&work, &errand, &mut |_| {});
            if let Some(share) = share {
                share.take(began.elapsed());
            }
            copied?;
            if let Some((attribute, errno)) = errand.take_lost() {
                tell_of_lost(call, (from_dir, old), (to_dir, new), &attribute, errno);
            }
        }
        other => other?,
    }
    for lost in [replaced, source].into_iter().flatten() {
        lost.keep(&call.fs.lower);
    }
    call.fs.enforcer.note_change(from, call.frame.head.pid);
    call.fs.enforcer.note_change(to, call.frame.head.pid);
    moved(call, to_dir, to, new);
    Ok(())
}

/// Says that a copy lacks what its file system cannot hold. Nobody else would: the rename has succeeded.
fn tell_of_lost(
    call: &Call<'_>,
    old: (&Arc<Node>, &CStr),
    new: (&Arc<Node>, &CStr),
    attribute: &CStr,
    errno: Errno,
) {
    let path = |(dir, name): (&Arc<Node>, &CStr)| {
        let above = call.fs.lower.path_of(dir.id).unwrap_or_default();
        let mut path = call.fs.settings.mountpoint.to_vec();
        for part in [&above[..], name.to_bytes()] {
            if !part.is_empty() {
                path.push(b'/');
                path.extend_from_slice(part);
            }
        }
        printable(&path)
    };
    log::warn(format_args!(
        "{}: renamed to {} on the other side by {}: the copy is without the attribute {}, which its file system does not take \
         ({errno})",
        path(old),
        path(new),
        Process::named(call.frame.head.pid),
        printable(attribute.to_bytes())
    ));
}

/// How much may be copied for the caller, in bytes. Meanwhile the kernel lets nobody rename from one directory of the
/// mount to another (`s_vfs_rename_mutex`), so what an ordinary user can have copied is bounded.
fn most(call: &Call<'_>) -> Option<u64> {
    let settings = &call.fs.settings;
    (settings.privileged && call.frame.head.uid != 0).then_some(settings.max_cross_copy)
}

/// Takes hold of what the rename is about to replace.
fn replaced(call: &Call<'_>, to: &Spot, new: &CStr, flags: RenameFlags) -> Option<Orphan> {
    flags
        .is_empty()
        .then(|| call.fs.lower.hold(to, new))
        .flatten()
}

/// Notes the new name of what was moved, so that clients that reach it without its path (a working directory, an
/// `O_PATH` descriptor) still do.
fn moved(call: &Call<'_>, dir: &Arc<Node>, spot: &Spot, name: &CStr) {
    let Ok(stat) = Stat::at(spot.dir(), name) else {
        return;
    };
    if let Some(node) = call.fs.lower.nodes.find(&stat.key(spot.side)) {
        call.fs.lower.nodes.note(&node, dir.id, name);
    }
}
