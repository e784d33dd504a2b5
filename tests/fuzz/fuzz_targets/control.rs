//! Reads arbitrary bytes as the message of an `etcfsctl`, as they are and as the rest of a message of this version: it is
//! understood and means the same when written again, or refused in one line.
#![no_main]

use etcfs::ctl::wire::{read_query, write_query};

fn read(message: &[u8]) {
    match read_query(message) {
        Ok(ask) => assert_eq!(read_query(&write_query(&ask)), Ok(ask)),
        Err(line) => assert!(!line.is_empty() && !line.contains('\n'), "{line:?}"),
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&[br#"{"etcfs":1,"ask":"#, bytes].concat());
});
