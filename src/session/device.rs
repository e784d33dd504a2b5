//! The device, as what the model asks of the kernel by itself goes through it.

use super::vigil;
use crate::fs::Fs;
use crate::fs::ids::NodeId;
use crate::fs::kernel::Kernel;
use crate::ledger::header::FirstPage;
use crate::sys::dev;
use etcfs_proto::Reply;
use etcfs_proto::flags::InvalEntryFlags;
use etcfs_proto::notify::Notice;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;

/// `/dev/fuse`, or what stands for it in tests.
pub(crate) struct Device {
    pub(super) dev: Arc<OwnedFd>,
    /// What the kernel calls the directory that is served.
    root: u64,
    /// Where whoever keeps this process finds what its threads wait for.
    header: &'static FirstPage,
}

impl Device {
    /// `dev`, through which `fs` is served.
    pub(crate) fn new(dev: Arc<OwnedFd>, fs: &Fs, header: &'static FirstPage) -> Device {
        Device {
            dev,
            header,
            root: fs.settings.number_of(NodeId::ROOT),
        }
    }

    fn number(&self, node: NodeId) -> u64 {
        match node {
            NodeId::ROOT => self.root,
            node => node.0,
        }
    }

    fn send(&self, notice: Notice<'_>) {
        let mut reply = Reply::with_capacity(0);
        // ENOENT: the kernel has forgotten the node, and what it kept of it. Otherwise the connection has ended.
        let _ = rustix::io::write(&self.dev, notice.pack(&mut reply));
    }
}

impl Kernel for Device {
    fn register(&self, file: BorrowedFd<'_>) -> Result<u32, Errno> {
        dev::backing_open(self.dev.as_fd(), file)
    }

    fn unregister(&self, id: u32) {
        // The connection may be gone already, and its ids with it.
        let _ = dev::backing_close(self.dev.as_fd(), id);
    }

    /// With an offset below 0 the kernel drops attributes only (`fuse_reverse_inval_inode`, fs/fuse/inode.c).
    fn drop_attributes(&self, node: NodeId) {
        self.send(Notice::InvalInode {
            nodeid: self.number(node),
            off: -1,
            len: 0,
        });
    }

    fn drop_pages(&self, node: NodeId) {
        vigil::over(self.header, || {
            self.send(Notice::InvalInode {
                nodeid: self.number(node),
                off: 0,
                len: 0,
            });
        });
    }

    fn expire_entry(&self, dir: NodeId, name: &[u8]) {
        self.send(Notice::InvalEntry {
            parent: self.number(dir),
            name,
            flags: InvalEntryFlags::EXPIRE_ONLY,
        });
    }

    fn expire_all(&self) -> bool {
        let mut reply = Reply::with_capacity(0);
        rustix::io::write(&self.dev, Notice::IncEpoch.pack(&mut reply)).is_ok()
    }
}
