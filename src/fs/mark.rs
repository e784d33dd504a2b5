//! Whether an object has changed between two looks at it.

use super::stat::Stat;
use rustix::time::{ClockId, clock_gettime};
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
        let now = clock_gettime(ClockId::Realtime);
        let then = Duration::new(self.ctime.0.max(0).unsigned_abs(), self.ctime.1);
        let now = Duration::new(now.tv_sec.max(0).unsigned_abs(), now.tv_nsec as u32);
        now.saturating_sub(then) > SETTLED
    }
}
