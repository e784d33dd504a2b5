//! Places at which tests kill a server, between the reading of a request and its answer. In a release build there are none:
//! [`at`] is empty there, and no option or variable means anything.

/// A place. In the order in which a request comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(debug_assertions), allow(dead_code))]
pub(crate) enum StopPoint {
    /// The message has been read, and nothing been made of it.
    Read,
    /// It was cut, and is about to be carried out.
    Cut,
    /// What it is about was found, and nothing has been noted of what is to be changed.
    Looked,
    /// What is to be changed was noted, and not changed.
    Begun,
    /// It was changed.
    Acted,
    /// The answer was noted.
    Noted,
    /// The answer is about to be written.
    Made,
    /// It was written.
    Written,
    /// The request was copied for another thread, which does not know of it.
    Parked,
    /// Another thread has begun with it.
    Aside,
    /// A lock is about to be waited for.
    Waits,
    /// A copy to the other side is under way,
    Copying,
    /// has a name in a place of the daemon's own,
    Named,
    /// has the target's name,
    Published,
    /// and the source is in a place of the daemon's own.
    SetAside,
}

/// All of them.
#[cfg(debug_assertions)]
pub(crate) const ALL: [StopPoint; 15] = [
    StopPoint::Read,
    StopPoint::Cut,
    StopPoint::Looked,
    StopPoint::Begun,
    StopPoint::Acted,
    StopPoint::Noted,
    StopPoint::Made,
    StopPoint::Written,
    StopPoint::Parked,
    StopPoint::Aside,
    StopPoint::Waits,
    StopPoint::Copying,
    StopPoint::Named,
    StopPoint::Published,
    StopPoint::SetAside,
];

/// The calling thread is there.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn at(_: StopPoint) {}

/// The calling thread begins to serve, and `reads` requests or is given them.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn enlist(_: bool) {}

/// The calling thread is at a request of that kind.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn request(_: u32) {}

/// True if the kernel is not to be asked to send requests again.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn resends_nothing() -> bool {
    false
}

/// The process is server number `n` of its mount, and may be told by the environment where to kill itself.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn is_server(_: u32) {}

#[cfg(debug_assertions)]
pub(crate) use armed::{at, enlist, is_server, request, resends_nothing};

#[cfg(test)]
pub(crate) use armed::{arm, stopped, stopped_readers};

#[cfg(debug_assertions)]
mod armed {
    use super::{ALL, StopPoint};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

    /// Who serves: servers that were stopped before have smaller numbers.
    static SERVER: AtomicU32 = AtomicU32::new(1);
    /// Servers up to this one are dead.
    static DEAD: AtomicU32 = AtomicU32::new(0);
    /// Where it is to happen, and upon which opcode; 0: nowhere.
    static PLACE: AtomicU32 = AtomicU32::new(0);
    static OPCODE: AtomicU32 = AtomicU32::new(0);
    /// Threads that have stopped.
    static STOPPED: AtomicUsize = AtomicUsize::new(0);
    /// Those of them that read requests.
    static READERS: AtomicUsize = AtomicUsize::new(0);
    /// The process kills itself instead.
    static KILLS: AtomicBool = AtomicBool::new(false);
    /// Or dies of a fault.
    static ABORTS: AtomicBool = AtomicBool::new(false);
    /// It happens in every thread, not only in those that read requests.
    static ANYWHERE: AtomicBool = AtomicBool::new(true);

    thread_local! {
        /// Which server's the thread is.
        static OF: Cell<u32> = const { Cell::new(0) };
        static AT: Cell<u32> = const { Cell::new(0) };
        static READS: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn enlist(reads: bool) {
        READS.set(reads);
        OF.set(SERVER.load(Ordering::Relaxed));
    }

    pub(crate) fn request(opcode: u32) {
        AT.set(opcode);
    }

    pub(crate) fn at(point: StopPoint) {
        let own = OF.get();
        if own == 0 {
            return;
        }
        let place = point as u32 + 1;
        let is_there = PLACE.load(Ordering::Relaxed) == place
            && OPCODE.load(Ordering::Relaxed) == AT.get()
            && own == SERVER.load(Ordering::Relaxed)
            && (READS.get() || ANYWHERE.load(Ordering::Relaxed))
            && PLACE
                .compare_exchange(place, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if is_there {
            if ABORTS.load(Ordering::Relaxed) {
                std::process::abort();
            }
            if KILLS.load(Ordering::Relaxed) {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            }
            DEAD.store(own, Ordering::Release);
            SERVER.fetch_add(1, Ordering::AcqRel);
        }
        if own <= DEAD.load(Ordering::Acquire) {
            READERS.fetch_add(READS.get().into(), Ordering::AcqRel);
            STOPPED.fetch_add(1, Ordering::AcqRel);
            loop {
                std::thread::park();
            }
        }
    }

    /// `ETCFS_TEST_KILLS` has an entry for each server, such as `Begun:9` for MKDIR in a thread that
    /// reads requests, `Begun:43*` for FALLOCATE in any, or `Begun:43*!` for a fault there.
    pub(crate) fn is_server(n: u32) {
        let Ok(kills) = std::env::var("ETCFS_TEST_KILLS") else {
            return;
        };
        let entry = kills.split(',').nth(n.saturating_sub(1) as usize);
        let Some((point, opcode)) = entry.and_then(|entry| entry.split_once(':')) else {
            return;
        };
        let fault = opcode.strip_suffix('!');
        ABORTS.store(fault.is_some(), Ordering::Relaxed);
        let opcode = fault.unwrap_or(opcode);
        let anywhere = opcode.strip_suffix('*');
        ANYWHERE.store(anywhere.is_some(), Ordering::Relaxed);
        let opcode = anywhere.unwrap_or(opcode);
        let point = ALL.iter().find(|known| format!("{known:?}") == point);
        KILLS.store(true, Ordering::Relaxed);
        OPCODE.store(opcode.parse().unwrap_or(0), Ordering::Relaxed);
        PLACE.store(
            point.map_or(0, |point| *point as u32 + 1),
            Ordering::Release,
        );
    }

    pub(crate) fn resends_nothing() -> bool {
        std::env::var_os("ETCFS_TEST_RESENDS_NOTHING").is_some()
    }

    /// The server stops when a thread of it is at `point` with a request of that kind; `None`: it does not. Within one process a server that is
    /// stopped stays as it is: each thread at the next point that it comes to, for ever.
    #[cfg(test)]
    pub(crate) fn arm(point: Option<StopPoint>, opcode: u32) {
        OPCODE.store(opcode, Ordering::Relaxed);
        PLACE.store(point.map_or(0, |point| point as u32 + 1), Ordering::Release);
    }

    /// How many threads that read requests have stopped.
    #[cfg(test)]
    pub(crate) fn stopped_readers() -> usize {
        READERS.load(Ordering::Acquire)
    }

    /// How many threads have stopped.
    #[cfg(test)]
    pub(crate) fn stopped() -> usize {
        STOPPED.load(Ordering::Acquire)
    }
}
