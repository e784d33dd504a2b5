//! Which workers read requests: all of them, or, while one thread alone asks and asks fast, only the worker on its CPU.
//!
//! The kernel wakes the readers of the device in turn (`fuse_dev_wake_and_unlock`, an exclusive wait queue), whatever CPU
//! the request comes from. A lone caller that sleeps through each of its requests so has half of them or more answered on
//! another CPU, where both wake-ups cross CPUs and find them idle: several times the cost of the request itself (the
//! figures are in src/bench/numbers.md). Reading by the worker on the caller's own CPU alone makes both a plain task switch.
//!
//! Nothing waits for that: a request of anybody else, a request that the lone reader is long about, or silence has all
//! workers read again. A worker pays a few loads and stores of its own memory for each request; what looks into
//! `/proc` is a thread of its own that sleeps without a timer unless a caller is followed.

use crate::sys::proc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many requests of one caller in a row, to one worker, make it a candidate.
const STREAK: u32 = 128;
/// The longest streak asked for, after callers turned out not to be alone.
const STREAK_MAX: u32 = 4096;
/// A streak counts only if its requests came, on average, at most this far apart: nanoseconds. Who asks seldom is served
/// well as it is, and costs no ticks.
const APART: u64 = 200_000;
/// How often a caller that is followed is looked after: whether it still asks, and where it runs. The scheduler moves it
/// every few milliseconds; a look takes some 20 us of a CPU that would idle.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks in which the reader has neither begun nor ended a request, all workers read again.
const PATIENCE: u32 = 4;
/// A caller followed for this long was alone.
const ALONE: Duration = Duration::from_millis(40);

/// What the workers of a session share.
pub(crate) struct Turns {
    /// The one worker that reads, by index from 1; 0: all of them.
    only: AtomicUsize,
    /// The thread that is followed; 0: none.
    caller: AtomicU32,
    /// The streak that makes a candidate.
    streak: AtomicU32,
    workers: Box<[Worker]>,
    /// [`TICK`].
    tick: Duration,
    state: Mutex<Turning>,
    /// Workers that are not to read wait here.
    parked: Condvar,
    /// The thread that follows waits here.
    follower: Condvar,
}

#[derive(Default)]
struct Turning {
    /// A thread that has made a streak.
    candidate: Option<u32>,
    /// A worker has met another caller than the one that is followed.
    crowd: bool,
    /// The connection has ended.
    over: bool,
}

/// What has a place whose worker has learnt that the connection has ended.
const GONE: u32 = u32::MAX;

/// A worker, as the others see it.
#[repr(align(128))]
struct Worker {
    /// The CPU that it is pinned to.
    cpu: Option<usize>,
    /// Counts up when it has read a request, and when it is about to read: even while it works.
    steps: AtomicU64,
    /// Which thread has the place: the first is 0, whoever relieves it 1, and so on.
    holder: AtomicU32,
}

/// A worker's own side.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    index: usize,
    holder: u32,
    steps: u64,
    /// Who made the last request, and how many in a row since when.
    caller: u32,
    count: u32,
    since: u64,
}

impl Turns {
    /// Turns for workers that are pinned to `cpus`, one each.
    pub(crate) fn new(cpus: impl IntoIterator<Item = Option<usize>>) -> Arc<Turns> {
        Turns::with_tick(cpus, TICK)
    }

    fn with_tick(cpus: impl IntoIterator<Item = Option<usize>>, tick: Duration) -> Arc<Turns> {
        let place = |cpu| Worker {
            cpu,
            steps: AtomicU64::new(0),
            holder: AtomicU32::new(0),
        };
        Arc::new(Turns {
            only: AtomicUsize::new(0),
            caller: AtomicU32::new(0),
            streak: AtomicU32::new(STREAK),
            workers: cpus.into_iter().map(place).collect(),
            tick,
            state: Mutex::default(),
            parked: Condvar::new(),
            follower: Condvar::new(),
        })
    }

    /// The side of worker `index`.
    pub(crate) fn of(self: &Arc<Turns>, index: usize) -> Turn {
        self.held_by(index, self.holder(index))
    }

    fn held_by(self: &Arc<Turns>, index: usize, holder: u32) -> Turn {
        let place = &self.workers[index];
        Turn {
            turns: self.clone(),
            index,
            holder,
            // Even, and unlike what the one before has counted.
            steps: (place.steps.load(Ordering::Relaxed) + 3) & !1,
            caller: 0,
            count: 0,
            since: 0,
        }
    }

    /// Which thread has the place of worker `index`, for [`Turns::relieve`].
    pub(crate) fn holder(&self, index: usize) -> u32 {
        self.workers[index].holder.load(Ordering::Relaxed)
    }

    /// The side of a thread that takes the place of worker `index` from `holder`, which leaves after the request that it
    /// is at. `None`: it has gone meanwhile, or somebody else has taken its place.
    pub(crate) fn relieve(self: &Arc<Turns>, index: usize, holder: u32) -> Option<Turn> {
        let next = holder.wrapping_add(1) % GONE;
        self.hand_over(index, holder, next)
            .then(|| self.held_by(index, next))
    }

    fn hand_over(&self, index: usize, from: u32, to: u32) -> bool {
        let place = &self.workers[index].holder;
        let relaxed = Ordering::Relaxed;
        from != GONE && place.compare_exchange(from, to, relaxed, relaxed).is_ok()
    }

    /// How many workers there are.
    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// A number that changes with every request.
    pub(crate) fn steps(&self) -> u64 {
        let steps = self
            .workers
            .iter()
            .map(|place| place.steps.load(Ordering::Relaxed));
        steps.fold(0, u64::wrapping_add)
    }

    /// True if worker `index` is to read.
    pub(crate) fn reads(&self, index: usize) -> bool {
        let only = self.only.load(Ordering::Relaxed);
        only == 0 || only == index + 1
    }

    /// Follows lone callers until the session ends. Where there is nothing to choose, or `/proc` does not tell where
    /// threads run, it returns at once, and all workers read.
    pub(crate) fn follow(&self) {
        if self.workers.len() < 2 || !proc::is_own_namespace() {
            self.streak.store(u32::MAX, Ordering::Relaxed);
            return;
        }
        while let Some(caller) = self.candidate() {
            let began = Instant::now();
            self.follow_one(caller);
            let streak = next_streak(self.streak.load(Ordering::Relaxed), began.elapsed());
            self.streak.store(streak, Ordering::Relaxed);
        }
    }

    /// Sleeps until there is a candidate; none: the connection has ended.
    fn candidate(&self) -> Option<u32> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            if let Some(caller) = state.candidate.take() {
                state.crowd = false;
                return Some(caller);
            }
            state = wait(&self.follower, state);
        }
    }

    /// Has the worker on the caller's CPU read alone until that is wrong.
    fn follow_one(&self, caller: u32) {
        let Some(task) = proc::Task::open(caller) else {
            return;
        };
        let mut known = (usize::MAX, 0);
        let mut since = 0;
        while let Some(reader) = task.cpu().and_then(|cpu| self.worker_on(cpu)) {
            let now = (reader, self.workers[reader].steps.load(Ordering::Relaxed));
            since = if now == known { since + 1 } else { 0 };
            known = now;
            self.assign(caller, reader);
            // It is stuck, or there is nothing to do.
            if since == PATIENCE || self.crowded_within(self.tick) {
                break;
            }
        }
        self.release();
    }

    fn worker_on(&self, cpu: usize) -> Option<usize> {
        self.workers.iter().position(|place| place.cpu == Some(cpu))
    }

    /// Only `reader` reads from here on.
    fn assign(&self, caller: u32, reader: usize) {
        if self.only.load(Ordering::Relaxed) == reader + 1 {
            return;
        }
        // Under the lock, so that no worker is on its way to sleep without having seen it.
        let state = self.lock();
        if !state.over {
            self.caller.store(caller, Ordering::Relaxed);
            self.only.store(reader + 1, Ordering::Relaxed);
            self.parked.notify_all();
        }
    }

    /// All workers read from here on.
    fn release(&self) {
        let _state = self.lock();
        self.caller.store(0, Ordering::Relaxed);
        self.only.store(0, Ordering::Relaxed);
        self.parked.notify_all();
    }

    /// Waits; true as soon as the caller is not alone any more, or the connection has ended.
    fn crowded_within(&self, time: Duration) -> bool {
        let state = self.lock();
        let goes_on = |state: &mut Turning| !state.crowd && !state.over;
        let (_state, timeout) = self
            .follower
            .wait_timeout_while(state, time, goes_on)
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// The connection has ended: everybody reads, and learns it.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.release();
        self.follower.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Turning> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streak to ask for after one of `streak` has led to following its caller for `time`: more for callers that turn out
/// not to be alone, since each attempt costs wake-ups.
fn next_streak(streak: u32, time: Duration) -> u32 {
    if time >= ALONE {
        STREAK
    } else {
        STREAK_MAX.min(streak * 2)
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, Turning>) -> MutexGuard<'a, Turning> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

impl Turn {
    /// Returns when this worker is to read.
    pub(crate) fn wait(&mut self) {
        self.step();
        if self.turns.reads(self.index) {
            return;
        }
        let mut state = self.turns.lock();
        while !self.turns.reads(self.index) {
            state = wait(&self.turns.parked, state);
        }
        // What was counted before says nothing about who asks by now.
        self.caller = 0;
    }

    /// True if another worker reads the next request while this one is at its own.
    pub(crate) fn may_be_followed(&self) -> bool {
        // Of two workers that ask this at once, one sees that the other is at work.
        fence(Ordering::SeqCst);
        let mut places = self.turns.workers.iter().enumerate();
        places.any(|(index, place)| {
            let works = place.steps.load(Ordering::Relaxed) % 2 == 0;
            index != self.index && self.turns.reads(index) && !works
        })
    }

    /// True once another thread has this one's place: it must not read any more.
    pub(crate) fn is_relieved(&self) -> bool {
        self.turns.workers[self.index]
            .holder
            .load(Ordering::Relaxed)
            != self.holder
    }

    /// Which place it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The CPU that the place is for.
    pub(crate) fn cpu(&self) -> Option<usize> {
        self.turns.workers[self.index].cpu
    }

    /// The connection has ended, and this thread leaves its place for good: everybody reads and learns it. False if it had
    /// been relieved.
    pub(crate) fn leave(&self) -> bool {
        self.turns.end();
        self.turns.hand_over(self.index, self.holder, GONE)
    }

    /// A request of thread `caller` was read at `taken` nanoseconds. 0 is the kernel itself (RELEASE, FORGET, INTERRUPT) and
    /// callers of other pid namespaces: the one says nothing, the others cannot be looked up.
    pub(crate) fn request(&mut self, caller: u32, taken: u64) {
        self.step();
        if caller == 0 {
            return;
        }
        let followed = self.turns.caller.load(Ordering::Relaxed);
        if followed != 0 {
            if followed != caller {
                self.crowd();
            }
        } else if caller != self.caller {
            (self.caller, self.count, self.since) = (caller, 0, taken);
        } else {
            self.count += 1;
            if self.count >= self.turns.streak.load(Ordering::Relaxed) {
                let asks_fast = taken - self.since < u64::from(self.count) * APART;
                (self.count, self.since) = (0, taken);
                if asks_fast {
                    self.nominate(caller);
                }
            }
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.turns.workers[self.index]
            .steps
            .store(self.steps, Ordering::Relaxed);
    }

    /// Somebody else asks too. All workers are on from here on; the follower wakes those that wait.
    fn crowd(&self) {
        let mut state = self.turns.lock();
        self.turns.caller.store(0, Ordering::Relaxed);
        self.turns.only.store(0, Ordering::Relaxed);
        state.crowd = true;
        drop(state);
        self.turns.follower.notify_one();
    }

    fn nominate(&self, caller: u32) {
        self.turns.lock().candidate = Some(caller);
        self.turns.follower.notify_one();
    }
}

#[cfg(test)]
mod tests;
