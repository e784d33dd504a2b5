//! Who goes on while another program is executed in the keeper's place, and in what time.

use crate::ledger::Ledger;
use crate::ledger::header::{Heir, Trial};
use crate::sys::child;
use rustix::process::Pid;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

/// How long a mount goes without a keeper. Whoever ends all processes, one after the other, shall not find a new one.
pub(super) const ALONE: Duration = Duration::from_millis(50);

/// How long another program has until it serves.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The server of this process is about to read the first request. False: it must not, since the program before this one, or
/// another server, goes on.
pub(super) fn may_serve(ledger: &Ledger) -> bool {
    let (own, told) = (ledger.header(), ledger.told_page());
    match told.claim(Heir::New) {
        Ok(()) => {
            own.set_heir(Heir::New);
            // Said before anybody can bring the next one.
            if own.trial() == Trial::Open {
                own.set_trial(Trial::Serves);
            }
            // What it holds open would outlive its last close: locks, and files that are being written.
            let old = Pid::from_raw(told.stand_by.load(Acquire));
            old.is_none_or(|old| child::end_strange(old, || false))
        }
        Err(Heir::Old) if ledger.before().is_some() => false,
        Err(_) => own.server.load(Acquire) == child::own(),
    }
}

/// True if a program that was executed at this moment, by the monotonic clock in ns, has had its time.
pub(super) fn is_late(executed_at: u64) -> bool {
    let now = crate::session::meter::now();
    executed_at != 0 && now.saturating_sub(executed_at) > PATIENCE.as_nanos() as u64
}
