//! RENAME and RENAME2.

use super::intent::{NOTHING, key_of, words_of};
use super::{Call, Handled};
use crate::fs::cross::{self, CopyStep, Errand, Move};
use crate::fs::ids::{Key, NodeId};
use crate::fs::journal::Process;
use crate::fs::lower::hold::Orphan;
use crate::fs::lower::resolve::Spot;
use crate::fs::node::Node;
use crate::fs::staging::sweep;
use crate::fs::stat::Stat;
use crate::fs::watch::{On, RenameEnd};
use crate::log;
use crate::printable::printable;
use crate::sys::creds;
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::abi::{ROOT_ID, Rename2In, RenameIn};
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
    // The FUSE root is none to rename into (`above`).
    if newdir == ROOT_ID && call.fs.settings.below {
        return Err(Errno::STALE.into());
    }
    let newdir = NodeId::of(newdir);
    let from_dir = call.node()?;
    let to_dir = call.fs.lower.nodes.get(newdir).ok_or(Errno::STALE)?;
    let asker = call.actor().unvouched();
    // One version for both names (contract D35).
    let rules = call.fs.lower.rules();
    let lower = &call.fs.lower;
    let from = lower.spot_in(&asker, &rules, &from_dir, old, false)?;
    let to = lower.spot_in(&asker, &rules, &to_dir, new, true)?;
    drop(rules);
    let ends = (end(&from_dir, &from, old), end(&to_dir, &to, new));
    let swaps = flags.contains(RenameFlags::EXCHANGE);
    let may =
        |on: &On| on.may_rename(&ends.0, &ends.1) & (!swaps || on.may_rename(&ends.1, &ends.0));
    if call.begun().is_none() && !call.fs.watch.on().is_none_or(may) {
        return Err(Errno::STALE.into());
    }
    if from.side != to.side {
        return across(call, (&from_dir, &from), old, (&to_dir, &to), new, flags);
    }
    let now = Stat::at(from.dir(), old).map(|stat| stat.key(from.side));
    if let Some((source, target)) = renamed(call, &from, now.as_ref().ok()) {
        note(
            call,
            (&from_dir, &from, old),
            (&to_dir, &to, new),
            &source,
            target,
        );
        return Ok(());
    }
    let source = now?;
    let (target, replaced) = match flags.contains(RenameFlags::EXCHANGE) {
        true => (Some(Stat::at(to.dir(), new)?.key(to.side)), None),
        false => (None, replaced(call, &to, new, flags)),
    };
    call.begin(&[words_of(Some(&source)), words_of(target.as_ref())].concat());
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
    note(
        call,
        (&from_dir, &from, old),
        (&to_dir, &to, new),
        &source,
        target,
    );
    Ok(())
}

/// A name in a directory.
type At<'a> = (&'a Arc<Node>, &'a Spot, &'a CStr);

fn end<'a>(dir: &'a Arc<Node>, spot: &'a Spot, name: &'a CStr) -> RenameEnd<'a> {
    RenameEnd { dir, spot, name }
}

/// What was renamed, and what it was exchanged with, if a predecessor has done that: where it was, `now` is something else.
fn renamed(call: &Call<'_>, from: &Spot, now: Option<&Key>) -> Option<(Key, Option<Key>)> {
    let [dev, ino, generation, target @ .., _] = call.begun()?;
    let source = [dev, ino, generation];
    let target = (target != NOTHING).then(|| key_of(target, from.side));
    let is_done = source != NOTHING && words_of(now) != source;
    is_done.then(|| (key_of(source, from.side), target))
}

/// Notes a rename that was done.
fn note(
    call: &Call<'_>,
    (from_dir, from, old): At<'_>,
    (to_dir, to, new): At<'_>,
    source: &Key,
    target: Option<Key>,
) {
    call.fs.enforcer.note_change(from, call.frame.head.pid);
    call.fs.enforcer.note_change(to, call.frame.head.pid);
    moved(call, to_dir, source, new);
    if let Some(target) = target {
        moved(call, from_dir, &target, old);
    }
    let Some(on) = call.fs.watch.on() else {
        return;
    };
    let ends = (end(from_dir, from, old), end(to_dir, to, new));
    let known = |key: &Key| call.fs.lower.nodes.find(key);
    let (source, target) = (known(source), target.as_ref().map(known));
    on.renamed(&ends.0, &ends.1, source.as_ref().map(|node| node.id));
    if let Some(target) = &target {
        on.arrived(&ends.0, target.as_ref().map(|node| node.id));
    }
    let mut both = [source, target.flatten()].into_iter().flatten();
    if (from.place.is_some() || to.place.is_some()) && both.any(|node| node.is_dir()) {
        on.moved_among_rules();
    }
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
    clear_up(call, (from, old), (to, new));
    let now = Stat::at(from.dir(), old);
    let now_key = now.as_ref().map(|stat| stat.key(from.side));
    if renamed(call, from, now_key.as_ref().ok()).is_some() {
        arrived(call, (from_dir, from, old), (to_dir, to, new));
        return Ok(());
    }
    let stat = now?;
    if flags.contains(RenameFlags::EXCHANGE) || stat.is_dir() {
        return Err(Errno::XDEV.into());
    }
    // What a predecessor has given the target's name is this rename's own work, to be replaced.
    let fresh = call.begun().map(|[_, _, _, fresh @ .., _]| fresh);
    let is_ours = |fresh: [u64; 3]| {
        let there = Stat::at(to.dir(), new).map(|stat| stat.key(to.side));
        fresh != NOTHING && words_of(there.as_ref().ok()) == fresh
    };
    let flags = match fresh.is_some_and(is_ours) {
        true => RenameFlags::empty(),
        false => flags,
    };
    let source_words = words_of(Some(&stat.key(from.side)));
    call.begin(&[source_words, fresh.unwrap_or(NOTHING)].concat());
    let work = Move {
        from: from.dir(),
        old,
        to: to.dir(),
        new,
        no_replace: flags.contains(RenameFlags::NOREPLACE),
    };
    let replaced = replaced(call, to, new, flags);
    let (_, source) = call.fs.lower.hold(from, old);
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
            let publishes = |fresh: &Stat| {
                let words = words_of(Some(&fresh.key(to.side)));
                call.begin(&[source_words, words].concat());
            };
            let errand = Errand::new(&actor, most, &keep_going).telling(&publishes);
            let began = Instant::now();
            let copied = cross::copy_across(&work, &errand, &mut |step| stop::at(point(step)));
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
    arrived(call, (from_dir, from, old), (to_dir, to, new));
    Ok(())
}

/// Removes what a predecessor that was killed in the middle has left in places of its own: a copy that has not got the
/// target's name, and the source where a copy has and is as it was. Any other source gets its name back: somebody has
/// written to it meanwhile, or the copy is no more.
fn clear_up(call: &Call<'_>, (from, old): (&Spot, &CStr), (to, new): (&Spot, &CStr)) {
    let Some([dev, ino, generation, fresh @ .., _]) = call.begun() else {
        return;
    };
    let source = [dev, ino, generation];
    let is_fresh = |stat: &Stat| words_of(Some(&stat.key(to.side))) == fresh;
    let target = Stat::at(to.dir(), new).ok().filter(is_fresh);
    let is_source = |stat: &Stat| words_of(Some(&stat.key(from.side))) == source;
    let is_copied =
        |stat: &Stat| is_source(stat) && target.is_some_and(|target| target.has_same_data(stat));
    let _ = creds::own(|| {
        sweep::remove_left(from.dir(), &is_copied)?;
        sweep::give_back(from.dir(), old, &is_source)?;
        sweep::remove_left(to.dir(), &|stat| target.is_none() && is_fresh(stat))
    });
}

/// Where tests kill the server.
fn point(step: CopyStep) -> StopPoint {
    match step {
        CopyStep::Named => StopPoint::Named,
        CopyStep::Published => StopPoint::Published,
        CopyStep::SetAside => StopPoint::SetAside,
        _ => StopPoint::Copying,
    }
}

/// Notes what has come to the other side.
fn arrived(call: &Call<'_>, (from_dir, from, old): At<'_>, (to_dir, to, new): At<'_>) {
    call.fs.enforcer.note_change(from, call.frame.head.pid);
    call.fs.enforcer.note_change(to, call.frame.head.pid);
    if let Ok(stat) = Stat::at(to.dir(), new) {
        moved(call, to_dir, &stat.key(to.side), new);
    }
    if let Some(on) = call.fs.watch.on() {
        on.renamed(&end(from_dir, from, old), &end(to_dir, to, new), None);
    }
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
        .then(|| call.fs.lower.hold(to, new).1)
        .flatten()
}

/// Notes the new name of what was moved, so that clients that reach it without its path (a working directory, an
/// `O_PATH` descriptor) still do.
fn moved(call: &Call<'_>, dir: &Arc<Node>, key: &Key, name: &CStr) {
    if let Some(node) = call.fs.lower.nodes.find(key) {
        call.fs.lower.nodes.note(&node, dir.id, name);
    }
}
