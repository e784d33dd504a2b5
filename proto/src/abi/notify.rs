//! Bodies of notices: what the server sends unasked, after an [`OutHeader`](super::OutHeader) with the code in `error`.

use super::wire;

wire! {
    /// `struct fuse_notify_poll_wakeup_out`: a polled file has events (7.11).
    struct NotifyPollWakeupOut [8] {
        /// The `kh` of the POLL request.
        kh: u64,
    }

    /// `struct fuse_notify_inval_inode_out`: drops cached attributes and data (7.12).
    struct NotifyInvalInodeOut [24] {
        /// The node.
        ino: u64,
        /// Begin of the data to drop in bytes; negative leaves the data alone.
        off: i64,
        /// Length of the data to drop in bytes; 0 or less for all that follows.
        len: i64,
    }

    /// `struct fuse_notify_inval_entry_out`: drops a cached name, which follows with a NUL (7.12).
    struct NotifyInvalEntryOut [16] {
        /// The node of the directory.
        parent: u64,
        /// Length of the name in bytes, without the NUL.
        namelen: u32,
        /// [`InvalEntryFlags`](crate::flags::InvalEntryFlags) (7.38; padding before).
        flags: u32,
    }

    /// `struct fuse_notify_delete_out`: a name was deleted; it follows with a NUL (7.18).
    struct NotifyDeleteOut [24] {
        /// The node of the directory.
        parent: u64,
        /// The node that the name led to; another one is left alone.
        child: u64,
        /// Length of the name in bytes, without the NUL.
        namelen: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_notify_store_out`: puts data, which follows, into the kernel's cache (7.15).
    struct NotifyStoreOut [24] {
        /// The node.
        nodeid: u64,
        /// Begin in the file, in bytes.
        offset: u64,
        /// Length of the data in bytes.
        size: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_notify_retrieve_out`: asks for data of the kernel's cache, to be sent as NOTIFY_REPLY (7.15).
    struct NotifyRetrieveOut [32] {
        /// Comes back as the `unique` of the NOTIFY_REPLY.
        notify_unique: u64,
        /// The node.
        nodeid: u64,
        /// Begin in the file, in bytes.
        offset: u64,
        /// Most bytes to send.
        size: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_notify_retrieve_in`: arguments of NOTIFY_REPLY, laid out as [`WriteIn`](super::WriteIn); `size` bytes of
    /// data follow (7.15).
    struct NotifyRetrieveIn [40] {
        /// Zero.
        dummy1: u64,
        /// Begin in the file, in bytes.
        offset: u64,
        /// Length of the data in bytes.
        size: u32,
        /// Zero.
        dummy2: u32,
        /// Zero.
        dummy3: u64,
        /// Zero.
        dummy4: u64,
    }

    /// `struct fuse_notify_prune_out`: drops unused nodes; `count` node ids of 8 bytes follow (7.45).
    struct NotifyPruneOut [16] {
        /// How many node ids follow.
        count: u32,
        /// Zero.
        padding: u32,
        /// Zero.
        spare: u64,
    }
}
