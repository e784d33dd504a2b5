//! How long things are kept, and the clock.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// How long the kernel keeps a name, and a directory's attributes, without asking.
pub(crate) const NAMES: Duration = Duration::from_secs(60);

/// How long it keeps the attributes of anything else: a writer that holds a file open raises no event.
pub(crate) const ATTRIBUTES: Duration = Duration::from_secs(1);

/// How many directories are watched unless the command line says otherwise. A watch takes about 1 KiB of the kernel.
pub(crate) const WATCHES: usize = 4096;

/// Milliseconds of the monotonic clock, to a tick of the kernel's.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// As [`now`].
pub(super) fn millis(of: Duration) -> u64 {
    of.as_millis() as u64
}
