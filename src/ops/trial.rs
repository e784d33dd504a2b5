//! What no handler should do, for tests: opcodes 7 and 19, which the kernel has not given away, the second one aside.

use super::{Call, Handled};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// The body of a request to panic.
pub(crate) const PANIC: u64 = u64::MAX;

/// Takes as many milliseconds as the first word of the body says, unless the client gives up before.
pub(crate) fn run(call: &mut Call<'_>) -> Handled {
    let word = call.frame.tail.first_chunk().copied();
    let ms = u64::from_ne_bytes(word.ok_or(Errno::INVAL)?);
    assert!(ms != PANIC, "on purpose");
    let until = Instant::now() + Duration::from_millis(ms);
    while Instant::now() < until {
        call.check_interrupt()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
