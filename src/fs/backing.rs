//! Backing ids: what is known of them, for each node and in all.

mod left;
pub(crate) mod registered;
pub(crate) mod registry;

use registered::Registered;
use registry::Reach;
use rustix::fd::{AsFd, BorrowedFd};

/// The passthrough state of one node, kept with its handles.
#[derive(Default)]
pub(crate) struct Backing {
    /// The id in force.
    pub(crate) registered: Option<Registered>,
    /// Opens that use the id.
    pub(crate) passed: u32,
    /// Opens whose reads and writes come to the daemon.
    pub(crate) plain: u32,
    /// In the list of ids to be looked at by [`Passthrough::sweep`](super::passthrough::Passthrough::sweep).
    pub(crate) listed: bool,
    /// Used since it was last looked at.
    pub(crate) used: bool,
}

impl Backing {
    /// No id, and nothing open.
    pub(crate) const NONE: Backing = Backing {
        registered: None,
        passed: 0,
        plain: 0,
        listed: false,
        used: false,
    };

    /// True if there is nothing to remember.
    pub(crate) fn is_idle(&self) -> bool {
        self.registered.is_none() && self.opens() == (0, 0) && !self.listed
    }

    /// The id in force.
    pub(crate) fn id(&self) -> Option<u32> {
        self.registered.as_ref().map(|r| r.id)
    }

    /// A descriptor of the file that stands for the opens that have none of their own; it may be `O_PATH`.
    pub(crate) fn anchor(&self) -> Option<BorrowedFd<'_>> {
        self.registered.as_ref()?.anchor.as_ref().map(AsFd::as_fd)
    }

    /// Opens in force: with an id, and without.
    pub(crate) fn opens(&self) -> (u32, u32) {
        (self.passed, self.plain)
    }

    /// Counts opens that there are, with the id or without.
    pub(crate) fn count(&mut self, registered: bool, count: u32) {
        let of = match registered {
            true => &mut self.passed,
            false => &mut self.plain,
        };
        *of = of.saturating_add(count);
    }

    /// Counts one more open with the id, if there is one.
    pub(crate) fn join(&mut self, reach: Reach) -> Option<Io> {
        let id = self.id()?;
        self.passed += 1;
        self.used = true;
        Some(match reach {
            Reach::Everything => Io::Passthrough(id),
            Reach::GlobalMappings => Io::Mapped(id),
        })
    }

    /// Counts one more open whose reads and writes come to the daemon.
    pub(crate) fn plain(&mut self) -> Io {
        self.plain += 1;
        Io::Plain
    }
}

/// What an open has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Io {
    /// The kernel reads and writes the lower file through this id.
    Passthrough(u32),
    /// Reads and writes come to the daemon; the kernel maps the lower file through this id.
    Mapped(u32),
    /// Reads and writes come to the daemon, and mappings are of pages of this mount.
    Plain,
}
