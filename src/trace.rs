//! What a request is about, in paths: shared by `-d`, the access log and the watchdog. The text of the wire comes from
//! [`wire`](debug::wire) everywhere: for `-d`, for a live trace and for recordings.

mod debug;
mod printer;
mod subject;

pub(crate) use debug::debug;
pub(crate) use printer::Printer;
pub(crate) use subject::{Subject, is_passed, side_word};
