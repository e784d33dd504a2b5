//! Whether an object has changed between two looks at it.

use super::stat::Stat;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// How old a change must be for a look to prove that there was none after it. Change times advance in steps of the
/// kernel's tick, 10 ms at most: two changes within one step look like one.
const SETTLED: Duration = Duration::from_millis(25);

/// One state of one object. Any change of the object, and any other object in its place, has another mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Mark {
    /// The state that `stat` shows.
    pub(crate) fn of(stat: &Stat) -> Mark {
        let time = |t: &rustix::fs::StatxTimestamp| (t.tv_sec, t.tv_nsec);
        Mark {
            dev: stat.dev(),
            ino: stat.0.stx_ino,
            size: stat.0.stx_size,
            mtime: time(&stat.0.stx_mtime),
            ctime: time(&stat.0.stx_ctime),
        }
    }

    /// True if both are of one inode, whatever has been done to it between the looks.
    pub(crate) fn is_same_inode(&self, other: &Mark) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// True if both are of one inode, and its contents have not changed between the looks. A rename changes `ctime` alone.
    pub(crate) fn has_same_data(&self, other: &Mark) -> bool {
        self.is_same_inode(other) && (self.size, self.mtime) == (other.size, other.mtime)
    }

    /// True if a later change cannot have this mark too.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled_at(clock_gettime(ClockId::Realtime))
    }

    /// The same at another moment. A change that is still to come, as one from before the clock was set back, is as far from
    /// one that is made at this moment as one that lies back.
    fn is_settled_at(&self, now: Timespec) -> bool {
        let then = Duration::new(self.ctime.0.max(0).unsigned_abs(), self.ctime.1);
        let now = Duration::new(now.tv_sec.max(0).unsigned_abs(), now.tv_nsec as u32);
        now.abs_diff(then) > SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_settled_when_the_clock_is_elsewhere_be_it_set_back() {
        let mark = Mark {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: (1000, 0),
            ctime: (1000, 500_000_000),
        };
        for (tv_sec, tv_nsec, settled) in [
            (1000, 500_000_000, false),
            (1000, 510_000_000, false),
            (1000, 490_000_000, false),
            (1000, 530_000_000, true),
            (2000, 0, true),
            (1000, 470_000_000, true),
            (1000 - 86_400, 0, true),
        ] {
            let now = Timespec { tv_sec, tv_nsec };
            assert_eq!(mark.is_settled_at(now), settled, "{tv_sec}.{tv_nsec:09}");
        }
    }
}
