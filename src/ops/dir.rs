//! Directories: OPENDIR, READDIR, RELEASEDIR, FSYNCDIR.

use super::{Call, Handled};
use crate::fs::Fs;
use crate::fs::handle::Dir;
use crate::fs::listing;
use crate::fs::node::Node;
use crate::fs::watch::KeptPages;
use etcfs_proto::DirPacker;
use etcfs_proto::abi::{FsyncIn, OpenOut, ReadIn, ReleaseIn};
use etcfs_proto::flags::OpenFlags;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::sync::Arc;

/// OPENDIR.
pub(crate) fn opendir(call: &mut Call<'_>) -> Handled {
    let node = call.node()?;
    let charge = call.charge()?;
    let lease = call.lease_of(&node);
    let dir = listing::open(&call.fs.lower, &node)?;
    let is_merged = dir.merge.get().is_none_or(Option::is_some);
    let fh = call.fs.opens.adopt_dir(&node, dir, charge);
    let lease = lease.filter(|_| !is_merged);
    let listed = call.fs.watch.on().zip(lease);
    let listed = listed.map(|(on, lease)| on.listing(&lease, &node, fh));
    let open_flags = match listed.unwrap_or(KeptPages::Unkept) {
        KeptPages::Unkept => OpenFlags::empty(),
        KeptPages::Filled => OpenFlags::CACHE_DIR,
        KeptPages::Kept => OpenFlags::CACHE_DIR | OpenFlags::KEEP_CACHE,
    };
    call.reply.put(&OpenOut {
        fh,
        open_flags: open_flags.bits(),
        backing_id: 0,
    });
    Ok(())
}

/// READDIR: names with their types and inode numbers, so that a listing costs no request per entry. READDIRPLUS, which answers
/// a LOOKUP of every name as well, is not agreed on: entries that are not kept (validity 0) are looked up again anyway.
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

fn handle(call: &Call<'_>, fh: u64) -> Result<(Arc<Node>, Arc<Dir>), Errno> {
    let node = call.node()?;
    let dir = node.handles().dir(fh).ok_or(Errno::BADF)?;
    Ok((node, dir))
}

/// RELEASEDIR.
pub(crate) fn releasedir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<ReleaseIn>()?;
    let node = call.node()?;
    close(call.fs, &node, args.fh);
    Ok(())
}

/// Ends the open of directory `node` with handle `fh`, if there is one.
pub(super) fn close(fs: &Fs, node: &Node, fh: u64) {
    let dir = node.handles().remove_dir(fh);
    if dir.is_some() {
        fs.opens.descriptors.give_back(fh);
    }
}

/// FSYNCDIR.
pub(crate) fn fsyncdir(call: &mut Call<'_>) -> Handled {
    let args = call.args::<FsyncIn>()?;
    let (_, dir) = handle(call, args.fh)?;
    super::file::sync(dir.fd.as_fd(), args)?;
    Ok(())
}
