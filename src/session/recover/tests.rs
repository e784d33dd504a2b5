//! A server that is stopped at every point between reading a request and answering it, and its successor.
//!
//! Both run in this process, over one tree and one ledger. The first one's threads stay where they stopped. What the kernel
//! then sees, and what lies below, must be what it is without a stop.

mod asked;
mod world;

use crate::sys::stop::{self, ALL, StopPoint};
use asked::scenarios;
use world::World;

/// Runs every scenario with a stop at each point; returns how many of them were stopped at.
fn run(resends: bool) -> usize {
    let mut stops = 0;
    for scenario in scenarios() {
        let plain = World::run(scenario, None, resends);
        for point in ALL {
            let stopped = World::run(scenario, Some(point), resends);
            stops += usize::from(stopped.was_stopped);
            let what = format!("{} stopped at {point:?}, resent: {resends}", scenario.name);
            assert_eq!(stopped.answer, plain.answer, "the answer: {what}");
            assert_eq!(stopped.tree, plain.tree, "the tree: {what}");
            assert_eq!(stopped.counts, plain.counts, "nodes, handles: {what}");
        }
    }
    stop::arm(None, 0);
    stops
}

#[test]
fn every_request_is_carried_out_once_when_it_is_sent_again() {
    let stops = run(true);
    assert!(stops > 6 * scenarios().count(), "{stops} stops");
}

#[test]
fn every_request_is_carried_out_once_on_kernels_that_send_nothing_again() {
    let stops = run(false);
    assert!(stops > 6 * scenarios().count(), "{stops} stops");
}
