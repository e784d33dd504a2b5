//! Killed between any two stores, a daemon leaves the state before or the one after.

use super::world::{NOBODY, World};
use crate::fs::ids::NodeId;
use crate::ledger::crash::killed_at;
use crate::ledger::table::FlatRecord as _;
use crate::sys::file_handle::FileHandle;
use rustix::fs::OFlags;
use std::ffi::CString;
use std::sync::Arc;

const LONG: &str = "a name that does not fit into its record, whatever is left of it";

/// What a successor finds of the nodes but the root: where each lies, what is remembered, and what is open.
fn found(world: &World) -> Vec<String> {
    let next = world
        .ledger
        .header()
        .next_node
        .load(std::sync::atomic::Ordering::Relaxed);
    let nodes = (NodeId::FIRST..next).filter_map(|id| world.fs().lower.nodes.get(NodeId(id)));
    // One that sleeps and is gone below is gone as soon as it is asked for.
    let nodes = nodes.filter(|node| node.lookups() > 0 || world.try_stat(node.id).is_ok());
    let seen = nodes.map(|node| {
        let link = node.link();
        let (parent, name) = (link.parent(), link.name().as_c_str().to_owned());
        let (handle, lookups) = (link.handle().is_some(), node.lookups());
        drop(link);
        let (dev, kind, side) = (node.dev(), node.kind(), node.side());
        let held = node.dir().is_some();
        let open = node.handles().len();
        format!("{dev} {kind:o} {side:?} {parent:?} {name:?} {handle} {lookups} {held} {open}")
    });
    let mut seen: Vec<_> = seen.collect();
    seen.push(format!(
        "{} descriptors",
        world.fs().opens.descriptors.len()
    ));
    seen
}

/// Kills the daemon at every point of `work`, in a world that `begin` has made ready.
fn killed_everywhere(
    begin: impl Fn(&World) -> NodeId,
    work: impl Fn(&World, NodeId) + Send + Clone + 'static,
) -> usize {
    let after = {
        let mut world = World::new();
        let id = begin(&world);
        work(&world, id);
        world.crash();
        found(&world)
    };
    for at in 0.. {
        let world = Arc::new(World::new());
        let id = begin(&world);
        let before = {
            let mut seen = found(&world);
            // What a node holds of what it is open by is the same afterwards.
            seen.sort();
            seen
        };
        let (its, work) = (world.clone(), work.clone());
        if !killed_at(at, move || work(&its, id)) {
            return at;
        }
        let world = world.successor();
        let mut seen = found(&world);
        seen.sort();
        let mut after = after.clone();
        after.sort();
        assert!(
            seen == before || seen == after,
            "killed at {at}: {seen:#?}\nneither {before:#?}\nnor {after:#?}"
        );
        no_room_is_lost(&world);
    }
    unreachable!("work ends")
}

/// What is written aside belongs to a node.
fn no_room_is_lost(world: &World) {
    let table = world.ledger.nodes();
    let aside = table.aside.used().count();
    table.reclaim();
    assert_eq!(table.aside.used().count(), aside);
    assert!(table.nodes.used().all(|(_, record)| record.is_used()));
}

fn file(world: &World, name: &str) -> NodeId {
    world.make(NodeId::ROOT, name)
}

fn rename_to(name: &'static str) -> impl Fn(&World, NodeId) + Send + Clone + 'static {
    move |world, id| {
        let node = world.node(id);
        let name = CString::new(name).unwrap();
        world.fs().lower.nodes.note(&node, NodeId::ROOT, &name);
    }
}

#[test]
fn a_name_is_the_old_or_the_new_one() {
    for (old, new) in [("short", "other"), ("short", LONG), (LONG, "short")] {
        let points = killed_everywhere(|world| file(world, old), rename_to(new));
        assert!(points >= 6, "{points} points");
    }
    let other: &'static str = Box::leak(format!("{LONG}!").into());
    killed_everywhere(|world| file(world, LONG), rename_to(other));
}

#[test]
fn a_file_handle_is_there_or_is_not_and_the_name_stays() {
    for name in ["short", "a name of 32 bytes, which is all", LONG] {
        let keep = |world: &World, id| {
            let handle = FileHandle::at(
                &*world.fs().lower.base(crate::fs::ids::Side::Local).dir,
                c".",
            );
            world.node(id).link().keep_handle(&handle.unwrap());
        };
        killed_everywhere(|world| file(world, name), keep);
    }
}

#[test]
fn a_node_is_known_or_is_not() {
    for name in ["short", LONG] {
        let look_up = move |world: &World, _: NodeId| {
            let key = crate::fs::ids::Key {
                side: crate::fs::ids::Side::Global,
                dev: 9,
                ino: 9,
                generation: 9,
            };
            let name = CString::new(name).unwrap();
            world
                .fs()
                .lower
                .nodes
                .add(key, libc::S_IFREG, NodeId::ROOT, &name, NOBODY)
                .unwrap();
        };
        killed_everywhere(|_| NodeId::ROOT, look_up);
    }
}

#[test]
fn what_is_forgotten_is_known_or_sleeps_or_is_gone() {
    // Its name is closed beneath: it may be asked for by number.
    killed_everywhere(
        |world| file(world, LONG),
        |world, id| world.fs().lower.nodes.forget(id, 1, NOBODY),
    );
    // One that has no name leaves the table.
    let nameless = |world: &World| {
        let id = file(world, "short");
        world.unlink(NodeId::ROOT, "short");
        id
    };
    killed_everywhere(nameless, |world, id| {
        world.fs().lower.nodes.forget(id, 1, NOBODY)
    });
}

#[test]
fn what_is_opened_is_open_or_is_not() {
    let open = |world: &World, id| {
        world.open(id, OFlags::RDWR);
    };
    killed_everywhere(|world| file(world, "short"), open);
    let opened = |world: &World| {
        let id = file(world, "short");
        world.open(id, OFlags::RDWR);
        id
    };
    let close = |world: &World, id| {
        let fh = world.only_handle(id);
        world.close(id, fh);
    };
    killed_everywhere(opened, close);
}

#[test]
fn what_has_lost_its_name_is_held_from_before_on() {
    let mut nameless = 0;
    for at in 0.. {
        let world = Arc::new(World::new());
        let id = file(&world, "short");
        let its = world.clone();
        if !killed_at(at, move || its.unlink(NodeId::ROOT, "short")) {
            break;
        }
        let world = world.successor();
        // Whoever refers to it by an `O_PATH` descriptor goes on.
        let stat = world.stat(id);
        nameless += usize::from(stat.0.stx_nlink == 0);
    }
    assert!(nameless > 0, "it was killed after the removal, too");
}
