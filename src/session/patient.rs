//! The device, for notices that wait in the kernel for a directory's lock.
//!
//! Whoever holds that lock may wait for an answer of this server. A thread that waits for the lock cannot be killed (`inode_lock`,
//! fs/fuse/inode.c), so a server that is killed meanwhile would not end, and nobody would answer. So such a notice is not begun
//! while a request about the directory is being worked on: it is waited for here, where the thread can be killed. What is left is the
//! moment between the taking of the lock and the reading of the request.

use super::connection::Session;
use super::device::Device;
use crate::fs::ids::NodeId;
use crate::fs::kernel::Kernel;
use etcfs_proto::Opcode;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(100);

/// See there.
pub(super) struct PatientDevice {
    device: Arc<Device>,
    session: Weak<Session>,
}

impl PatientDevice {
    /// That of `session`.
    pub(super) fn new(session: &Arc<Session>) -> PatientDevice {
        PatientDevice {
            device: session.kernel(),
            session: Arc::downgrade(session),
        }
    }

    /// True while a request is being worked on whose client may hold the lock of `dir`. A rename has a second directory.
    fn is_busy(&self, dir: NodeId) -> bool {
        let Some(session) = self.session.upgrade() else {
            return false;
        };
        let is_about = |opcode: Opcode, node| {
            NodeId::of(node) == dir || matches!(opcode, Opcode::RENAME | Opcode::RENAME2)
        };
        let requests = session.in_flight();
        requests
            .iter()
            .any(|request| is_about(request.opcode, request.nodeid))
    }
}

impl Kernel for PatientDevice {
    fn register(&self, file: BorrowedFd<'_>) -> Result<u32, Errno> {
        self.device.register(file)
    }

    fn unregister(&self, id: u32) {
        self.device.unregister(id);
    }

    fn drop_attributes(&self, node: NodeId) {
        self.device.drop_attributes(node);
    }

    fn drop_pages(&self, node: NodeId) {
        self.device.drop_pages(node);
    }

    fn expire_entry(&self, dir: NodeId, name: &[u8]) {
        while self.is_busy(dir) {
            std::thread::sleep(PAUSE);
        }
        self.device.expire_entry(dir, name);
    }

    fn expire_all(&self) -> bool {
        self.device.expire_all()
    }
}
