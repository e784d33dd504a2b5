//! What is done by a thread that waits for answers of this very process.
//!
//! The kernel drops the pages of a file that is mapped for writing when what was stored there is written, for which it sends
//! requests, and the thread that has asked for that waits in the kernel, which no signal ends. Should the process be killed
//! meanwhile, that thread stays until a successor has answered those requests; and while it stays the process has not ended.
//! So the keeper looks whether it has while there are such threads, by a timer that costs nobody anything unless it goes off.

use crate::ledger::header::FirstPage;
use crate::mutex::lock;
use crate::sys::{inherit, stuck};
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// How often the keeper looks. It takes less for nearly every file.
const EVERY: Duration = Duration::from_millis(10);

/// Held by whoever sets the timer.
static TURN: Mutex<()> = Mutex::new(());

/// One thread that does such a thing.
struct Vigil(&'static FirstPage);

impl Vigil {
    fn begin(header: &'static FirstPage) -> Vigil {
        let _turn = lock(&TURN);
        if header.dropping.fetch_add(1, SeqCst) == 0 {
            set(header, EVERY);
        }
        Vigil(header)
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        let _turn = lock(&TURN);
        if self.0.dropping.fetch_sub(1, SeqCst) == 1 {
            set(self.0, Duration::ZERO);
        }
    }
}

fn set(header: &FirstPage, every: Duration) {
    let timer = header.timer.load(SeqCst);
    if timer > 2 {
        stuck::set(inherit::borrow(timer), every);
    }
}

/// Does `work`, unless the mount is about to end.
pub(super) fn over(header: &'static FirstPage, work: impl FnOnce()) {
    let _vigil = Vigil::begin(header);
    if header.ends.load(SeqCst) == 0 {
        work();
    }
}
