//! The FUSE wire protocol.
