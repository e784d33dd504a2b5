//! The nodes that a predecessor has left.

use super::finder::Finder;
use super::forgotten::may_stay;
use super::{MOST_FORGOTTEN, Node, Nodes, identity};
use crate::fs::ids::{Key, NodeId};
use crate::ledger::flight::tally::{self, Number};
use crate::ledger::node::{GONE, LEAVING, NodeIdentity, NodeTable};
use crate::ledger::{Ledger, Unreadable};
use crate::sys::inherit::Inherited;
use foldhash::quality;
use rustix::fd::OwnedFd;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// With fewer records a second thread is not worth its start.
const ALONE: usize = 8192;

/// More nodes than a daemon can have known, and more lookups of one than a kernel can have counted.
const TOO_MANY: u64 = 1 << 48;

/// What is found out of records on the way.
#[derive(Default)]
struct Traced {
    /// Nodes that hold a descriptor.
    holding: Vec<Arc<Node>>,
    /// Nodes that the kernel has forgotten.
    asleep: Vec<Arc<Node>>,
    /// Records of nodes that were on their way out.
    ended: Vec<u32>,
}

impl Nodes {
    /// The table of the nodes in `ledger`; in an empty one, of the root only, which is the inode `root` and holds `dir`. Also
    /// returns the nodes but the root that hold a descriptor.
    ///
    /// # Errors
    /// What in the ledger contradicts itself, or speaks of another root.
    pub(crate) fn over(
        ledger: &'static Ledger,
        inherited: &Inherited,
        root: Key,
        dir: OwnedFd,
    ) -> Result<(Nodes, Vec<Arc<Node>>), Unreadable> {
        let table: &'static NodeTable = Box::leak(Box::new(ledger.nodes()));
        let header = ledger.header();
        header.next_node.fetch_max(NodeId::FIRST, Ordering::Relaxed);
        if header.next_node.load(Ordering::Relaxed) > TOO_MANY {
            return Err(Unreadable::Broken(
                "the next node's number is one that no node gets",
            ));
        }
        let mark = table.nodes.mark() as usize;
        let mut nodes = Nodes {
            by_id: Finder::with_room(mark),
            by_key: Finder::with_room(mark),
            hasher: quality::RandomState::default(),
            table,
            header,
            root: Arc::new(root_of(table, root)?),
            moves: AtomicU64::new(0),
            moving: Mutex::new(()),
            asleep: AtomicUsize::new(0),
            forgotten: Mutex::default(),
            most_forgotten: AtomicUsize::new(MOST_FORGOTTEN),
            links_are_kept: AtomicBool::new(false),
        };
        nodes.root.hold_unnamed(Arc::new(dir));
        let hash = nodes.hasher.hash_one(root);
        nodes.by_key.insert(hash, &nodes.root);
        let mut found = nodes.gather(inherited)?;
        found.ended.iter().for_each(|&slot| table.give(slot));
        table.reclaim();
        tally::settle(ledger, |number| nodes.lookups_left(number));
        nodes.let_sleep(found.asleep);
        found.holding.retain(|node| node.dir().is_some());
        Ok((nodes, found.holding))
    }

    /// How often a node was looked up when the predecessor was killed.
    fn lookups_left(&self, number: Number) -> Option<u64> {
        let Number::Lookups { node } = number else {
            return None;
        };
        Some(self.get(NodeId(node)).map_or(0, |node| node.lookups()))
    }

    /// Takes the records up, in several threads where there are many.
    fn gather(&mut self, inherited: &Inherited) -> Result<Traced, Unreadable> {
        let slots: Vec<u32> = self.table.nodes.used().map(|(slot, _)| slot).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(4).min(1 + slots.len() / ALONE);
        let part = slots.len().div_ceil(threads).max(1);
        let nodes = &*self;
        let mut all = Traced::default();
        std::thread::scope(|scope| {
            let mut shares = slots.chunks(part);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares
                .map(|slots| scope.spawn(move || nodes.gather_some(slots, inherited)))
                .collect();
            let mut parts = vec![nodes.gather_some(own, inherited)];
            parts.extend(others.into_iter().map(|other| {
                let died = Err(Unreadable::Broken("reading it failed"));
                other.join().unwrap_or(died)
            }));
            for part in parts {
                let part = part?;
                all.holding.extend(part.holding);
                all.asleep.extend(part.asleep);
                all.ended.extend(part.ended);
            }
            Ok(all)
        })
    }

    fn gather_some(&self, slots: &[u32], inherited: &Inherited) -> Result<Traced, Unreadable> {
        let mut found = Traced::default();
        for &slot in slots {
            if slot == self.root.slot() {
                continue;
            }
            let record = self.table.nodes.at(slot);
            let lookups = record.lookups.load(Ordering::Relaxed);
            if lookups == GONE {
                found.ended.push(slot);
                continue;
            }
            self.table.check(slot).map_err(Unreadable::Broken)?;
            self.is_possible(&record.identity(), lookups)
                .map_err(Unreadable::Broken)?;
            let node = Arc::new(Node::over(self.table, slot));
            if !self.by_id.insert(node.id, &node) {
                return Err(Unreadable::Broken("two nodes have one number"));
            }
            if let Some(fd) = record.dir() {
                let fd = inherited.take(fd);
                let fd = fd.ok_or(Unreadable::Broken("a node's descriptor is not open"))?;
                node.hold_unnamed(Arc::new(fd));
                found.holding.push(node.clone());
            }
            if matches!(lookups, 0 | LEAVING) {
                found.asleep.push(node.clone());
            }
            // Of two with one identity the later is found.
            let hash = self.hasher.hash_one(node.key());
            let later = |known: Option<Arc<Node>>| known.is_none_or(|known| known.id < node.id);
            let chosen = self.by_key.choose(hash, |known| {
                Ok::<_, Unreadable>((later(known).then(|| node.clone()), ()))
            });
            chosen?;
        }
        Ok(found)
    }

    fn is_possible(&self, what: &NodeIdentity, lookups: u64) -> Result<(), &'static str> {
        if !(NodeId::FIRST..self.header.next_node.load(Ordering::Relaxed)).contains(&what.id) {
            return Err("a node has a number that was never given");
        }
        if !is_kind(what.kind) {
            return Err("a node is of no type");
        }
        if lookups > TOO_MANY && lookups != LEAVING {
            return Err("a node was looked up too often");
        }
        Ok(())
    }

    /// Ends what was begun with nodes that were being forgotten, and has those that may be asked for again stay, in their
    /// order.
    fn let_sleep(&self, mut asleep: Vec<Arc<Node>>) {
        asleep.sort_by_key(|node| node.record().slept.load(Ordering::Relaxed));
        self.asleep.store(asleep.len(), Ordering::Relaxed);
        for node in asleep {
            let stays = may_stay(&node);
            drop(node.let_go());
            node.record().lookups.store(0, Ordering::Relaxed);
            match stays {
                true => self.keep_for_later(&node),
                false => self.drop_asleep(&node),
            }
        }
    }
}

/// The root's node, which is there or is made.
fn root_of(table: &'static NodeTable, key: Key) -> Result<Node, Unreadable> {
    let what = identity(NodeId::ROOT, key, libc::S_IFDIR);
    let known = table
        .nodes
        .used()
        .map(|(slot, record)| (slot, record.identity()));
    let mut roots = known.filter(|(_, what)| what.id == NodeId::ROOT.0);
    let slot = match (roots.next(), roots.next()) {
        (None, _) => table
            .begin(&what, NodeId::ROOT.0, b".")
            .ok_or(Unreadable::Broken("there is no room for the root"))?,
        (Some((slot, found)), None) => {
            table.check(slot).map_err(Unreadable::Broken)?;
            if found != what {
                return Err(Unreadable::Broken("its local directory is another one"));
            }
            slot
        }
        (Some(_), Some(_)) => return Err(Unreadable::Broken("there are two roots")),
    };
    Ok(Node::over(table, slot))
}

fn is_kind(kind: u16) -> bool {
    matches!(
        kind.into(),
        libc::S_IFREG
            | libc::S_IFDIR
            | libc::S_IFLNK
            | libc::S_IFCHR
            | libc::S_IFBLK
            | libc::S_IFIFO
            | libc::S_IFSOCK
    )
}
