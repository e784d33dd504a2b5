//! What the model asks of the kernel by itself. Whoever holds the connection carries it out.

use super::ids::NodeId;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// The other end of a connection whose INIT has been answered.
pub(crate) trait Kernel: Send + Sync {
    /// Hands the kernel a lower file, that it may read, write and map by itself (Linux 6.9), and returns the backing id.
    ///
    /// # Errors
    /// EPERM without the right to, ELOOP for a file system that is stacked too high, EBADF for a descriptor that is not
    /// really open, EOPNOTSUPP, ENOMEM.
    fn register(&self, file: BorrowedFd<'_>) -> Result<u32, Errno>;

    /// Takes a backing id back.
    fn unregister(&self, id: u32);

    /// Has the kernel ask for a node's attributes when it needs them next. Data is left alone, so this never waits.
    fn drop_attributes(&self, node: NodeId);

    /// Has the kernel write what was stored in mappings of a file, and ask for its pages and attributes when it needs them
    /// next. This waits for requests about those pages, so no thread that answers them may do it.
    fn drop_pages(&self, node: NodeId);

    /// Has the kernel look `name` in `dir` up when it is used next, and keeps what is mounted there (Linux 6.2; before, what is
    /// mounted there goes). This waits for requests that the directory is locked for, so no thread that answers them may do it.
    fn expire_entry(&self, dir: NodeId, name: &[u8]);

    /// Has the kernel forget all names, at their next use, and with them what is mounted there. This never waits. False: the
    /// kernel does not know how (before Linux 6.16).
    fn expire_all(&self) -> bool;
}
