//! Cuts arbitrary bytes as a request and takes everything out of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcfs_proto_fuzz::entry::parse(bytes));
