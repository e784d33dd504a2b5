//! Names that are looked up, and what they led to: LOOKUP, FORGET, READLINK.

use super::answer::{attr, entry_out, validity};
use super::{Call, Handled, malformed};
use crate::fs::ids::NodeId;
use crate::fs::lower::known::Sighting;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
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
    let spot = call.fs.lower.spot(&asker, &parent, name)?;
    let stat = spot.look(&asker, name);
    if call.fs.enforcer.may_take_long(&spot, &stat) {
        call.go_aside()?;
    }
    let stat = call
        .fs
        .enforcer
        .enforced(&spot, name, stat, call.frame.head.pid)?;
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
    put_entry(call, &node, &stat);
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

/// Puts the entry of `node`, of which a lookup was counted, into the reply.
pub(super) fn put_entry(call: &mut Call<'_>, node: &Node, stat: &Stat) {
    let attr = attr(call.fs, node, stat);
    let number = call.fs.settings.number_of(node.id);
    let entry = entry_out(call.fs, number, attr, validity(node));
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
        call.fs.lower.nodes.forget(node, count, asker);
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
    Ok(())
}
