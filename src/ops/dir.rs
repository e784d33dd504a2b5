//! Directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR.

use super::act::Actor;
use super::answer::{ATTR_VALID_NSEC, attr, config_attr, entry_out, validity};
use super::{Call, Handled};
use crate::fs::handle::Dir;
use crate::fs::ids::{NodeId, is_config};
use crate::fs::listing;
use crate::fs::lower::known::Sighting;
use crate::fs::node::Node;
use etcfs_proto::DirPacker;
use etcfs_proto::abi::{EntryOut, FsyncIn, OpenOut, ReadIn, ReleaseIn};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::sync::Arc;

/// OPENDIR.
pub(crate) fn opendir(call: &mut Call<'_>) -> Handled {
    let node = call.node()?;
    let charge = call.fs.opens.descriptors.charge(call.frame.head.uid)?;
    let mut dir = listing::open(&call.fs.lower, &node)?;
    let (fh, held) = charge.into_handle(call.fs.opens.new_handle());
    dir.held = Some(held);
    node.handles().add_dir(fh, dir);
    call.reply.put(&OpenOut {
        fh,
        open_flags: 0,
        backing_id: 0,
    });
    Ok(())
}

/// READDIR: names with their types and inode numbers, so that a listing costs no request per entry.
pub(crate) fn readdir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReadIn>()?;
    let (node, dir) = handle(call, args.fh)?;
    let most = call.most(args.size);
    let asker = call.actor().unvouched();
    let mut packer = DirPacker::new(call.reply, most);
    listing::list(
        &call.fs.lower,
        &asker,
        &node,
        &dir,
        args.offset,
        &mut |entry| packer.push(entry.ino, entry.offset, entry.kind.into(), entry.name),
    )?;
    Ok(())
}

/// READDIRPLUS: the same with what a LOOKUP of every name would answer. Not agreed on in INIT, because entries that
/// are not kept (validity 0) are looked up again anyway; kernels that were told otherwise may send it.
pub(crate) fn readdirplus(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReadIn>()?;
    let (node, dir) = handle(call, args.fh)?;
    let fs = call.fs;
    let pid = call.frame.head.pid;
    let most = call.most(args.size);
    let asker = call.actor().unvouched();
    let mut packer = DirPacker::new(call.reply, most);
    listing::list(&fs.lower, &asker, &node, &dir, args.offset, &mut |listed| {
        let entry = match CString::new(listed.name) {
            Ok(name) => entry_of(fs, &asker, &node, &name, pid),
            Err(_) => EntryOut::default(),
        };
        let (ino, kind) = (listed.ino, listed.kind.into());
        let fits = packer.push_plus(&entry, ino, listed.offset, kind, listed.name);
        if !fits && entry.nodeid != 0 {
            fs.lower.nodes.forget(NodeId(entry.nodeid), 1);
        }
        fits
    })?;
    Ok(())
}

/// The entry of `name` with one lookup counted, or none (node 0): the kernel then looks it up when it is used. `.` and
/// `..` are always none.
fn entry_of(
    fs: &crate::fs::Fs,
    asker: &Actor<'_>,
    parent: &Arc<Node>,
    name: &CStr,
    pid: u32,
) -> EntryOut {
    if name == c"." || name == c".." {
        return EntryOut::default();
    }
    if is_config(parent.id, name) {
        return entry_out(
            fs,
            NodeId::CONFIG.0,
            config_attr(fs.configuration.size()),
            ATTR_VALID_NSEC,
        );
    }
    let Ok(spot) = fs.lower.spot(asker, parent, name) else {
        return EntryOut::default();
    };
    let stat = spot.look(asker, name);
    let Ok(stat) = fs.enforcer.enforced(&spot, name, stat, pid) else {
        return EntryOut::default();
    };
    let (node, stat) = fs.lower.meet(
        &Sighting {
            parent: parent.id,
            name,
            spot: &spot,
            stat: &stat,
        },
        false,
    );
    entry_out(fs, node.id.0, attr(fs, &node, &stat), validity(&node))
}

fn handle(call: &Call<'_>, fh: u64) -> Result<(Arc<Node>, Arc<Dir>), Errno> {
    let node = call.node()?;
    let dir = node.handles().dir(fh).ok_or(Errno::BADF)?;
    Ok((node, dir))
}

/// RELEASEDIR.
pub(crate) fn releasedir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReleaseIn>()?;
    let node = call.node()?;
    let dir = node.handles().remove_dir(args.fh);
    if dir.is_some() {
        call.fs.opens.descriptors.give_back(args.fh);
    }
    Ok(())
}

/// FSYNCDIR.
pub(crate) fn fsyncdir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<FsyncIn>()?;
    let (_, dir) = handle(call, args.fh)?;
    super::file::sync(dir.fd.as_fd(), args)?;
    Ok(())
}
