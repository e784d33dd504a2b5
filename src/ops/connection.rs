//! Requests about the connection itself.

use super::{Call, Handled};
use rustix::io::Errno;

/// INIT comes once, and the handshake has answered it. A second one is a fault of the sender.
pub(crate) fn init(_: &mut Call<'_>) -> Handled {
    Err(Errno::IO.into())
}

/// DESTROY: sent at unmount by block-device mounts only; there is nothing left to write.
pub(crate) fn destroy(_: &mut Call<'_>) -> Handled {
    Ok(())
}

/// INTERRUPT of a request that a worker is on: it will be answered in a moment. Requests that wait are interrupted by
/// `session::serve`, which knows them.
pub(crate) fn interrupt(_: &mut Call<'_>) -> Handled {
    Ok(())
}
