//! Notices: what the server sends unasked. Values in, bytes out.
//!
//! INVAL_ENTRY and DELETE take the directory's lock in the kernel, and INVAL_INODE with data waits for pages under read:
//! they block while a request on the same object is unanswered. So they must not be sent by a thread that answers
//! requests, nor under a lock that answering needs. IncEpoch, Resend and an attributes-only InvalInode never block.

use crate::Reply;
use crate::abi::*;
use crate::flags::InvalEntryFlags;

/// `enum fuse_notify_code`: a notice and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// POLL (7.11): wakes those who poll for `kh`.
    Poll {
        /// The `kh` of the POLL request.
        kh: u64,
    },
    /// INVAL_INODE (7.12): drops the attributes of a node and a range of its data. ENOENT where the node is not known.
    InvalInode {
        /// The node.
        nodeid: u64,
        /// Begin of the data in bytes; negative leaves the data alone.
        off: i64,
        /// Length of the data in bytes; 0 or less for all that follows.
        len: i64,
    },
    /// INVAL_ENTRY (7.12): drops a name, also one cached as absent. ENOENT where it is not cached.
    InvalEntry {
        /// The node of the directory.
        parent: u64,
        /// The name, at most 1024 bytes.
        name: &'a [u8],
        /// EXPIRE_ONLY (7.38) keeps the name and has it looked up again.
        flags: InvalEntryFlags,
    },
    /// STORE (7.15): puts data into the page cache.
    Store {
        /// The node.
        nodeid: u64,
        /// Begin in the file, in bytes.
        offset: u64,
        /// The data, less than 4 GiB.
        data: &'a [u8],
    },
    /// RETRIEVE (7.15): asks for data of the page cache; NOTIFY_REPLY brings it.
    Retrieve {
        /// Comes back as the `unique` of the NOTIFY_REPLY.
        notify_unique: u64,
        /// The node.
        nodeid: u64,
        /// Begin in the file, in bytes.
        offset: u64,
        /// Most bytes.
        size: u32,
    },
    /// DELETE (7.18): a name is gone; watchers are told. ENOENT where the name leads to another node.
    Delete {
        /// The node of the directory.
        parent: u64,
        /// The node that the name led to.
        child: u64,
        /// The name, at most 1024 bytes.
        name: &'a [u8],
    },
    /// RESEND (7.40): all requests that were read and not answered are sent again, with bit 63 in `unique`.
    Resend,
    /// INC_EPOCH (7.44): every cached name and listing is stale at its next use.
    IncEpoch,
    /// PRUNE (7.45): drops nodes that nobody uses; FORGETs follow.
    Prune {
        /// The nodes.
        nodeids: &'a [u64],
    },
}

impl Notice<'_> {
    /// The notice's code, the `error` of its header.
    pub fn code(&self) -> i32 {
        match self {
            Self::Poll { .. } => 1,
            Self::InvalInode { .. } => 2,
            Self::InvalEntry { .. } => 3,
            Self::Store { .. } => 4,
            Self::Retrieve { .. } => 5,
            Self::Delete { .. } => 6,
            Self::Resend => 7,
            Self::IncEpoch => 8,
            Self::Prune { .. } => 9,
        }
    }

    /// Packs the notice into `out`, whose body is replaced; the bytes are to be written to the device at once.
    pub fn pack<'o>(&self, out: &'o mut Reply) -> &'o [u8] {
        out.clear();
        match *self {
            Self::Poll { kh } => out.put(&NotifyPollWakeupOut { kh }),
            Self::InvalInode { nodeid, off, len } => out.put(&NotifyInvalInodeOut {
                ino: nodeid,
                off,
                len,
            }),
            Self::InvalEntry {
                parent,
                name,
                flags,
            } => {
                out.put(&NotifyInvalEntryOut {
                    parent,
                    namelen: size(name.len()),
                    flags: flags.bits(),
                });
                put_name(out, name);
            }
            Self::Store {
                nodeid,
                offset,
                data,
            } => {
                out.put(&NotifyStoreOut {
                    nodeid,
                    offset,
                    size: size(data.len()),
                    padding: 0,
                });
                out.put_bytes(data);
            }
            Self::Retrieve {
                notify_unique,
                nodeid,
                offset,
                size,
            } => {
                out.put(&NotifyRetrieveOut {
                    notify_unique,
                    nodeid,
                    offset,
                    size,
                    padding: 0,
                });
            }
            Self::Delete {
                parent,
                child,
                name,
            } => {
                out.put(&NotifyDeleteOut {
                    parent,
                    child,
                    namelen: size(name.len()),
                    padding: 0,
                });
                put_name(out, name);
            }
            Self::Resend | Self::IncEpoch => {}
            Self::Prune { nodeids } => {
                out.put(&NotifyPruneOut {
                    count: size(nodeids.len()),
                    padding: 0,
                    spare: 0,
                });
                nodeids.iter().for_each(|nodeid| out.put(nodeid));
            }
        }
        out.finish_notice(self.code())
    }
}

fn put_name(out: &mut Reply, name: &[u8]) {
    out.put_bytes(name);
    out.put_bytes(&[0]);
}

/// A length that does not fit is capped; it then disagrees with the message and the kernel answers EINVAL.
fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
