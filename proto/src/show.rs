//! One line of text per message, for `-d`, traces and golden tests.
//!
//! A line is `OPCODE unique=.. key=value ...`, in the kernel's field names. Names are quoted with every byte outside printable ASCII
//! escaped, so a line is one line whatever the names hold. Data of files and extended attributes is shown by its length
//! only: a log of `/etc` must not hold its secrets. What is not known (opcodes, flags, extensions) is shown in numbers,
//! and what is malformed as `bad(reason)`.

mod answer;
mod request;
mod words;

use crate::abi::Attr;
use crate::{Frame, Opcode};
use std::fmt;
use words::{Quoted, ShownMode};

/// The most bytes of an unknown message that are printed.
const HEX_LIMIT: usize = 64;

/// Shows a request.
pub fn request<'a>(frame: &Frame<'a>) -> impl fmt::Display + 'a {
    request::ShownRequest(*frame)
}

/// Shows the message that answers a request of kind `opcode`, or a notice, which is known by its `unique` of 0.
pub fn answer(opcode: Opcode, message: &[u8]) -> impl fmt::Display + '_ {
    answer::Answer { opcode, message }
}

/// Shows an error number: its name and the number, `ENOENT(2)`.
pub fn errno(number: u32) -> impl fmt::Display {
    words::Errno(number)
}

/// Writes ` field=value` for fields of one struct.
macro_rules! fields {
    ($f:expr, $value:expr; $($field:ident)*) => {
        $(write!($f, concat!(" ", stringify!($field), "={}"), $value.$field)?;)*
    };
}
use fields;

fn attr(f: &mut fmt::Formatter<'_>, attr: &Attr) -> fmt::Result {
    fields!(f, attr; ino size blocks);
    time(f, "atime", attr.atime, attr.atimensec)?;
    time(f, "mtime", attr.mtime, attr.mtimensec)?;
    time(f, "ctime", attr.ctime, attr.ctimensec)?;
    write!(f, " mode={}", ShownMode(attr.mode))?;
    fields!(f, attr; nlink uid gid rdev blksize);
    match attr.flags {
        0 => Ok(()),
        bits => write!(
            f,
            " flags={}",
            crate::flags::AttrFlags::from_bits_retain(bits)
        ),
    }
}

/// Seconds are a signed number on an unsigned wire.
fn time(f: &mut fmt::Formatter<'_>, key: &str, sec: u64, nsec: u32) -> fmt::Result {
    write!(f, " {key}={}.{nsec:09}", sec as i64)
}

/// A duration; `u64::MAX` seconds means for ever and is no negative number.
fn valid(f: &mut fmt::Formatter<'_>, key: &str, sec: u64, nsec: u32) -> fmt::Result {
    write!(f, " {key}={sec}.{nsec:09}")
}

fn name(f: &mut fmt::Formatter<'_>, key: &str, bytes: &[u8]) -> fmt::Result {
    write!(f, " {key}={}", Quoted(bytes))
}

/// Writes ` key=[0a 0b ... +N]`.
fn hex(f: &mut fmt::Formatter<'_>, key: &str, bytes: &[u8]) -> fmt::Result {
    write!(f, " {key}=[")?;
    let shown = bytes.len().min(HEX_LIMIT);
    for (at, byte) in bytes[..shown].iter().enumerate() {
        let gap = if at == 0 { "" } else { " " };
        write!(f, "{gap}{byte:02x}")?;
    }
    match bytes.len() - shown {
        0 => f.write_str("]"),
        more => write!(f, " +{more}]"),
    }
}
