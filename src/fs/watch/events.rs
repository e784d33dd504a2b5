//! What an event means.
//!
//! Events say that something has happened, not what is so. So all that were told of a name together mean one look at it: what is
//! found as it was answered stays kept. That is also how the changes of the mount's own clients are recognised.

use super::again::Again;
use super::counts::WatchCounts;
use super::dirs::WatchedDir;
use super::drops::{NameToDrop, NamesToDrop};
use super::keep::digest;
use super::mode::On;
use crate::fs::ids::{NodeId, Side};
use crate::fs::stat::Stat;
use crate::mutex::lock;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::inotify::{ReadFlags, Reader};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most events that are taken up together.
const MOST: usize = 4096;

/// Events that say that a name leads elsewhere.
const NAMES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::DELETE)
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO);

/// What was told of one directory.
#[derive(Debug, Default)]
struct EventsOfDir {
    /// Names, and whether they may lead elsewhere or have changed only.
    names: HashMap<Box<[u8]>, What>,
    /// It is gone, or watched no more.
    gone: bool,
    /// It was moved.
    moved: bool,
}

/// What was told of a name.
#[derive(Debug, Default, Clone, Copy)]
struct What {
    leads: bool,
    /// A directory came here.
    came: bool,
}

/// What was told, by watch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    dirs: HashMap<i32, EventsOfDir>,
    count: usize,
    /// Events were lost.
    overflow: bool,
}

impl Batch {
    /// Reads what there is.
    pub(super) fn read(inotify: BorrowedFd<'_>) -> Batch {
        let mut space = [const { MaybeUninit::uninit() }; 16 * 1024];
        let mut reader = Reader::new(inotify, &mut space);
        let mut batch = Batch::default();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    batch.note(event.wd(), event.events(), name);
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
            if batch.count >= MOST && reader.is_buffer_empty() {
                break;
            }
        }
        batch
    }

    fn note(&mut self, wd: i32, events: ReadFlags, name: Option<&[u8]>) {
        self.count += 1;
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.overflow = true;
            return;
        }
        let told = self.dirs.entry(wd).or_default();
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let leads = events.intersects(NAMES);
            let came = events.contains(ReadFlags::MOVED_TO | ReadFlags::ISDIR);
            let what = match told.names.get_mut(name) {
                Some(what) => what,
                None => told.names.entry(name.into()).or_default(),
            };
            what.leads |= leads;
            what.came |= came;
        }
        told.gone |=
            events.intersects(ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED);
        told.moved |= events.contains(ReadFlags::MOVE_SELF);
    }

    /// How many events there were.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

impl On {
    /// Lets go of what `batch` says has changed. False: nothing had to be.
    pub(super) fn take_up(&self, batch: Batch, names: &mut NamesToDrop, again: &mut Again) -> bool {
        let before = self.counts.by_event.load(Ordering::Relaxed);
        if batch.overflow {
            WatchCounts::add(&self.counts.overflows, 1);
            self.drop_all(names, again);
        }
        let seq = self.seq.fetch_add(1, Ordering::AcqRel) + 1;
        let mut moved = false;
        for (wd, told) in batch.dirs {
            let Some(dir) = lock(&self.dirs).of_watch(wd) else {
                continue;
            };
            if told.gone {
                self.drop_dir(&dir, true, names, again);
                self.end(&dir);
                continue;
            }
            dir.state().changed = seq;
            moved |= self.judge(&dir, &told, names, again);
        }
        if moved {
            // Rules say something else of all that lies below.
            self.drop_all(names, again);
        }
        batch.overflow || self.counts.by_event.load(Ordering::Relaxed) != before
    }

    /// Lets go of what has changed of `dir`. True: a directory was moved, and not by a client of the mount.
    fn judge(
        &self,
        dir: &Arc<WatchedDir>,
        told: &EventsOfDir,
        names: &mut NamesToDrop,
        again: &mut Again,
    ) -> bool {
        let node = self.lower.nodes.get(dir.node);
        let Some(node) = node.filter(|node| node.is_known()) else {
            self.end(dir);
            return false;
        };
        let Ok(fd) = self.lower.dir_fd(&node) else {
            self.drop_dir(dir, true, names, again);
            self.end(dir);
            return false;
        };
        let fd = fd.as_fd();
        let mut moved = told.moved && !self.is_where_noted(dir.node);
        for (name, what) in &told.names {
            moved |= self.judge_name((dir, fd), name, *what, names, again);
        }
        self.judge_itself((dir, fd), told);
        moved
    }

    fn judge_name(
        &self,
        (dir, fd): (&WatchedDir, BorrowedFd<'_>),
        name: &[u8],
        what: What,
        names: &mut NamesToDrop,
        again: &mut Again,
    ) -> bool {
        let (node, told) = match dir.state().get(name) {
            Some(kept) => (kept.node, kept.attributes),
            // Nothing of it is kept. Of a directory that has come here, what lies in it may be.
            None if what.came => (NodeId::NOWHERE, None),
            None => return false,
        };
        let known = self.lower.nodes.get(node);
        let has_pages = known.as_ref().is_some_and(|known| known.has_pages());
        if !what.leads && told.is_none() && !has_pages {
            return false;
        }
        let now = CString::new(name).ok().and_then(|n| Stat::at(fd, &n).ok());
        let is_it = match (&now, &known) {
            (None, None) => node == NodeId::NOWHERE,
            (Some(now), Some(known)) => now.key(Side::Local) == known.key(),
            _ => false,
        };
        let moved = what.came && now.is_some_and(|now| self.came_unasked(dir.node, name, &now));
        // A link that was made anew within a tick, as the one before, may lead elsewhere.
        let is_new = what.leads && now.is_some_and(|now| now.kind() == libc::S_IFLNK);
        if is_it && is_new {
            self.kernel.drop_pages(node);
        }
        if !is_it {
            let kept = dir.state().remove(name);
            let Some(kept) = kept else { return moved };
            self.drop_attributes(&kept);
            again.note(dir.node, name, kept.at);
            names.push(NameToDrop::new(dir.node, name, Some(kept)));
            WatchCounts::add(&self.counts.by_event, 1);
            // It was a directory, and has gone elsewhere.
            return moved || known.is_some_and(|known| known.is_dir());
        }
        let found = now.as_ref().map(digest);
        let mut has_changed = false;
        if let Some(kept) = dir.state().get_mut(name) {
            if kept.attributes.is_some() && kept.attributes != found {
                kept.attributes = None;
                has_changed = true;
            }
        }
        if has_changed || has_pages {
            self.drop_node(node, has_changed);
            WatchCounts::add(&self.counts.by_event, 1);
        }
        moved
    }

    /// What the kernel keeps of the directory itself: its attributes and its listing.
    fn judge_itself(&self, (dir, fd): (&WatchedDir, BorrowedFd<'_>), told: &EventsOfDir) {
        let leads = told.names.values().any(|what| what.leads);
        let attributes = {
            let mut state = dir.state();
            if leads && state.listing.emptied.take().is_some() {
                state.attributes = None;
                drop(state);
                self.kernel.drop_pages(dir.node);
                return;
            }
            state.attributes
        };
        let Some(told) = attributes else { return };
        if Stat::of(fd).is_ok_and(|now| digest(&now) == told) {
            return;
        }
        let mut state = dir.state();
        if state.attributes == attributes {
            state.attributes = None;
        }
        drop(state);
        self.kernel.drop_attributes(dir.node);
        WatchCounts::add(&self.counts.by_event, 1);
    }

    /// True if a directory that has come to `name` in `dir` is one that the kernel knows, and knows elsewhere.
    fn came_unasked(&self, dir: NodeId, name: &[u8], now: &Stat) -> bool {
        let known = self.lower.nodes.find(&now.key(Side::Local));
        known.is_some_and(|known| {
            let link = known.link();
            link.parent() != dir || link.name().as_c_str().to_bytes() != name
        })
    }

    /// True if the directory `id` lies where it was found last.
    fn is_where_noted(&self, id: NodeId) -> bool {
        let Some(node) = self.lower.nodes.get(id) else {
            return true;
        };
        if id == NodeId::ROOT {
            return true;
        }
        let there = self.lower.spot_of(&node);
        there.is_ok_and(|(dir, name)| {
            Stat::at(dir.as_fd(), name.as_c_str())
                .is_ok_and(|stat| stat.key(node.side()) == node.key())
        })
    }
}
