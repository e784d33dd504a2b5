//! Those who watch the traffic: `-d` from the start, `etcfsctl log` and others for as long as they listen.

use super::panics;
use crate::log;
use crate::mutex::lock;
use arc_swap::ArcSwap;
use etcfs_proto::Frame;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// When a request was read and when its answer was ready, see [`now`](super::meter::now).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the request was read from the device.
    pub(crate) taken: u64,
    /// When the answer was ready to be written.
    pub(crate) done: u64,
}

/// Somebody who watches the traffic. Both calls come from the thread that serves the request, in this order; only a
/// request that waits for a lock is answered in another thread.
pub trait Observer: Send + Sync {
    /// A request is about to be carried out.
    fn request(&self, frame: &Frame<'_>);
    /// `answer` is about to be written: the whole message, header included; empty if the request is not answered.
    fn answer(&self, frame: &Frame<'_>, answer: &[u8], times: Times);
}

/// Who watches at the moment. Asking costs one load when nobody does.
#[derive(Default)]
pub(crate) struct Observers {
    any: AtomicBool,
    list: ArcSwap<Vec<Arc<dyn Observer>>>,
    change: Mutex<()>,
}

impl Observers {
    /// Lets `observer` watch from the next request on.
    pub(crate) fn add(&self, observer: Arc<dyn Observer>) {
        let _guard = lock(&self.change);
        let mut list = self.list.load().to_vec();
        list.push(observer);
        self.list.store(Arc::new(list));
        self.any.store(true, Ordering::Release);
    }

    /// Takes `observer` off. A request in progress may still reach it.
    pub(crate) fn remove(&self, observer: &Arc<dyn Observer>) {
        let _guard = lock(&self.change);
        let mut list = self.list.load().to_vec();
        list.retain(|known| !Arc::ptr_eq(known, observer));
        self.any.store(!list.is_empty(), Ordering::Release);
        self.list.store(Arc::new(list));
    }

    /// Calls `tell` for each. One that panics is taken off: nobody's request depends on who watches.
    pub(crate) fn each(&self, tell: impl Fn(&dyn Observer)) {
        if self.any.load(Ordering::Relaxed) {
            for observer in self.list.load().iter() {
                if let Err(panic) = panics::catch(|| tell(&**observer)) {
                    self.remove(observer);
                    log::error(format_args!(
                        "an observer of the traffic {panic}; it sees no more of it, please report this"
                    ));
                }
            }
        }
    }
}
