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
    /// What users' shares of the descriptors are told apart by; 0: not chosen yet.
    pub(crate) account_seed: AtomicU64,
    /// The largest backing id that the kernel is known to have given.
    pub(crate) last_backing: AtomicU32,
    /// How many nodes have been forgotten, as far as that tells which of two was first.
    pub(crate) slept: AtomicU32,
    /// By region: see [`super::table::Table`].
    pub(crate) marks: [AtomicU32; 64],
}
