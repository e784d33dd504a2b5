//! Killed while a number is changed, a daemon leaves its successor knowing whether it was.

use super::world::World;
use crate::fs::ids::NodeId;
use crate::ledger::Region;
use crate::ledger::crash::killed_at;
use crate::ledger::flight::Flight;
use crate::ledger::flight::tally::{Changer, CountChange};
use crate::ledger::handle::{HandleKind, HandleRecord, OpenRecord};
use crate::ledger::table::{Slot, Table};
use std::sync::Arc;

/// The number of the request that changes something.
const UNIQUE: u64 = 2;

/// The flight of a request that is being worked on.
fn flight(world: &World) -> &'static Flight {
    let table = world.ledger.table::<Flight>(Region::SmallFlights);
    let flight = table.at(table.take().expect("room"));
    flight.take();
    flight
}

/// Kills the daemon at every point of `work`, in a world that `begin` has made ready. `holds`: what is to be so with a
/// successor, and with that one's, whether the request has changed its number or not. Returns how often it has not.
fn killed_everywhere(
    begin: impl Fn(&World) -> NodeId,
    work: impl Fn(&World, NodeId, &'static Flight) + Send + Clone + 'static,
    holds: impl Fn(&World, NodeId, &'static Flight) -> bool,
) -> usize {
    let mut unchanged = 0;
    for at in 0.. {
        let world = Arc::new(World::new());
        let id = begin(&world);
        let flight = flight(&world);
        let (its, work) = (world.clone(), work.clone());
        if !killed_at(at, move || work(&its, id, flight)) {
            assert!(holds(&world, id, flight), "not killed at all");
            assert!(unchanged > 0 && unchanged < at, "killed before and after");
            return at;
        }
        let mut world = world.successor();
        let changed = holds(&world, id, flight);
        world.crash();
        assert_eq!(holds(&world, id, flight), changed, "killed at {at}, again");
        unchanged += usize::from(!changed);
    }
    unreachable!("work ends")
}

#[test]
fn a_lookup_is_counted_if_the_request_says_so() {
    let look_up = |world: &World, _, flight| {
        let asker = Changer::new(flight, UNIQUE, CountChange::Given);
        world.look_up_for(NodeId::ROOT, "file", asker);
    };
    // Of a node that is known, of one that sleeps, and of one that is new.
    for before in [Some(1), Some(0), None] {
        let begin = move |world: &World| {
            std::fs::write(world.path("file"), "").unwrap();
            let id = before.map(|_| world.look_up(NodeId::ROOT, "file"));
            if before == Some(0) {
                world
                    .fs()
                    .lower
                    .nodes
                    .forget(id.unwrap(), 1, Changer::NOBODY);
            }
            id.unwrap_or(NodeId(NodeId::FIRST))
        };
        let holds = move |world: &World, id: NodeId, flight: &'static Flight| {
            let given = flight.given(UNIQUE);
            assert!(given.is_none_or(|given| given == id.0), "{given:?}");
            let node = world.fs().lower.nodes.get(id);
            let lookups = node.map_or(0, |node| node.lookups());
            assert_eq!(
                lookups,
                before.unwrap_or(0) + u64::from(given.is_some()),
                "{before:?}"
            );
            given.is_some()
        };
        killed_everywhere(begin, look_up, holds);
    }
}

#[test]
fn lookups_are_taken_back_if_the_request_says_so() {
    // Some, all, and what a predecessor had given.
    for (count, change) in [
        (1, CountChange::Step(3)),
        (2, CountChange::Step(3)),
        (1, CountChange::TakenBack),
    ] {
        let begin = move |world: &World| {
            std::fs::write(world.path("file"), "").unwrap();
            world.look_up(NodeId::ROOT, "file");
            world.look_up(NodeId::ROOT, "file")
        };
        let forget = move |world: &World, id: NodeId, flight: &'static Flight| {
            let nodes = &world.fs().lower.nodes;
            if change == CountChange::TakenBack {
                let asker = Changer::new(flight, UNIQUE, CountChange::Given);
                nodes.revive(&world.node(id), asker);
            }
            nodes.forget(id, count, Changer::new(flight, UNIQUE, change));
        };
        let holds = move |world: &World, id: NodeId, flight: &'static Flight| {
            let lookups = world.lookups(id);
            if change == CountChange::TakenBack {
                let given = flight.given(UNIQUE).is_some();
                assert_eq!(lookups, 2 + u64::from(given));
                return !given;
            }
            let done = flight.steps(UNIQUE) == 3;
            assert_eq!(lookups, 2 - count * u64::from(done));
            done
        };
        killed_everywhere(begin, forget, holds);
    }
}

/// How many opens without a descriptor a successor would find of the node.
fn loans(world: &World, id: NodeId) -> u32 {
    let table = world.ledger.table::<HandleRecord>(Region::Handles);
    let open = table.used().filter_map(|(_, record)| record.open());
    let mut loans = open.filter(|open| open.kind == HandleKind::Lent && open.node == id.0);
    loans.next().map_or(0, |open| open.flags)
}

fn lend(world: &World, id: NodeId, asker: Option<&'static Flight>) {
    let opens = &world.fs().opens;
    let charge = opens.descriptors.charge(1000).expect("one");
    let charge = match asker {
        Some(flight) => charge.for_request(flight, UNIQUE),
        None => charge,
    };
    let note = |fh| {
        let table = world.ledger.table(Region::Handles);
        let table: &'static Table<HandleRecord> = Box::leak(Box::new(table));
        let record = Slot::take(table)?;
        record.begin(&OpenRecord {
            kind: HandleKind::Lent,
            fh,
            node: id.0,
            fd: None,
            flags: 1,
        });
        Some(record)
    };
    let node = world.node(id);
    let mut handles = node.handles();
    // As one that is passed through.
    handles.backing.count(true, 1);
    handles.lend(id, charge, opens.new_handle(), note);
}

#[test]
fn an_open_without_a_descriptor_is_counted_if_the_request_says_so() {
    for before in [0, 1, 2] {
        let begin = move |world: &World| {
            let id = world.make(NodeId::ROOT, "file");
            (0..before).for_each(|_| lend(world, id, None));
            id
        };
        let holds = move |world: &World, id: NodeId, flight: &'static Flight| {
            let given = flight.handle(UNIQUE).is_some();
            assert_eq!(loans(world, id), before + u32::from(given));
            given
        };
        killed_everywhere(
            begin,
            |world, id, flight| lend(world, id, Some(flight)),
            holds,
        );
    }
}

#[test]
fn an_open_without_a_descriptor_ends_if_the_request_says_so() {
    for before in [1, 2, 3] {
        let begin = move |world: &World| {
            let id = world.make(NodeId::ROOT, "file");
            (0..before).for_each(|_| lend(world, id, None));
            id
        };
        let end = |world: &World, id: NodeId, flight: &'static Flight| {
            let table = world.ledger.table::<HandleRecord>(Region::Handles);
            let (_, record) = table.used().next().expect("an open");
            let fh = record.open().expect("an open").fh;
            let asker = Changer::new(flight, UNIQUE, CountChange::Step(1));
            world.node(id).handles().end_lending(id, fh, asker);
        };
        let holds = move |world: &World, id: NodeId, flight: &'static Flight| {
            let done = flight.steps(UNIQUE) == 1;
            assert_eq!(loans(world, id), before - u32::from(done));
            done
        };
        killed_everywhere(begin, end, holds);
    }
}
