//! Names that are looked up, and what they led to: LOOKUP, FORGET, READLINK.

use super::answer::{absent_out, attr, entry_out, validity};
use super::{Call, Handled, malformed};
use crate::fs::ids::NodeId;
use crate::fs::lower::known::Sighting;
use crate::fs::node::{Node, is_young};
use crate::fs::stat::Stat;
use crate::fs::watch::{Valid, WatchLease};
use crate::ledger::flight::tally::CountChange;
use etcfs_proto::abi::ForgetIn;
use etcfs_proto::flags::InitFlags;
use rustix::io::Errno;

/// The longest symlink target, PATH_MAX; the kernel's page for READLINK holds one byte less.
const TARGET_MAX: usize = 4096;

/// LOOKUP. One system call where the directory is in use: the look at the name.
pub(crate) fn lookup(call: &mut Call<'_>) -> Handled {
    if let Some(above) = by_number(call)? {
        return found_by_number(call, above);
    }
    let name = call.name()?;
    let parent = call.node()?;
    let asker = call.actor().unvouched();
    let watch = call.fs.watch.on();
    let lease = watch.and_then(|on| on.lease(&parent));
    let spot = call.fs.lower.spot(&asker, &parent, name)?;
    let stat = spot.look(&asker, name);
    if call.fs.enforcer.may_take_long(&spot, &stat) {
        call.go_aside()?;
    }
    let stat = call
        .fs
        .enforcer
        .enforced(&spot, name, stat, call.frame.head.pid);
    let watched = watch.zip(lease.as_ref());
    if stat.as_ref().err() == Some(&Errno::NOENT) {
        let valid = watched.map(|(on, lease)| on.absence(lease, (&spot, name)));
        if let Some(valid) = valid.filter(|&valid| valid != Valid::NOT) {
            call.reply.put(&absent_out(valid));
            return Ok(());
        }
    }
    let stat = stat?;
    // What has just been made or linked is that, and no other.
    let is_awaited = !stat.is_dir() && call.fs.lower.sent_back.has(call.frame.head.pid);
    let seen = Sighting {
        parent: parent.id,
        name,
        spot: &spot,
        stat: &stat,
    };
    let (node, stat) = call
        .fs
        .lower
        .meet(&seen, is_awaited, call.changes(CountChange::Given))?;
    let valid = watched.map_or(Valid::NOT, |(on, lease)| {
        on.name(lease, (&spot, name), (&node, &stat))
    });
    put_kept(call, (&node, &stat), valid, lease.as_ref());
    Ok(())
}

/// Whether a LOOKUP asks for a node by its number, as `.`, or for the directory above it, as `..`: the kernel does so for
/// file handles only, where that is agreed on.
pub(super) fn by_number(call: &Call<'_>) -> Result<Option<bool>, Errno> {
    let name = call.frame.name().map_err(malformed)?;
    let above = match name.to_bytes() {
        b"." => false,
        b".." => true,
        _ => return Ok(None),
    };
    let agreed = call.agreed.flags.contains(InitFlags::EXPORT_SUPPORT);
    Ok(agreed.then_some(above))
}

fn found_by_number(call: &mut Call<'_>, above: bool) -> Handled {
    let id = call.node_id();
    let asker = call.changes(CountChange::Given);
    let (node, stat) = match above {
        true => call.fs.lower.above_number(id, asker)?,
        false => call.fs.lower.by_number(id, asker)?,
    };
    put_entry(call, &node, &stat);
    Ok(())
}

/// Puts the entry of `node`, of which a lookup was counted, into the reply. The kernel keeps nothing of it.
pub(super) fn put_entry(call: &mut Call<'_>, node: &Node, stat: &Stat) {
    put_kept(call, (node, stat), Valid::NOT, None);
}

/// As [`put_entry`]; the name may be used for as long as `valid`.
fn put_kept(
    call: &mut Call<'_>,
    (node, stat): (&Node, &Stat),
    valid: Valid,
    lease: Option<&WatchLease>,
) {
    let attr = attr(call.fs, node, stat);
    let attr_valid = validity(call.fs, lease, node, stat);
    let number = call.fs.settings.number_of(node.id);
    let entry = entry_out(call.fs, number, attr, valid, attr_valid);
    call.reply.put(&entry);
}

/// FORGET: the kernel gives lookups back. No answer.
pub(crate) fn forget(call: &mut Call<'_>) -> Handled {
    let count = call.args::<ForgetIn>()?.nlookup;
    forget_once(call, 1, call.node_id(), count);
    Ok(())
}

/// BATCH_FORGET: the same for many nodes. No answer.
pub(crate) fn batch_forget(call: &mut Call<'_>) -> Handled {
    for (step, one) in (1..).zip(call.frame.forgets().map_err(malformed)?) {
        forget_once(call, step, NodeId::of(one.nodeid), one.nlookup);
    }
    Ok(())
}

/// What FORGET says, unless a predecessor has done that. Lookups taken back twice would be those of others; one that is not
/// taken back keeps a node in memory.
fn forget_once(call: &Call<'_>, step: u64, node: NodeId, count: u64) {
    let unique = call.frame.head.unique;
    // Without a number (no kernel sends one so) nothing tells it from the one before.
    if unique == 0 || call.flight.steps(unique) < step {
        let asker = call.changes(CountChange::Step(step));
        let nodes = &call.fs.lower.nodes;
        nodes.forget(node, count, asker);
        let is_known = |node| nodes.get(node).is_some_and(|node| node.is_known());
        if let Some(on) = call.fs.watch.on().filter(|_| !is_known(node)) {
            on.forgotten(node);
        }
    }
}

/// READLINK.
pub(crate) fn readlink(call: &mut Call<'_>) -> Handled {
    let node = call.node()?;
    let len = call
        .fs
        .lower
        .read_link(&node, call.reply.space(TARGET_MAX))?;
    call.reply.truncate_body(len);
    let (key, watch) = (node.key(), call.fs.watch.on());
    if let Some(on) = watch.filter(|_| key.is_ambiguous() || is_young(&key)) {
        on.told_young(node.id);
    }
    Ok(())
}
