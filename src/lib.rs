//! etcfs.
