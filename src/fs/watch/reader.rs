//! The threads that read events. One of them leads: it waits for events and decides what they mean. Before it sends notices
//! that may wait it lets another one lead, so that a directory in which a request takes long keeps nobody else's names.
//!
//! Without events and without anything to drop again, they sleep without a timer.

use super::again::{Again, DropAgain};
use super::clock::now;
use super::drops::{NameToDrop, NamesToDrop};
use super::events::Batch;
use super::mode::On;
use crate::fs::Fs;
use crate::log;
use crate::mutex::lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most threads: as many directories may be busy for long.
const MOST: usize = 16;

/// How many there are at least: one leads, one is there to.
const FEWEST: usize = 2;

/// How long it is waited for more events, after the first. A thread that was woken for each would take a tenth of what a
/// client that writes gets done.
const GATHER: Duration = Duration::from_micros(150);

/// The same while all that is told of are changes of the mount's own clients.
const GATHER_OWN: Duration = Duration::from_micros(600);

/// So many events at once are a load.
const LOAD: usize = 4;

/// Starts the threads, if the mode is on.
///
/// # Errors
/// When no thread can be made.
pub(crate) fn start(fs: &Arc<Fs>) -> std::io::Result<()> {
    let Some(on) = fs.watch.on() else {
        return Ok(());
    };
    let left = std::mem::take(&mut *lock(&on.left));
    for _ in 0..FEWEST {
        spawn(fs, on)?;
    }
    if !left.is_empty() {
        let fs = fs.clone();
        let builder = std::thread::Builder::new().name("etcfs-watch".into());
        builder.stack_size(128 * 1024).spawn(move || {
            if let Some(on) = fs.watch.on() {
                on.let_go_of(&left);
            }
        })?;
    }
    Ok(())
}

fn spawn(fs: &Arc<Fs>, on: &On) -> std::io::Result<()> {
    on.threads.fetch_add(1, Ordering::AcqRel);
    let this = fs.clone();
    let builder = std::thread::Builder::new().name("etcfs-watch".into());
    let spawned = builder.stack_size(128 * 1024).spawn(move || {
        if let Some(on) = this.watch.on() {
            on.follow(&this);
        }
    });
    if spawned.is_err() {
        on.threads.fetch_sub(1, Ordering::AcqRel);
    }
    spawned.map(drop)
}

impl On {
    /// What a predecessor has had the kernel keep is not watched any more.
    fn let_go_of(&self, left: &[u32]) {
        let mut names = NamesToDrop::new();
        self.drop_left(left, &mut names);
        self.send(names);
        for &number in left {
            use crate::ledger::table::Ends as _;
            self.table.at(number).end();
            self.table.give(number);
        }
    }

    fn follow(&self, fs: &Arc<Fs>) {
        loop {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            let mut again = lock(&self.lead);
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            let mut names = NamesToDrop::new();
            let mut own = false;
            while names.is_empty() {
                own = self.turn(own, &mut names, &mut again);
            }
            let alone = self.waiting.load(Ordering::Acquire) == 0;
            if alone && self.threads.load(Ordering::Acquire) < MOST && spawn(fs, self).is_err() {
                log::warn(format_args!(
                    "no thread can be made that would read events while another one waits"
                ));
            }
            drop(again);
            self.send(names);
            let enough = self.waiting.load(Ordering::Acquire) >= FEWEST;
            if enough && self.threads.load(Ordering::Acquire) > FEWEST {
                self.threads.fetch_sub(1, Ordering::AcqRel);
                return;
            }
        }
    }

    /// Waits, and takes up what there is. `own`: what there was last were changes of the mount's own clients, many of them;
    /// returns the same of what there is.
    fn turn(&self, own: bool, names: &mut NamesToDrop, again: &mut Again) -> bool {
        let timeout = again.next().map(|ms| Timespec {
            tv_sec: (ms / 1000) as i64,
            tv_nsec: ((ms % 1000) * 1_000_000) as i64,
        });
        let mut fds = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.mounts, PollFlags::PRI),
        ];
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return own;
        }
        let [events, wake, mounts] = fds.map(|fd| !fd.revents().is_empty());
        for drop in again.due() {
            match drop {
                DropAgain::Name(dir, name) => names.push(NameToDrop::new(dir, &name, None)),
                DropAgain::Pages(node) => self.kernel.drop_pages(node),
            }
        }
        if mounts {
            self.forget_places();
            self.drop_all(names, again);
        }
        if wake {
            self.take_orders(names, again);
        }
        if !events {
            return own;
        }
        self.counts.since.store(now().max(1), Ordering::Relaxed);
        std::thread::sleep(if own { GATHER_OWN } else { GATHER });
        let batch = Batch::read(self.inotify.as_fd());
        let many = batch.len() >= LOAD;
        let foreign = self.take_up(batch, names, again);
        self.counts.since.store(0, Ordering::Relaxed);
        many && !foreign
    }

    fn take_orders(&self, names: &mut NamesToDrop, again: &mut Again) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        let asked = std::mem::take(&mut *lock(&self.asked));
        again.append(asked.again);
        if asked.all {
            self.drop_all(names, again);
        }
        if asked.room {
            self.evict(names, again);
        }
        for (dir, name) in asked.names {
            again.note(dir, &name, now());
            names.push(NameToDrop::new(dir, &name, None));
        }
        for link in asked.links {
            again.later(link, 50);
        }
    }
}
