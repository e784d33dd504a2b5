//! File locks reach the lower files, wait without occupying the daemon, and end as natively (contract F2, B15, B16).

mod agent;
mod databases;
mod ends;
mod exclusion;
#[path = "../harness/mod.rs"]
mod harness;
mod killed;
mod mapped;
mod owners;
mod places;
mod rings;
mod storm;
mod tools;

use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(90);

/// The agents' process; does nothing when run as a test.
#[test]
fn agent_process() {
    agent::main();
}
