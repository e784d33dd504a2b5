//! Feeds rows of requests of root and two users to a session, as tests/rows.rs does: each is answered once, no thread keeps
//! more capabilities than it may look with, and what is root's is changed by root alone.
#![no_main]

#[path = "../../kernel/mod.rs"]
mod kernel;

use std::sync::Mutex;

/// A session serves some rows, so that later ones meet what earlier ones have left.
static ROWS: Mutex<(u32, Option<kernel::rows::Rows>)> = Mutex::new((0, None));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut served = ROWS.lock().expect("no row has panicked");
    if served.0 % 20 == 0 {
        served.1 = None;
    }
    served.0 += 1;
    served
        .1
        .get_or_insert_with(kernel::rows::Rows::new)
        .run(bytes);
});
