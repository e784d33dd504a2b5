//! Names: LOOKUP, FORGET, READLINK, UNLINK, RMDIR, LINK.

use super::answer::{ATTR_VALID_NSEC, attr, config_attr, entry_out, validity};
use super::{Call, Handled, malformed};
use crate::fs::ids::{NodeId, is_config};
use crate::fs::lower::resolve::Spot;
use crate::fs::node::Node;
use crate::fs::staging::sweep;
use crate::fs::stat::Stat;
use etcfs_proto::abi::{ForgetIn, LinkIn};
use etcfs_proto::flags::InitFlags;
use rustix::fd::AsFd;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

/// The longest symlink target, PATH_MAX; the kernel's page for READLINK holds one byte less.
const TARGET_MAX: usize = 4096;

/// LOOKUP. One system call where the directory is in use: the look at the name.
pub(crate) fn lookup(call: &mut Call<'_>) -> Handled {
    if let Some(above) = by_number(call)? {
        return found_by_number(call, above);
    }
    let name = call.name()?;
    if is_config(call.node_id(), name) {
        let size = call.fs.configuration.size();
        call.reply.put(&entry_out(
            call.fs,
            NodeId::CONFIG.0,
            config_attr(size),
            ATTR_VALID_NSEC,
        ));
        return Ok(());
    }
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
    answer(call, &parent, name, &spot, &stat, is_awaited);
    Ok(())
}

/// Whether a LOOKUP asks for a node by its number, as `.`, or for the directory above it, as `..`: the kernel does so for
/// file handles only, where that is agreed on.
fn by_number(call: &Call<'_>) -> Result<Option<bool>, Errno> {
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
    let (node, stat) = match above {
        true => call.fs.lower.above_number(id)?,
        false => call.fs.lower.by_number(id)?,
    };
    let valid = validity(&node);
    let attr = attr(call.fs, &node, &stat);
    call.reply.put(&entry_out(call.fs, node.id.0, attr, valid));
    Ok(())
}

/// LOOKUP of the configuration file's number. Nothing lies in it.
pub(crate) fn lookup_config(call: &mut Call<'_>) -> Handled {
    if by_number(call)? != Some(false) {
        return Err(Errno::NOTDIR.into());
    }
    let attr = config_attr(call.fs.configuration.size());
    let id = NodeId::CONFIG.0;
    call.reply
        .put(&entry_out(call.fs, id, attr, ATTR_VALID_NSEC));
    Ok(())
}

/// Counts a lookup of what stands at `spot` and puts its entry into the reply.
pub(crate) fn found(
    call: &mut Call<'_>,
    parent: &Arc<Node>,
    name: &CStr,
    spot: &Spot,
    stat: &Stat,
) {
    answer(call, parent, name, spot, stat, false);
}

fn answer(
    call: &mut Call<'_>,
    parent: &Arc<Node>,
    name: &CStr,
    spot: &Spot,
    stat: &Stat,
    is_awaited: bool,
) {
    let (node, stat) = call.fs.lower.meet(parent.id, name, spot, stat, is_awaited);
    let valid = validity(&node);
    call.reply.put(&entry_out(
        call.fs,
        node.id.0,
        attr(call.fs, &node, &stat),
        valid,
    ));
}

/// FORGET: the kernel gives lookups back. No answer.
pub(crate) fn forget(call: &mut Call<'_>) -> Handled {
    let count = call.args::<ForgetIn>()?.nlookup;
    call.fs.lower.nodes.forget(call.node_id(), count);
    Ok(())
}

/// BATCH_FORGET: the same for many nodes. No answer.
pub(crate) fn batch_forget(call: &mut Call<'_>) -> Handled {
    for one in call.frame.forgets().map_err(malformed)? {
        call.fs.lower.nodes.forget(NodeId(one.nodeid), one.nlookup);
    }
    Ok(())
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

/// UNLINK. Open handles go on working: they have descriptors of their own.
pub(crate) fn unlink(call: &mut Call<'_>) -> Handled {
    remove(call, AtFlags::empty())
}

/// RMDIR.
pub(crate) fn rmdir(call: &mut Call<'_>) -> Handled {
    remove(call, AtFlags::REMOVEDIR)
}

fn remove(call: &mut Call<'_>, flags: AtFlags) -> Handled {
    let name = call.name()?;
    call.not_config(call.node_id(), name)?;
    let parent = call.node()?;
    let spot = call
        .fs
        .lower
        .spot(&call.actor().unvouched(), &parent, name)?;
    let actor = call.actor_at(&spot);
    let held = call.fs.lower.hold(&spot, name);
    let unlink = || actor.act(|| rustix::fs::unlinkat(spot.dir(), name, flags));
    let removed = match unlink() {
        // What looks empty through the mount can be removed, whatever a killed daemon has left in it.
        Err(Errno::NOTEMPTY) if flags.contains(AtFlags::REMOVEDIR) => {
            let dir = crate::fs::lower::walk::open_dir(spot.dir(), name)?;
            if !sweep::sweep_empty(dir.as_fd(), sweep::STALE_AFTER).unwrap_or(false) {
                return Err(Errno::NOTEMPTY.into());
            }
            unlink()
        }
        other => other,
    };
    removed?;
    if let Some(held) = held {
        held.keep(&call.fs.lower);
    }
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    Ok(())
}

/// LINK: the head names the directory, the argument the existing node. Across sides it is EXDEV (contract S6).
pub(crate) fn link(call: &mut Call<'_>) -> Handled {
    let name = call.name()?;
    call.not_config(call.node_id(), name)?;
    let old = NodeId(call.args::<LinkIn>()?.oldnodeid);
    if old == NodeId::CONFIG {
        return Err(Errno::PERM.into());
    }
    let old = call.fs.lower.nodes.get(old).ok_or(Errno::STALE)?;
    let parent = call.node()?;
    let asker = call.actor().unvouched();
    let spot = call.fs.lower.spot_to_create(&asker, &parent, name)?;
    if spot.side != old.side() {
        return Err(Errno::XDEV.into());
    }
    let pinned = call.fs.lower.pin(&old)?;
    call.actor_at(&spot)
        .act(|| crate::sys::object::link(pinned.as_fd(), spot.dir(), name))?;
    call.fs.enforcer.note_change(&spot, call.frame.head.pid);
    // What was linked, whatever has that name by now.
    let stat = Stat::of(pinned.as_fd())?;
    found(call, &parent, name, &spot, &stat);
    Ok(())
}
