//! How long the kernel may keep what it was told of an object's attributes.
//!
//! A tick of its clock saves the request that would follow every LOOKUP, and nobody sees anything old by name. A client
//! with an open file does: the end that it looks for is where it then writes. So nothing is kept while a file is open. What was
//! kept before is dropped by a notice where another party may change the file at this moment: a global one, which other strata
//! have too, and any file that a client writes. For readers of local files that would be one more call for each open; they may
//! see what was true a tick ago, in the tick in which they have opened it.
//!
//! Another one is sent before a client is told that it has a lock, so that it sees the file as the last holder left it: also
//! where nothing is kept, because an answer to somebody else may be on its way to the kernel that was true before.
//!
//! Pages are kept of mapped files (and of what is spliced), where the kernel does not map the lower file itself
//! ([`super::backing`]). Whoever gets a lock finds there what the last holder left, and leaves there what it stored: pages go
//! before a client is told that it has a lock, and before one is given up.
//!
//! A notice makes the kernel refuse all attributes of the file that are on their way to it (`fuse_change_attributes`,
//! fs/fuse/inode.c, by `attr_version`), and whoever asked for those goes on with the size that was known before. So none is
//! sent while somebody may be asking who needs to be right: not for a second open, in whose place LOOKUP's answer is not
//! kept, and with a lock no other holder is asking.

use super::handle::Handles;
use super::ids::NodeId;
use super::ids::Side;
use super::kernel::Kernel;
use super::node::Node;
use crate::sys::lease::may_wait;
use std::sync::{Arc, OnceLock};

/// The way to tell the kernel. Nothing is told before [`Notices::enable`].
#[derive(Default)]
pub(crate) struct Notices {
    kernel: OnceLock<Arc<dyn Kernel>>,
}

impl Notices {
    /// Tells `kernel`.
    pub(crate) fn enable(&self, kernel: Arc<dyn Kernel>) {
        let _ = self.kernel.set(kernel);
    }

    /// See [`Kernel::drop_attributes`].
    pub(crate) fn drop_attributes(&self, node: NodeId) {
        if let Some(kernel) = self.kernel.get() {
            kernel.drop_attributes(node);
        }
    }

    /// See [`Kernel::drop_pages`].
    pub(crate) fn drop_pages(&self, node: &Node) {
        // One that comes between the two is dropped without need, or noted again.
        node.drop_pages();
        if let Some(kernel) = self.kernel.get() {
            kernel.drop_pages(node.id);
        }
    }

    /// Has the kernel ask anew for what it keeps of a file, for a client that is about to be told that it has a lock. A
    /// thread that never waits leaves the pages to one that may.
    pub(crate) fn show_as_left(&self, node: &Node) {
        if node.has_pages() && may_wait() {
            self.drop_pages(node);
        } else {
            self.drop_attributes(node.id);
        }
    }
}

/// An open on its way, for which nothing is kept. To live until it is counted, or has failed.
#[must_use = "what it is for ends when it is dropped"]
pub(crate) struct Opening<'a>(&'a Node);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.handles().opening -= 1;
    }
}

/// True if the kernel may keep the attributes of `node` for a tick.
pub(crate) fn may_be_kept(node: &Node) -> bool {
    let is_open = || {
        let handles = node.handles();
        handles.backing.opens() != (0, 0) || handles.opening > 0
    };
    node.kind() != libc::S_IFREG || !is_open()
}

impl Notices {
    /// To be called before a file is opened with `flags`.
    pub(crate) fn before_open<'a>(&self, node: &'a Node, flags: u32) -> Option<Opening<'a>> {
        let reads = flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
        if node.side() == Side::Local && reads {
            return None;
        }
        let mut handles = node.handles();
        if !are_dropped(node, &handles) {
            self.drop_attributes(node.id);
        }
        handles.opening += 1;
        Some(Opening(node))
    }
}

/// True if an open has had the kernel's attributes dropped, and none have been kept since.
fn are_dropped(node: &Node, handles: &Handles) -> bool {
    let open = match node.side() {
        Side::Global => handles.backing.opens() != (0, 0),
        Side::Local => handles.any_writable(),
    };
    open || handles.opening > 0
}
