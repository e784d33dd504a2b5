//! The parts of a state. They keep their numbers, and a new one has the next: see [`super::convert`].

/// What lies where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    /// [`super::header::FirstPage`].
    Header,
    /// What the start has found out, as text: see `daemon`.
    Facts,
    /// Why a server could not begin, as text.
    Words,
    /// Who holds locks: see `fs::locks`.
    LockOwners,
    /// Locked ranges.
    LockRanges,
    /// Handles through which ranges were locked.
    LockHandles,
    /// Lower locks that are being changed.
    LockChanges,
    /// The [log](super::log::Log) of the configuration and of the handles of its file: see `fs::configuration`.
    Configuration,
    /// [`super::node::NodeRecord`].
    Nodes,
    /// [`super::node::Aside`].
    Aside,
    /// [`super::handle::HandleRecord`].
    Handles,
    /// [`super::backing::BackingRecord`].
    Backing,
    /// [`super::flight::Flight`] of a request of up to 1 KiB.
    SmallFlights,
    /// Of one of up to 68 KiB: the value of an extended attribute has 64.
    MiddleFlights,
    /// Of one of any size, and of every thread that reads requests.
    LargeFlights,
    /// The messages, in the order of those, each in a piece of [`super::flight::MESSAGES`].
    Messages,
    /// What has been counted since when: see `session::meter`.
    Meters,
    /// When things began: see there.
    Beginnings,
    /// The [ring](super::ring::Ring) of what enforcement has done: see `fs::journal`.
    Journal,
    /// That of the servers that there have been.
    Restarts,
    /// [`super::place::PlaceRecord`].
    Places,
    /// [`super::recording::RecordingRecord`].
    Recordings,
    /// What those have and was not sent yet.
    Recorded,
    /// [`super::kept::KeptRecord`].
    Kept,
    /// Something that the other version has.
    #[cfg(feature = "other-state")]
    Other,
}
