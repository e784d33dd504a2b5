//! Cuts arbitrary bytes as a request, takes everything out of it, and joins its pieces again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcfs_proto_fuzz::entry::parse(bytes));
