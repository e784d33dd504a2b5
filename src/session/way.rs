//! How a request is carried out.

use crate::ledger::flight::BEFORE;
use crate::ops::Where;

/// How a request is served.
pub(crate) struct Way<'a> {
    /// By whom.
    pub(crate) at: Where,
    /// Its observers have been told of it.
    pub(crate) shown: bool,
    /// Asked by what takes long: whether the client has given up.
    pub(crate) given_up: &'a dyn Fn() -> bool,
    /// What a predecessor had noted before it may have made the change: see [`crate::ledger::flight`].
    pub(crate) begun: Option<[u64; BEFORE]>,
}

impl Way<'static> {
    /// By the worker that has read it.
    pub(crate) const WORKER: Way<'static> = Way {
        at: Where::Worker,
        shown: false,
        given_up: &|| false,
        begun: None,
    };
}

impl<'a> Way<'a> {
    /// In a thread where it may take long.
    pub(crate) fn aside(shown: bool, given_up: &'a dyn Fn() -> bool) -> Way<'a> {
        Way {
            at: Where::Aside,
            shown,
            given_up,
            begun: None,
        }
    }
}
