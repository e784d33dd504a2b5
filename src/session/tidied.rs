//! Memory that requests have left free goes back to the kernel when there is time for that: at the beginning of a quiet time,
//! so that nobody waits for it and an idle daemon is not woken for it.

use crate::fs::node::Nodes;
use crate::log;
use crate::sys::heap;
use std::time::{Duration, Instant};

/// After so many requests there may be something to give back,
const UNTIDY: u64 = 4096;
/// or after so many nodes have gone, of which one request may tell thousands.
const GONE: usize = 1024;
/// Where somebody asks for something all the time, there is no quiet: it is done after this much time, then.
const LATEST: Duration = Duration::from_secs(30);

/// When memory was given back, after how many requests, and how many nodes were known since, at most.
pub(super) struct Tidied {
    steps: u64,
    nodes: usize,
    at: Instant,
    /// How many allocations have waited so far.
    waited: u64,
}

impl Default for Tidied {
    fn default() -> Tidied {
        Tidied {
            steps: 0,
            nodes: 0,
            at: Instant::now(),
            waited: 0,
        }
    }
}

impl Tidied {
    /// Nothing is asked for at this moment. True if there was something to give back, and may soon be more.
    pub(super) fn now(&mut self, steps: u64, nodes: &Nodes) -> bool {
        let known = nodes.count();
        self.nodes = self.nodes.max(known);
        self.tell();
        let untidy = self.nodes - known >= GONE || steps.wrapping_sub(self.steps) >= UNTIDY;
        if untidy {
            (self.steps, self.nodes, self.at) = (steps, known, Instant::now());
            nodes.settle();
            heap::give_back();
        }
        untidy
    }

    /// Something is.
    pub(super) fn at_last(&mut self, steps: u64, nodes: &Nodes) {
        self.tell();
        if self.at.elapsed() >= LATEST {
            self.at = Instant::now();
            let _ = self.now(steps, nodes);
        }
    }

    /// What could not be told while there was no memory to tell it with.
    fn tell(&mut self) {
        let waited = heap::waited();
        if waited != self.waited {
            log::warn(format_args!(
                "memory was short: requests have waited {} times for some",
                waited - self.waited
            ));
            self.waited = waited;
        }
    }
}
