//! etcfs.

pub mod cli;
pub mod fs;
pub mod mount;
