//! The list behind `-o`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Cuts a list at its commas. As with libfuse, a backslash takes the next character literally, and three octal digits
/// after it are one byte, so that `global=/a\,b` and fstab's `\040` work; a backslash at the very end is itself.
pub(super) fn split(list: &OsStr) -> Vec<OsString> {
    let mut items = vec![Vec::new()];
    let mut rest = list.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let literal = match byte {
            b',' => {
                items.push(Vec::new());
                continue;
            }
            b'\\' => match after {
                [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                    rest = &after[3..];
                    (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
                }
                [next, ..] => {
                    rest = &after[1..];
                    *next
                }
                [] => byte,
            },
            byte => byte,
        };
        items
            .last_mut()
            .expect("there is one item from the start")
            .push(literal);
    }
    items.into_iter().map(OsString::from_vec).collect()
}
