//! Which node an object that has just been found is.

use super::Lower;
use super::resolve::Spot;
use super::walk::open_dir;
use crate::fs::ids::{Key, NodeId};
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::ledger::flight::tally::Changer;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::Arc;

/// What was seen under a name.
#[derive(Clone, Copy)]
pub(crate) struct Sighting<'a> {
    /// The directory of the mount.
    pub(crate) parent: NodeId,
    /// The name in it.
    pub(crate) name: &'a CStr,
    /// Where that leads.
    pub(crate) spot: &'a Spot,
    /// What was there.
    pub(crate) stat: &'a Stat,
}

impl Lower {
    /// Counts a lookup of the object that was seen, for `asker`. Returns its node, and its attributes.
    ///
    /// An inode that nothing tells from a later one of its number (ramfs, 9p, overlayfs over a file system without birth
    /// times) is held by a descriptor while the kernel knows it, as long as there are not more of them than directories may
    /// hold. What then is given up, and whose number is used again, is taken for the same object. What is awaited, by a thread
    /// that was [sent back](super::sent_back), is held in the same way.
    ///
    /// # Errors
    /// ENOMEM when too many nodes are known.
    pub(crate) fn meet(
        &self,
        seen: &Sighting<'_>,
        is_awaited: bool,
        asker: Changer<'_>,
    ) -> Result<(Arc<Node>, Stat), Errno> {
        let &Sighting {
            parent,
            name,
            spot,
            stat,
        } = seen;
        let found = stat.key(spot.side);
        let held = match (is_awaited || found.is_ambiguous()) && !self.is_held(&found) {
            true => hold(spot, name, stat),
            false => None,
        };
        // Another one that has the name by now is as good an answer, where nothing enforces what stands there.
        let held = held.filter(|(_, now)| {
            now.key(spot.side) == found || spot.over.is_none() && now.kind() == stat.kind()
        });
        let key = held.as_ref().map_or(found, |(_, stat)| stat.key(spot.side));
        let node = self.nodes.look_up(key, stat.kind(), parent, name, asker)?;
        if stat.is_dir() {
            node.set_place(spot.epoch, spot.place);
            if node.lookups() == 1 {
                self.remember_dir(&node, spot.dir(), name);
            }
        }
        Ok(match held {
            Some((fd, stat)) => {
                self.hold_identity(&node, fd);
                (node, stat)
            }
            None => (node, *stat),
        })
    }

    /// As [`Lower::meet`], of a regular file that has just been made: it is not searched for among those that are known.
    ///
    /// # Errors
    /// As [`Lower::meet`].
    pub(crate) fn meet_made(
        &self,
        seen: &Sighting<'_>,
        asker: Changer<'_>,
    ) -> Result<Arc<Node>, Errno> {
        let key = seen.stat.key(seen.spot.side);
        match key.is_ambiguous() {
            true => Ok(self.meet(seen, false, asker)?.0),
            false => self
                .nodes
                .add(key, seen.stat.kind(), seen.parent, seen.name, asker),
        }
    }

    /// True if the inode cannot go, so that its number means nothing else.
    fn is_held(&self, key: &Key) -> bool {
        let node = self.nodes.find(key);
        node.is_some_and(|node| node.dir().is_some())
    }
}

/// Takes hold of what has the name, and looks at that: what was looked at before may have been another.
fn hold(spot: &Spot, name: &CStr, stat: &Stat) -> Option<(OwnedFd, Stat)> {
    if !stat.is_dir() {
        return Stat::pinned(spot.dir(), name).ok();
    }
    let fd = open_dir(spot.dir(), name).ok()?;
    let stat = Stat::of(fd.as_fd()).ok()?;
    Some((fd, stat))
}
