//! What the daemon says about itself: lines on stderr.
//!
//! Nothing here opens a file or asks for the time zone: a logger that read `/etc/localtime` would wait for the very
//! mount it logs about (contract D21).

use std::fmt;
use std::io::Write as _;

/// Says that something went wrong. One line, whole, so that lines of several threads do not mix.
pub fn error(message: fmt::Arguments<'_>) {
    line(message);
}

/// Says what an administrator may want to know.
pub fn info(message: fmt::Arguments<'_>) {
    line(message);
}

fn line(message: fmt::Arguments<'_>) {
    let text = format!("etcfs: {message}\n");
    // There is nobody to tell that telling failed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
