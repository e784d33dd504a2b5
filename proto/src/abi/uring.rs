//! FUSE over io_uring (7.42): the buffers of one ring entry and the command in its submission.

use super::wire;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

wire! {
    /// `struct fuse_uring_ent_in_out`: what concerns the ring entry itself (7.42).
    struct UringEntInOut [32] {
        /// Zero.
        flags: u64,
        /// What [`UringCmdReq::commit_id`] must be when the answer is committed.
        commit_id: u64,
        /// Length of the payload in bytes, in both directions.
        payload_sz: u32,
        /// Zero.
        padding: u32,
        /// Zero.
        reserved: u64,
    }

    /// `struct fuse_uring_cmd_req`: lies in the command area of 80 bytes of a submission (7.42).
    struct UringCmdReq [24] {
        /// Zero.
        flags: u64,
        /// The entry whose answer is committed; 0 when registering.
        commit_id: u64,
        /// Number of the queue: the CPU of the callers that it serves.
        qid: u16,
        /// Zero.
        padding: [u8; 6],
    }
}

/// `struct fuse_uring_req_header`: the header buffer of a ring entry (7.42).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UringReqHeader {
    /// The request's [`InHeader`](super::InHeader), then the answer's [`OutHeader`](super::OutHeader).
    pub in_out: [u8; 128],
    /// The fixed arguments of the request.
    pub op_in: [u8; 128],
    /// What concerns the entry itself.
    pub ring_ent_in_out: UringEntInOut,
}

impl Default for UringReqHeader {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

const _: () = assert!(size_of::<UringReqHeader>() == 288);

/// Submission command that registers an entry and waits for its first request (`FUSE_IO_URING_CMD_REGISTER`).
pub const IO_URING_CMD_REGISTER: u32 = 1;
/// Submission command that answers and waits for the next request (`FUSE_IO_URING_CMD_COMMIT_AND_FETCH`).
pub const IO_URING_CMD_COMMIT_AND_FETCH: u32 = 2;
