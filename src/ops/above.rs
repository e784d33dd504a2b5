//! The FUSE root, where the directory that is served lies in it (`mount::below`). No path leads there, but a made-up file handle
//! does, and the kernel asks it for the file system's figures (`vfs_get_fsid` of the superblock's root, ustat(2)).

use super::{Call, Handled, Row, attr, looks, lookup};
use crate::fs::ids::BELOW_NAME;
use etcfs_proto::{Frame, Opcode};
use rustix::io::Errno;

static LOOKUP: Row = looks(Opcode::LOOKUP, look_up);
static GETATTR: Row = looks(Opcode::GETATTR, attr::getattr);
static STATFS: Row = looks(Opcode::STATFS, attr::statfs);
static REFUSED: Row = looks(Opcode(0), refuse);

/// The row for a request about the FUSE root.
pub(super) fn row(frame: &Frame<'_>) -> &'static Row {
    match frame.opcode() {
        Opcode::LOOKUP => &LOOKUP,
        Opcode::GETATTR => &GETATTR,
        Opcode::STATFS => &STATFS,
        _ => &REFUSED,
    }
}

/// LOOKUP: it holds one name. To the kernel any other answer would mean that the directory at the mountpoint was removed.
fn look_up(call: &mut Call<'_>) -> Handled {
    let name = call.frame.name().map_err(super::malformed)?;
    if name != BELOW_NAME {
        return Err(Errno::NOENT.into());
    }
    // Never forgotten, and nobody counts how often it was looked up.
    let root = call.fs.lower.nodes.root().clone();
    let stat = call.fs.lower.stat(&root)?;
    lookup::put_entry(call, &root, &stat);
    Ok(())
}

fn refuse(_: &mut Call<'_>) -> Handled {
    Err(Errno::STALE.into())
}
