//! Whoever a request comes from, as far as the model must know.

use rustix::io::Errno;

/// Whoever asks. The lower file system knows what that one may do, so it is asked by doing it.
pub trait Asker {
    /// Runs `op` with the rights of whoever asks and no others. It may run a second time after EACCES or EPERM.
    ///
    /// # Errors
    /// Those of `op`.
    fn act(&self, op: &mut dyn FnMut() -> Result<(), Errno>) -> Result<(), Errno>;

    /// True if whoever asks may remove others' names from a sticky directory that belongs to `owner`: as its owner, or with
    /// CAP_FOWNER (`__check_sticky`, fs/namei.c).
    fn rules_over(&self, owner: u32) -> bool;
}

/// The daemon itself, where nobody asks.
pub struct Daemon;

impl Asker for Daemon {
    fn act(&self, op: &mut dyn FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
        op()
    }

    fn rules_over(&self, _: u32) -> bool {
        true
    }
}
