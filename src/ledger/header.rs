//! The first page: what the keeper reads, and numbers that must go on.

use std::sync::atomic::{AtomicU32, AtomicU64};
use zerocopy::FromBytes;

/// `etcfsldg`, as a number.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"etcfsldg");

/// The first page of a ledger.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct Header {
    /// [`MAGIC`].
    pub(crate) magic: AtomicU64,
    /// [`super::VERSION`].
    pub(crate) version: AtomicU32,
    /// How many servers have begun, the first one included.
    pub(crate) servers: AtomicU32,
    /// The next node's number.
    pub(crate) next_node: AtomicU64,
    /// The next handle's number.
    pub(crate) next_handle: AtomicU64,
    /// By region: see [`super::table::Table`].
    pub(crate) marks: [AtomicU32; 64],
}
