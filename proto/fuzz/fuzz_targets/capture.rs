//! Reads arbitrary bytes as a recording, follows its conversation and hides its names.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcfs_proto_fuzz::entry::capture(bytes));
