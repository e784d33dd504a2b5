//! A daemon's tree, whose daemon is killed.

use crate::fs::Fs;
use crate::fs::asker::Daemon;
use crate::fs::handle::File;
use crate::fs::ids::NodeId;
use crate::fs::lower::BaseDir;
use crate::fs::lower::known::Sighting;
use crate::fs::node::Node;
use crate::fs::settings::Settings;
use crate::fs::stat::Stat;
use crate::fs::{listing, opens::Opened};
use crate::ledger::Ledger;
use crate::sys::inherit::Inherited;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("etcfs-survival-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        for side in ["local", "global"] {
            std::fs::create_dir_all(dir.join(side)).unwrap();
        }
        let ledger = Ledger::private().unwrap();
        let mut world = World {
            ledger,
            fs: None,
            dir,
        };
        world.fs = Some(world.begin(&Inherited::default()));
        world
    }

    fn begin(&self, inherited: &Inherited) -> Fs {
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
        .unwrap()
    }

    /// The daemon is killed, and its successor begins.
    pub(super) fn crash(&mut self) {
        std::mem::forget(self.fs.take());
        let inherited = Inherited::of(Fs::descriptors_in(self.ledger));
        self.fs = Some(self.begin(&inherited));
        inherited.close_rest();
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
        Ok(lower.meet(&seen, false)?.0.id)
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

    pub(super) fn make(&self, parent: NodeId, name: &str) -> NodeId {
        let lower = &self.fs().lower;
        let c_name = CString::new(name).unwrap();
        let spot = lower.spot(&Daemon, &self.node(parent), &c_name).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(spot.dir(), &*c_name, flags, Mode::from_raw_mode(0o644)).unwrap();
        self.look_up(parent, name)
    }

    pub(super) fn unlink(&self, parent: NodeId, name: &str) {
        let lower = &self.fs().lower;
        let name = CString::new(name).unwrap();
        let spot = lower.spot(&Daemon, &self.node(parent), &name).unwrap();
        let orphan = lower.hold(&spot, &name);
        rustix::fs::unlinkat(spot.dir(), &*name, AtFlags::empty()).unwrap();
        if let (_, Some(orphan)) = orphan {
            orphan.keep(lower);
        }
    }

    pub(super) fn stat(&self, id: NodeId) -> Stat {
        self.fs().lower.stat(&self.node(id)).unwrap()
    }

    pub(super) fn path_of(&self, id: NodeId) -> String {
        String::from_utf8(self.fs().lower.path_of(id).unwrap()).unwrap()
    }

    pub(super) fn open(&self, id: NodeId, flags: OFlags) -> u64 {
        let opens = &self.fs().opens;
        let charge = opens.descriptors.charge(1000).unwrap();
        let opened: Result<Opened, Errno> =
            opens.open(&self.node(id), flags.bits(), charge, |_, _| Ok(()));
        opened.unwrap().fh
    }

    pub(super) fn file(&self, id: NodeId, fh: u64) -> Option<Arc<File>> {
        self.fs().opens.file(&self.node(id), fh).ok()
    }

    pub(super) fn close(&self, id: NodeId, fh: u64) {
        self.fs().opens.close(&self.node(id), fh);
    }

    pub(super) fn open_dir(&self, id: NodeId) -> u64 {
        let node = self.node(id);
        let opens = &self.fs().opens;
        let charge = opens.descriptors.charge(1000).unwrap();
        let dir = listing::open(&self.fs().lower, &node).unwrap();
        opens.adopt_dir(&node, dir, charge)
    }

    /// `most` names from `offset` on, and where the next ones are.
    pub(super) fn list(&self, id: NodeId, fh: u64, offset: u64, most: usize) -> (Vec<String>, u64) {
        let node = self.node(id);
        let dir = node.handles().dir(fh).expect("an open directory");
        let mut names = Vec::new();
        let mut next = offset;
        listing::list(
            &self.fs().lower,
            &Daemon,
            &node,
            &dir,
            offset,
            &mut |entry| {
                if names.len() == most {
                    return false;
                }
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                next = entry.offset;
                true
            },
        )
        .unwrap();
        (names, next)
    }
}
