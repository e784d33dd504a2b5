//! Shows arbitrary bytes as a request and as an answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcfs_proto_fuzz::entry::show(bytes));
