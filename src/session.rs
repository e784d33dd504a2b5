//! One connection to the kernel: the handshake, the workers, and exactly one answer to every request.
//!
//! Knows descriptors and threads, never a path.

mod attend;
mod blame;
mod buffer;
mod connection;
mod crew;
mod debt;
mod device;
#[cfg(test)]
mod fake;
mod flights;
mod handshake;
mod head;
mod interrupts;
mod lock_wait;
mod lone_caller;
pub(crate) mod meter;
mod observe;
mod panics;
mod patient;
mod pieces;
mod pool;
mod recover;
mod relief;
mod serve;
mod slow_pool;
mod threshold;
mod tidied;
mod vigil;
mod waiters;
mod way;
mod worker;

pub(crate) use buffer::Request;
pub use connection::{Ended, Session};
pub use handshake::{HandshakeError, handshake};
pub(crate) use observe::{Observer, Times};
pub(crate) use serve::{Served, serve};
pub use threshold::{Name, answer_until};
pub(crate) use waiters::MAX_LOCK_WAITERS;
pub(crate) use way::Way;

use crate::fs::backing::registry::Reach;
use crate::ledger::Ledger;
use crate::log;
use etcfs_proto::flags::InitFlags;
use lone_caller::Turns;
use meter::InFlight;
use patient::PatientDevice;
use rustix::thread::CpuSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use worker::Post;

/// The requests that a server was working on when it ended, in words.
pub(crate) fn left(ledger: &'static Ledger) -> Vec<String> {
    flights::Flights::in_words(ledger)
}

impl Session {
    /// Lets the kernel do with lower files itself what `reach` says, if INIT agreed on that.
    ///
    /// # Errors
    /// When no thread can be made.
    pub(crate) fn pass_through(self: &Arc<Session>, reach: Reach) -> std::io::Result<()> {
        let agreed = self
            .agreed
            .passthrough
            .then_some(self.agreed.max_stack_depth);
        if !self.fs.passthrough.enable(self.kernel(), reach, agreed) {
            return Ok(());
        }
        let session = self.clone();
        std::thread::Builder::new()
            .name("etcfs-sweep".into())
            .stack_size(64 * 1024)
            .spawn(move || session.fs.passthrough.sweep())
            .map(drop)
    }

    /// Lets the kernel keep what lies in local directories, of which at most `most` are watched. Where that cannot be, the tree
    /// [says why](crate::fs::watch::CacheWatch::why_off).
    pub(crate) fn watch(self: &Arc<Session>, most: usize) {
        let watch = &self.fs.watch;
        if !self.agreed.flags.contains(InitFlags::CACHE_SYMLINKS) {
            watch.say_off(
                "the kernel cannot let names expire, which is known from Linux 6.2 on".into(),
            );
            return;
        }
        let lower = self.fs.lower.clone();
        lower.nodes.links_are_kept();
        if let Err(why) = watch.enable(Arc::new(PatientDevice::new(self)), lower, most) {
            log::error(format_args!("cache=watch keeps nothing: {why}"));
        }
    }

    /// What is being worked on, and what has waited longest for a thread. Requests that wait for a lock are not among them.
    pub(crate) fn in_flight(&self) -> Vec<InFlight> {
        let mut requests = self.meters.in_flight();
        requests.extend(self.pool.oldest_waiting());
        requests
    }

    /// Starts `threads` workers, by default one for each CPU that the process may use, pinned to it, so that a request can
    /// be answered on the CPU of its client. All of them read the one descriptor; a clone of it would die with its
    /// thread's requests.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(self: &Arc<Session>, threads: Option<usize>) -> std::io::Result<()> {
        recover::recover(self);
        let cpus = allowed_cpus();
        let count = threads.unwrap_or(cpus.len()).max(1);
        let cpu = |index: usize| cpus.get(index % cpus.len().max(1)).copied().flatten();
        let turns = Turns::new((0..count).map(cpu));
        self.running.fetch_add(count, Ordering::AcqRel);
        for index in 0..count {
            if let Err(error) = worker::start(self, Post::Own(turns.of(index))) {
                self.running.fetch_sub(count - index, Ordering::AcqRel);
                return Err(error);
            }
        }
        let (session, watched) = (self.clone(), turns.clone());
        std::thread::Builder::new()
            .name("etcfs-crew".into())
            .stack_size(128 * 1024)
            .spawn(move || relief::watch(&session, &watched))?;
        let locks = self.fs.locks.clone();
        locks.lookout.prepare()?;
        std::thread::Builder::new()
            .name("etcfs-locks".into())
            .stack_size(64 * 1024)
            .spawn(move || locks.keep())?;
        std::thread::Builder::new()
            .name("etcfs-turns".into())
            .stack_size(64 * 1024)
            .spawn(move || turns.follow())
            .map(drop)
    }
}

/// The CPUs that this process may run on. Where they cannot be told apart (more of them than fit a mask of 1024), as many
/// times none.
fn allowed_cpus() -> Vec<Option<usize>> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .map(Some)
        .collect();
    match cpus.is_empty() {
        true => vec![None; std::thread::available_parallelism().map_or(1, NonZero::get)],
        false => cpus,
    }
}
