//! etcfs.

pub mod fs;
