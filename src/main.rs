//! etcfs.
fn main() {}
