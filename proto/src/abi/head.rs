//! Message headers and the extensions that may follow a request's names.

use super::wire;

wire! {
    /// `struct fuse_in_header`: begins every request.
    struct InHeader [40] {
        /// Length of the whole message in bytes, this header included.
        len: u32,
        /// What is asked; see [`Opcode`](crate::Opcode).
        opcode: u32,
        /// Identifies the request; the answer repeats it. Even; bit 0 marks an INTERRUPT's own id, bit 63 a resent request.
        unique: u64,
        /// The node that is operated on; 0 where there is none.
        nodeid: u64,
        /// The caller's fsuid, in the mount's user namespace; 0 in background requests.
        uid: u32,
        /// The caller's fsgid, in the mount's user namespace; 0 in background requests.
        gid: u32,
        /// The caller's thread id in the mounter's pid namespace; 0 where it is not visible there or for the kernel's own.
        pid: u32,
        /// Length of the extensions at the message's end, in units of 8 bytes (7.38; padding before).
        total_extlen: u16,
        /// Zero.
        padding: u16,
    }

    /// `struct fuse_out_header`: begins every answer and every notice.
    struct OutHeader [16] {
        /// Length of the whole message in bytes, this header included; must equal the number of bytes written.
        len: u32,
        /// 0, or an errno negated (-511 to -1); in a notice its code, which is positive.
        error: i32,
        /// The request's `unique`; 0 in a notice.
        unique: u64,
    }

    /// `struct fuse_ext_header`: begins one extension (7.38).
    struct ExtHeader [8] {
        /// Length of the extension in bytes, this header included.
        size: u32,
        /// 32 for supplementary groups; 0 to 31 is the number of security contexts of a [`SecctxHeader`].
        r#type: u32,
    }

    /// `struct fuse_secctx_header`: the same place as [`ExtHeader`], read as the head of security contexts (7.36).
    struct SecctxHeader [8] {
        /// Length of all security contexts in bytes, this header included.
        size: u32,
        /// How many [`Secctx`] follow; at most 31.
        nr_secctx: u32,
    }

    /// `struct fuse_secctx`: one security context; its name with a NUL and `size` bytes of label follow (7.36).
    struct Secctx [8] {
        /// Length of the label in bytes.
        size: u32,
        /// Zero.
        padding: u32,
    }

    /// `struct fuse_supp_groups`: begins the body of a groups extension; `nr_groups` group ids of 4 bytes follow (7.38).
    struct SuppGroups [4] {
        /// How many group ids follow; Linux 6.18 sends at most one, the parent directory's group.
        nr_groups: u32,
    }
}

/// The highest [`ExtHeader::type`] that means security contexts (`FUSE_MAX_NR_SECCTX`).
pub const MAX_NR_SECCTX: u32 = 31;
/// The [`ExtHeader::type`] of supplementary groups (`FUSE_EXT_GROUPS`).
pub const EXT_GROUPS: u32 = 32;
