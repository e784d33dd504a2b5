//! etcfs: Bedrock Linux's /etc, served over the raw FUSE protocol.

pub mod cli;
pub mod fs;
pub mod log;
pub mod mount;
pub mod ops;
pub mod session;
pub mod sys;
