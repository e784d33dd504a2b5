//! Whom workers are kept free for: somebody's slow disk, hung file system or large file stops nobody else.
//!
//! A worker that is stuck in a request is relieved: another thread takes its place on its CPU and reads on, and the stuck
//! one leaves when its request is over. A user whose requests keep workers busy for long is *held back* for a while: the
//! workers do not carry out that user's requests, but put them into the user's own queue in the [pool](super::slow_pool),
//! where they take turns with others' and wait for each other.
//!
//! Who decides that is a thread that looks at what all are at, some hundred times a second while requests come, and sleeps
//! without a timer when none do.

mod judge;

use super::connection::Session;
use super::head;
use super::lone_caller::Turns;
use super::meter::{InFlight, now};
use super::tidied::Tidied;
use super::worker::{self, Post};
use crate::log;
use judge::{Judge, UnderWay};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the crew is looked at while requests come. A look takes some 10 us.
const TICK: Duration = Duration::from_millis(3);
/// After so many looks at nothing, none is taken until a request comes.
const QUIET: u32 = 40;
/// The longest time between two looks while all are stuck and nothing changes.
const SLOWEST: Duration = Duration::from_millis(96);

/// Looks after the workers of `session` until the connection ends.
pub(crate) fn watch(session: &Arc<Session>, turns: &Arc<Turns>) {
    let crew = &session.crew;
    let nodes = &session.fs.lower.nodes;
    let mut eye = Eye {
        judge: Judge::new(turns.len()),
        requests: Vec::new(),
        seen: Vec::new(),
        relieved: HashSet::new(),
    };
    let mut steps = 0;
    let mut tidied = Tidied::default();
    let mut pause = TICK;
    let mut quiet = 0;
    while !crew.over.load(Ordering::Relaxed) {
        let busy = eye.look(session, turns);
        let moved = std::mem::replace(&mut steps, turns.steps()) != steps;
        if moved || busy {
            // Where all are stuck that there may be, nothing changes until one of them is not.
            pause = if moved { TICK } else { SLOWEST.min(pause * 2) };
            quiet = 0;
            tidied.at_last(steps, nodes);
            std::thread::sleep(pause);
            continue;
        }
        pause = TICK;
        quiet += 1;
        if quiet < QUIET {
            std::thread::sleep(TICK);
            continue;
        }
        if tidied.now(steps, nodes) {
            // A FORGET of thousands is no request that anybody waits for, and may go on still.
            quiet = 0;
            continue;
        }
        crew.waker.drowse();
        // A request that began at that very moment may have missed it; one tick later it is seen.
        if !crew.waker.sleep(Some(TICK)) && turns.steps() == steps {
            crew.waker.sleep(None);
        }
    }
}

/// What looks, with what it keeps from look to look, so that a look allocates nothing.
struct Eye {
    judge: Judge,
    requests: Vec<InFlight>,
    seen: Vec<UnderWay>,
    /// Requests in which a worker that was relieved is stuck.
    relieved: HashSet<u64>,
}

impl Eye {
    /// One look; true if a worker is at a request.
    fn look(&mut self, session: &Arc<Session>, turns: &Arc<Turns>) -> bool {
        let requests = &mut self.requests;
        session.meters.read_in_flight(requests);
        let relieved = &mut self.relieved;
        relieved.retain(|unique| requests.iter().any(|request| request.unique == *unique));
        let at = now();
        self.seen.clear();
        self.seen.extend(requests.iter().map(|request| {
            UnderWay {
                unique: request.unique,
                account: head::account(request.opcode, request.uid),
                age: Duration::from_nanos(at.saturating_sub(request.taken)),
                place: request
                    .place
                    .filter(|_| !relieved.contains(&request.unique)),
                was_worker: request.place.is_some(),
                is_long: crate::ops::is_long(request.opcode),
            }
        }));
        let reads = |index| turns.reads(index);
        let verdict = self
            .judge
            .look(at, &self.seen, reads, session.crew.relieved());
        session.crew.hold_back(verdict.held);
        for (index, unique) in verdict.relieve {
            if relieve(session, turns, index) {
                relieved.insert(unique);
            }
        }
        self.seen.iter().any(|seen| seen.place.is_some())
    }
}

/// Has another thread take the place of worker `index`; false if there is no thread.
fn relieve(session: &Arc<Session>, turns: &Arc<Turns>, index: usize) -> bool {
    // Counted before anybody can leave.
    session.crew.relieved.fetch_add(1, Ordering::Relaxed);
    let place = Post::Of {
        index,
        holder: turns.holder(index),
        turns: turns.clone(),
    };
    let started = worker::start(session, place);
    if let Err(error) = &started {
        session.crew.left();
        let told = session.crew.told.swap(true, Ordering::Relaxed);
        if !told {
            log::error(format_args!(
                "no thread can be made to take the place of a worker that is stuck ({error}): requests wait until it is free"
            ));
        }
    }
    started.is_ok()
}

#[cfg(test)]
mod tests;
