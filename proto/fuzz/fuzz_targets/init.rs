//! Negotiates arbitrary offers under arbitrary wishes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcfs_proto_fuzz::entry::init(bytes));
