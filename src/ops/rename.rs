//! RENAME and RENAME2.

use super::{Call, malformed};
use crate::fs::node::{Node, NodeId};
use crate::fs::stat::Stat;
use crate::fs::tree::Spot;
use etcfs_proto::abi::{Rename2In, RenameIn};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

/// RENAME.
pub fn rename(call: &mut Call<'_>) -> Result<(), Errno> {
    let newdir = call.args::<RenameIn>()?.newdir;
    run(call, newdir, RenameFlags::empty())
}

/// RENAME2: with RENAME_NOREPLACE or RENAME_EXCHANGE; RENAME_WHITEOUT is EINVAL (contract B1).
pub fn rename2(call: &mut Call<'_>) -> Result<(), Errno> {
    let args = call.args::<Rename2In>()?;
    let flags = RenameFlags::from_bits_retain(args.flags);
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL);
    }
    run(call, args.newdir, flags)
}

fn run(call: &mut Call<'_>, newdir: u64, flags: RenameFlags) -> Result<(), Errno> {
    let (old, new) = call.frame.names2().map_err(malformed)?;
    let newdir = NodeId(newdir);
    call.not_config(call.node_id(), old)?;
    call.not_config(newdir, new)?;
    let from_dir = call.node()?;
    let to_dir = call.fs.nodes.get(newdir).ok_or(Errno::STALE)?;
    let from = call.fs.spot(&from_dir, old)?;
    let to = call.fs.spot_to_create(&to_dir, new)?;
    if from.side != to.side {
        return Err(Errno::XDEV);
    }
    if flags.is_empty() {
        rustix::fs::renameat(from.dir(), old, to.dir(), new)?;
    } else {
        rustix::fs::renameat_with(from.dir(), old, to.dir(), new, flags)?;
    }
    from.note_change(call.frame.head.pid);
    to.note_change(call.frame.head.pid);
    moved(call, &to_dir, &to, new);
    if flags.contains(RenameFlags::EXCHANGE) {
        moved(call, &from_dir, &from, old);
    }
    Ok(())
}

/// Notes the new name of what was moved, so that clients that reach it without its path (a working directory, an
/// `O_PATH` descriptor) still do.
fn moved(call: &Call<'_>, dir: &Arc<Node>, spot: &Spot, name: &CStr) {
    let Ok(stat) = Stat::at(spot.dir(), name) else {
        return;
    };
    if let Some(node) = call.fs.nodes.find(&stat.key(spot.side)) {
        call.fs.nodes.note(&node, dir.id, name);
    }
}
