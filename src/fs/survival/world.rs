//! A daemon's tree, whose daemon is killed.

use crate::fs::Fs;
use crate::fs::asker::Daemon;
use crate::fs::begin::NotBegun;
use crate::fs::handle::File;
use crate::fs::ids::{Key, NodeId, Side};
use crate::fs::lower::BaseDir;
use crate::fs::lower::known::Sighting;
use crate::fs::lower::resolve::Spot;
use crate::fs::node::Node;
use crate::fs::settings::Settings;
use crate::fs::stat::Stat;
use crate::fs::{listing, opens::Opened};
use crate::ledger::flight::tally::Changer;
use crate::ledger::handle::HandleRecord;
use crate::ledger::{Ledger, Region};
use crate::sys::inherit::{Inherited, borrow};
use rustix::fd::{AsFd as _, RawFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// No request that a successor goes on with counts.
pub(super) const NOBODY: Changer<'static> = Changer::NOBODY;

pub(super) struct World {
    pub(super) ledger: &'static Ledger,
    fs: Option<Fs>,
    dir: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl World {
    pub(super) fn new() -> World {
        World::over(Ledger::private().unwrap())
    }

    pub(super) fn over(ledger: &'static Ledger) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("etcfs-survival-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        for side in ["local", "global"] {
            std::fs::create_dir_all(dir.join(side)).unwrap();
        }
        let mut world = World {
            ledger,
            fs: None,
            dir,
        };
        world.crash();
        world
    }

    fn try_begin(&self, inherited: &Inherited) -> Result<Fs, NotBegun> {
        let base = |side: &str| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(self.dir.join(side), flags, Mode::empty()).unwrap();
            BaseDir::new(&fd).unwrap()
        };
        let settings = Settings {
            dir_limit: 1000,
            privileged: true,
            ..Settings::default()
        };
        Fs::over(
            self.ledger,
            inherited,
            base("local"),
            base("global"),
            settings,
        )
    }

    /// The daemon is killed, and its successor begins.
    pub(super) fn crash(&mut self) {
        self.crash_leaving(Fs::descriptors_in(self.ledger)).unwrap();
    }

    /// As [`World::crash`]; of all descriptors those are left.
    pub(super) fn crash_leaving(&mut self, named: Vec<RawFd>) -> Result<(), NotBegun> {
        std::mem::forget(self.fs.take());
        // As `Inherited::keep` has it: what is not open now would be the number of what is opened next.
        let is_open = |&fd: &RawFd| rustix::io::fcntl_getfd(borrow(fd)).is_ok();
        let inherited = Inherited::of(named.into_iter().filter(is_open));
        let fs = self.try_begin(&inherited);
        inherited.close_rest();
        self.fs = Some(fs?);
        Ok(())
    }

    /// The daemon has been killed by whatever has still a hand on it, and this is its successor.
    pub(super) fn successor(&self) -> World {
        let mut world = World {
            ledger: self.ledger,
            fs: None,
            dir: self.dir.clone(),
        };
        world.crash();
        world
    }

    /// The handle by which the node is open.
    pub(super) fn only_handle(&self, id: NodeId) -> u64 {
        let record = self.ledger.records::<HandleRecord>(Region::Handles)[0].open();
        let open = record.expect("an open handle");
        assert_eq!(open.node, id.0);
        open.fh
    }

    /// How many descriptors the ledger names besides those of directories.
    pub(super) fn left_open(&self) -> usize {
        let nodes = &self.fs().lower.nodes;
        let held = |id: &u64| {
            nodes
                .get(NodeId(*id))
                .is_some_and(|n| n.is_dir() && n.dir().is_some())
        };
        let next = self.ledger.header().next_node.load(Ordering::Relaxed);
        let dirs = (NodeId::FIRST..next).filter(held).count();
        Fs::descriptors_in(self.ledger).len() - dirs
    }

    pub(super) fn fs(&self) -> &Fs {
        self.fs.as_ref().unwrap()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join("local").join(name)
    }

    pub(super) fn node(&self, id: NodeId) -> Arc<Node> {
        self.fs().lower.nodes.get(id).expect("a known node")
    }

    pub(super) fn lookups(&self, id: NodeId) -> u64 {
        self.node(id).lookups()
    }

    pub(super) fn try_look_up(&self, parent: NodeId, name: &str) -> Result<NodeId, Errno> {
        self.try_look_up_for(parent, name, NOBODY)
    }

    pub(super) fn look_up_for(&self, parent: NodeId, name: &str, asker: Changer<'_>) -> NodeId {
        self.try_look_up_for(parent, name, asker).unwrap()
    }

    fn try_look_up_for(
        &self,
        parent: NodeId,
        name: &str,
        asker: Changer<'_>,
    ) -> Result<NodeId, Errno> {
        let lower = &self.fs().lower;
        let name = CString::new(name).unwrap();
        let spot = lower.spot(&Daemon, &self.node(parent), &name)?;
        let stat = spot.look(&Daemon, &name)?;
        let seen = Sighting {
            parent,
            name: &name,
            spot: &spot,
            stat: &stat,
        };
        Ok(lower.meet(&seen, false, asker)?.0.id)
    }

    pub(super) fn look_up(&self, parent: NodeId, name: &str) -> NodeId {
        self.try_look_up(parent, name).unwrap()
    }

    pub(super) fn look_up_all<const N: usize>(
        &self,
        parent: NodeId,
        names: [&str; N],
    ) -> [NodeId; N] {
        let mut at = parent;
        names.map(|name| {
            at = self.look_up(at, name);
            at
        })
    }

    /// Counts a lookup of each of `count` files that are not there, and returns the last one's number.
    pub(super) fn know_many(&self, count: u64) -> NodeId {
        let mut last = NodeId::NOWHERE;
        for ino in 0..count {
            last = self.make_known(ino);
        }
        last
    }

    /// Counts a lookup of a file that is not there.
    pub(super) fn make_known(&self, ino: u64) -> NodeId {
        let key = Key {
            side: Side::Global,
            dev: 7,
            ino,
            generation: 1 + ino / 3,
        };
        let name = CString::new(format!("file-{ino:06}")).unwrap();
        let node = self
            .fs()
            .lower
            .nodes
            .look_up(key, libc::S_IFREG, NodeId::ROOT, &name, NOBODY);
        node.unwrap().id
    }

    fn spot(&self, parent: NodeId, name: &str) -> Result<(Spot, CString), Errno> {
        let parent = self.fs().lower.nodes.get(parent).ok_or(Errno::STALE)?;
        let name = CString::new(name).unwrap();
        let spot = self.fs().lower.spot(&Daemon, &parent, &name)?;
        Ok((spot, name))
    }

    pub(super) fn try_make(&self, parent: NodeId, name: &str) -> Result<NodeId, Errno> {
        let (spot, c_name) = self.spot(parent, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(spot.dir(), &*c_name, flags, Mode::from_raw_mode(0o644))?;
        self.try_look_up(parent, name)
    }

    pub(super) fn make(&self, parent: NodeId, name: &str) -> NodeId {
        self.try_make(parent, name).unwrap()
    }

    pub(super) fn try_make_dir(&self, parent: NodeId, name: &str) -> Result<NodeId, Errno> {
        let (spot, c_name) = self.spot(parent, name)?;
        rustix::fs::mkdirat(spot.dir(), &*c_name, Mode::from_raw_mode(0o755))?;
        self.try_look_up(parent, name)
    }

    pub(super) fn link(&self, file: NodeId, parent: NodeId, name: &str) -> Result<(), Errno> {
        let (spot, name) = self.spot(parent, name)?;
        let pinned = self.fs().lower.pin(&self.node(file))?;
        crate::sys::object::link(pinned.as_fd(), spot.dir(), &name)
    }

    pub(super) fn rename(
        &self,
        parent: NodeId,
        name: &str,
        to_parent: NodeId,
        to_name: &str,
    ) -> Result<(), Errno> {
        let lower = &self.fs().lower;
        let (from, old) = self.spot(parent, name)?;
        let (to, new) = self.spot(to_parent, to_name)?;
        let (_, replaced) = lower.hold(&to, &new);
        rustix::fs::renameat(from.dir(), &*old, to.dir(), &*new)?;
        replaced.into_iter().for_each(|orphan| orphan.keep(lower));
        let stat = Stat::at(to.dir(), &new)?;
        if let Some(node) = lower.nodes.find(&stat.key(to.side)) {
            lower.nodes.note(&node, to_parent, &new);
        }
        Ok(())
    }

    pub(super) fn try_unlink(&self, parent: NodeId, name: &str) -> Result<(), Errno> {
        let lower = &self.fs().lower;
        let (spot, name) = self.spot(parent, name)?;
        let orphan = lower.hold(&spot, &name);
        let is_dir = Stat::at(spot.dir(), &name)?.is_dir();
        let flags = if is_dir {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(spot.dir(), &*name, flags)?;
        if let (_, Some(orphan)) = orphan {
            orphan.keep(lower);
        }
        Ok(())
    }

    pub(super) fn unlink(&self, parent: NodeId, name: &str) {
        self.try_unlink(parent, name).unwrap();
    }

    pub(super) fn try_stat(&self, id: NodeId) -> Result<Stat, Errno> {
        self.fs().lower.stat(&self.node(id))
    }

    pub(super) fn stat(&self, id: NodeId) -> Stat {
        self.try_stat(id).unwrap()
    }

    pub(super) fn path_of(&self, id: NodeId) -> String {
        String::from_utf8(self.fs().lower.path_of(id).unwrap()).unwrap()
    }

    pub(super) fn try_open(&self, id: NodeId, flags: OFlags) -> Result<u64, Errno> {
        let node = self.node(id);
        if node.is_dir() {
            return Err(Errno::ISDIR);
        }
        let opens = &self.fs().opens;
        let charge = opens.descriptors.charge(1000)?;
        let opened: Result<Opened, Errno> = opens.open(&node, flags.bits(), charge, |_, _| Ok(()));
        Ok(opened?.fh)
    }

    pub(super) fn open(&self, id: NodeId, flags: OFlags) -> u64 {
        self.try_open(id, flags).unwrap()
    }

    pub(super) fn file(&self, id: NodeId, fh: u64) -> Option<Arc<File>> {
        self.fs().opens.file(&self.node(id), fh).ok()
    }

    pub(super) fn close(&self, id: NodeId, fh: u64) {
        self.fs().opens.close(&self.node(id), fh, NOBODY);
    }

    pub(super) fn read(&self, id: NodeId, fh: u64) -> Result<(u64, usize), Errno> {
        let file = self.fs().opens.file(&self.node(id), fh)?;
        let len = rustix::io::pread(&file.fd, &mut [0; 16], 0)?;
        Ok((Stat::of(file.fd.as_fd())?.0.stx_nlink.into(), len))
    }

    pub(super) fn try_open_dir(&self, id: NodeId) -> Result<u64, Errno> {
        let node = self.node(id);
        let opens = &self.fs().opens;
        let charge = opens.descriptors.charge(1000)?;
        let dir = listing::open(&self.fs().lower, &node)?;
        Ok(opens.adopt_dir(&node, dir, charge))
    }

    pub(super) fn open_dir(&self, id: NodeId) -> u64 {
        self.try_open_dir(id).unwrap()
    }

    pub(super) fn close_dir(&self, id: NodeId, fh: u64) {
        if self.node(id).handles().remove_dir(fh).is_some() {
            self.fs().opens.descriptors.give_back(fh);
        }
    }

    /// All names from the beginning on.
    pub(super) fn list_all(&self, id: NodeId, fh: u64) -> Result<Vec<String>, Errno> {
        let (mut names, _) = self.try_list(id, fh, 0, usize::MAX)?;
        names.sort();
        Ok(names)
    }

    /// `most` names from `offset` on, and where the next ones are.
    pub(super) fn list(&self, id: NodeId, fh: u64, offset: u64, most: usize) -> (Vec<String>, u64) {
        self.try_list(id, fh, offset, most).unwrap()
    }

    fn try_list(
        &self,
        id: NodeId,
        fh: u64,
        offset: u64,
        most: usize,
    ) -> Result<(Vec<String>, u64), Errno> {
        let node = self.node(id);
        let dir = node.handles().dir(fh).expect("an open directory");
        let mut names = Vec::new();
        let mut next = offset;
        let mut take = |entry: &listing::Listed<'_>| {
            if names.len() == most {
                return false;
            }
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            next = entry.offset;
            true
        };
        listing::list(&self.fs().lower, &Daemon, &node, &dir, offset, &mut take)?;
        Ok((names, next))
    }
}
