//! How much of the time ordinary users' copies may take.
//!
//! While a rename between two directories lasts, the kernel begins no other one on the mount (`s_vfs_rename_mutex`). One
//! copy of a bounded size is short, but users can ask for one after the other, in many processes at once, and root's
//! rename stands behind all that came before it. So copies take a share of the time, of all ordinary users together:
//! being refused takes no time, and mv(1) then copies by itself without the kernel's lock.

use crate::mutex::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What may be taken at once: 250 ms.
const BURST: Duration = Duration::from_millis(250);

/// One part in so many of the time is given back.
const PART: u32 = 4;

/// The share.
pub(crate) struct Share {
    left: Mutex<Allowance>,
}

struct Allowance {
    /// What is left of [`BURST`]. The last copy may have taken more than there was: then it is owed.
    time: Duration,
    owed: Duration,
    /// When that was so.
    at: Instant,
}

impl Default for Share {
    fn default() -> Share {
        Share {
            left: Mutex::new(Allowance {
                time: BURST,
                owed: Duration::ZERO,
                at: Instant::now(),
            }),
        }
    }
}

impl Share {
    /// True if another copy may begin.
    pub(crate) fn is_left(&self) -> bool {
        let mut left = lock(&self.left);
        left.give_back(Instant::now());
        !left.time.is_zero()
    }

    /// Takes the time of a copy that has ended.
    pub(crate) fn take(&self, time: Duration) {
        let mut left = lock(&self.left);
        left.give_back(Instant::now());
        left.take(time);
    }
}

impl Allowance {
    fn take(&mut self, time: Duration) {
        self.owed += time.saturating_sub(self.time);
        self.time = self.time.saturating_sub(time);
    }

    fn give_back(&mut self, now: Instant) {
        let back = now.saturating_duration_since(self.at) / PART;
        self.at = now;
        self.time = BURST.min(self.time + back.saturating_sub(self.owed));
        self.owed = self.owed.saturating_sub(back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fourth_of_the_time_is_for_copies_and_a_burst_before() {
        let start = Instant::now();
        let mut left = Allowance {
            time: BURST,
            owed: Duration::ZERO,
            at: start,
        };
        left.take(BURST + Duration::from_millis(50));
        assert!(left.time.is_zero());
        left.give_back(start + Duration::from_millis(199));
        assert!(left.time.is_zero(), "200 ms pay for the 50 ms too many");
        left.give_back(start + Duration::from_millis(240));
        assert_eq!(left.time, Duration::from_millis(10));
        left.give_back(start + Duration::from_secs(60));
        assert_eq!(left.time, BURST, "no more than at first");
    }
}
