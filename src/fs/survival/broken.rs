//! A ledger in which anything may stand: it is refused or gone on with, and nothing outside of it is touched.

use super::world::{NOBODY, World};
use crate::fs::ids::NodeId;
use crate::ledger::table::FlatRecord;
use crate::ledger::{Ledger, Region};
use proptest::prelude::*;
use rustix::fs::OFlags;
use std::sync::atomic::{AtomicU32, Ordering};

const REGIONS: [Region; 5] = [
    Region::Nodes,
    Region::Aside,
    Region::Handles,
    Region::Backing,
    Region::Header,
];

#[derive(zerocopy::FromBytes)]
#[repr(C)]
struct Word(AtomicU32);

impl FlatRecord for Word {
    fn is_used(&self) -> bool {
        true
    }
}

/// Bytes of each region that something stands in, or may.
const TOUCHED: usize = 600;

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 0..12_u32, any::<u32>()]
}

/// A world with a bit of everything, and descriptors for it.
fn begin() -> World {
    let world = World::new();
    let dir = world.try_make_dir(NodeId::ROOT, "d").unwrap();
    let long = "a name that does not fit into its record, whatever is left of it";
    let file = world.make(dir, long);
    world.open(file, OFlags::RDWR);
    (0..20).for_each(|_| _ = world.open(file, OFlags::RDONLY));
    world.open_dir(dir);
    let gone = world.make(dir, "gone");
    world.unlink(dir, "gone");
    world.stat(gone);
    let asleep = world.make(dir, "asleep");
    world.fs().lower.nodes.forget(asleep, 1, NOBODY);
    world
}

/// Asks about everything that the ledger may have made up.
fn ask(world: &World) {
    let fs = world.fs();
    let count = fs.lower.nodes.count();
    for id in (0..40).map(NodeId) {
        let Some(node) = fs.lower.nodes.get(id) else {
            continue;
        };
        let _ = fs.lower.stat(&node);
        let _ = fs.lower.path_of(id);
        let _ = world.try_open_dir(id);
        node.handles().len();
        fs.lower.nodes.forget(id, 1, NOBODY);
        fs.lower.nodes.note(&node, NodeId::ROOT, c"elsewhere");
        fs.lower.nodes.forget(id, u64::MAX, NOBODY);
    }
    let _ = world.try_make(NodeId::ROOT, "new");
    assert!(fs.lower.nodes.count() <= count + 1);
}

fn spoil(ledger: &'static Ledger, region: Region, at: usize, value: u32) {
    ledger.records::<Word>(region)[at]
        .0
        .store(value, Ordering::Relaxed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_stands_in_a_ledger_is_refused_or_gone_on_with(
        spoilt in prop::collection::vec((0..REGIONS.len(), 0..TOUCHED / 4, value()), 1..12),
    ) {
        let mut world = begin();
        let named = crate::fs::Fs::descriptors_in(world.ledger);
        for (region, at, value) in spoilt {
            spoil(world.ledger, REGIONS[region], at, value);
        }
        if world.crash_leaving(named).is_ok() {
            ask(&world);
            // What is gone on with is whole.
            world.crash();
        }
    }
}
