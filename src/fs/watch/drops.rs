//! Letting go. A notice about attributes never waits; one about a name waits for whoever holds the directory's lock, so those
//! are collected ([`NamesToDrop`]) and sent by a thread that nobody waits for ([`super::reader`]).

use super::again::Again;
use super::clock::now;
use super::dirs::{KeptName, WatchedDir};
use super::mode::{DropOrders, On};
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use rustix::fs::inotify::remove_watch;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A name that the kernel is to let go of.
pub(super) struct NameToDrop {
    dir: NodeId,
    name: Box<[u8]>,
    /// What was written down of it, which a successor is to find until the kernel has been told.
    _kept: Option<KeptName>,
}

impl NameToDrop {
    pub(super) fn new(dir: NodeId, name: &[u8], kept: Option<KeptName>) -> NameToDrop {
        NameToDrop {
            dir,
            name: name.into(),
            _kept: kept,
        }
    }
}

/// Names that the kernel is to let go of.
pub(super) type NamesToDrop = Vec<NameToDrop>;

impl On {
    /// The directory is watched no more. What the kernel keeps of it has been dropped, or is forgotten.
    pub(super) fn end(&self, dir: &Arc<WatchedDir>) {
        dir.state().ended = true;
        let was = lock(&self.dirs).remove(dir);
        if was {
            // EINVAL: the kernel has ended it, as the directory is gone.
            let _ = remove_watch(&self.inotify, dir.wd);
        }
        drop(dir.state().take());
    }

    /// Lets go of all that is kept of `dir`. `ends`: nothing more is.
    pub(super) fn drop_dir(
        &self,
        dir: &WatchedDir,
        ends: bool,
        names: &mut NamesToDrop,
        again: &mut Again,
    ) {
        let seq = self.seq.fetch_add(1, Ordering::AcqRel) + 1;
        let kept = {
            let mut state = dir.state();
            state.changed = seq;
            state.ended |= ends;
            state.attributes = None;
            state.listing.emptied = None;
            state.take()
        };
        let now = now();
        for (name, kept) in kept {
            if kept.is_over(now) {
                continue;
            }
            self.drop_attributes(&kept);
            again.note(dir.node, &name, kept.at);
            names.push(NameToDrop::new(dir.node, &name, Some(kept)));
        }
        self.kernel.drop_pages(dir.node);
    }

    /// Lets go of the attributes of what a name leads to, and of the pages of a file.
    pub(super) fn drop_attributes(&self, kept: &KeptName) {
        self.drop_node(kept.node, kept.attributes.is_some());
    }

    /// As [`On::drop_attributes`]; without `attributes` only what has pages.
    pub(super) fn drop_node(&self, node: NodeId, attributes: bool) {
        if node == NodeId::NOWHERE {
            return;
        }
        let Some(known) = self.lower.nodes.get(node) else {
            return;
        };
        if known.has_pages() {
            known.drop_pages();
            self.kernel.drop_pages(node);
        } else if attributes {
            // Of what clients write nothing is kept, and a notice would have the kernel refuse what is just being answered
            // (`crate::fs::attributes`). Nobody begins to write meanwhile.
            let handles = known.handles();
            if !handles.may_be_written() {
                self.kernel.drop_attributes(node);
            }
        }
    }

    /// Lets go of everything.
    pub(super) fn drop_all(&self, names: &mut NamesToDrop, again: &mut Again) {
        let all = lock(&self.dirs).all();
        for dir in all {
            self.drop_dir(&dir, false, names, again);
        }
    }

    /// Lets go of everything before it returns. For a thread that answers no requests of directories.
    pub(crate) fn drop_everything(&self) {
        let (mut names, mut again) = (NamesToDrop::new(), Again::default());
        self.drop_all(&mut names, &mut again);
        self.send(names);
        // What is on its way is dropped by the thread that has a clock.
        self.ask(|asked| asked.again.append(again));
    }

    /// Lets go of what is kept of the directory `node`, and of nothing else. Answers how many names that were.
    pub(crate) fn drop_one(&self, node: NodeId) -> u64 {
        let Some(dir) = lock(&self.dirs).of_node(node) else {
            return 0;
        };
        let (mut names, mut again) = (NamesToDrop::new(), Again::default());
        self.drop_dir(&dir, false, &mut names, &mut again);
        let count = names.len() as u64;
        self.send(names);
        self.ask(|asked| asked.again.append(again));
        count
    }

    /// Lets go of one name. False: it is not kept.
    pub(crate) fn drop_name(&self, dir: NodeId, name: &[u8]) -> bool {
        let Some(watched) = lock(&self.dirs).of_node(dir) else {
            return false;
        };
        let seq = self.seq.fetch_add(1, Ordering::AcqRel) + 1;
        let kept = {
            let mut state = watched.state();
            state.changed = seq;
            state.remove(name)
        };
        let Some(kept) = kept else { return false };
        self.drop_attributes(&kept);
        self.kernel.expire_entry(dir, name);
        self.ask(|asked| asked.again.note(dir, name, kept.at));
        true
    }

    pub(super) fn send(&self, names: NamesToDrop) {
        for name in names {
            self.kernel.expire_entry(name.dir, &name.name);
        }
    }

    /// Gives up the watches that were not used for longest.
    pub(super) fn evict(&self, names: &mut NamesToDrop, again: &mut Again) {
        let oldest = lock(&self.dirs).oldest();
        for dir in oldest {
            self.drop_dir(&dir, true, names, again);
            self.end(&dir);
            self.counts.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets go of what a predecessor has had the kernel keep.
    pub(super) fn drop_left(&self, left: &[u32], names: &mut NamesToDrop) {
        for &number in left {
            let (dir, name, node) = self.table.at(number).found();
            let (dir, node) = (NodeId(dir), NodeId(node));
            match name.is_empty() {
                true => self.kernel.drop_pages(dir),
                false => {
                    if node != NodeId::NOWHERE {
                        self.kernel.drop_pages(node);
                    }
                    names.push(NameToDrop::new(dir, &name, None));
                }
            }
        }
    }

    pub(super) fn ask_to_drop_all(&self) {
        self.ask(|asked| asked.all = true);
    }

    pub(super) fn ask_to_drop(&self, dir: NodeId, name: &[u8]) {
        self.ask(|asked| asked.names.push((dir, name.into())));
    }

    /// The target of the symlink `node` was told, which was born a moment ago.
    pub(crate) fn told_young(&self, node: NodeId) {
        self.ask(|asked| asked.links.push(node));
    }

    pub(super) fn make_room(&self) {
        let is_asked = std::mem::replace(&mut lock(&self.asked).room, true);
        if !is_asked {
            self.wake();
        }
    }

    fn ask(&self, what: impl FnOnce(&mut DropOrders)) {
        what(&mut lock(&self.asked));
        self.wake();
    }
}
