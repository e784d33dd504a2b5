//! Text from users, made fit for a terminal, a log and the kernel's log. Names of files, attributes and processes may hold
//! any byte: an escape sequence that hides or retypes what an administrator reads, a newline that begins a line of its own
//! (`<0>etcfs: ...` would be an emergency in the kernel's log), characters that turn the order of reading around.
//!
//! Two uses: a value is written with [`printable`], which can be read back; and whatever goes to a log, to stderr or out of
//! `etcfsctl` passes [`tame`] as a whole, so that a place that forgets the first does no harm.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character shows as itself and leaves its neighbours alone. Control characters do not, nor do those that set
/// the direction of text, stand for line ends, or show as nothing (Unicode's categories Cc, Zl, Zp, and what matters of Cf).
const fn shows(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}'
    )
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

fn push_char_escaped(text: &mut String, c: char) {
    push_escaped(text, c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Bytes as text that can be read back: `\` and everything that does not show or is not UTF-8 is `\xHH`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match shows(c) && c != '\\' {
                true => text.push(c),
                false => push_char_escaped(&mut text, c),
            }
        }
        push_escaped(&mut text, chunk.invalid());
    }
    text
}

/// One line: everything that does not show is `\xHH`, line ends too. What [`printable`] has written stays as it is.
pub fn tame(text: &str) -> Cow<'_, str> {
    if text.chars().all(shows) {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match shows(c) {
            true => tamed.push(c),
            false => push_char_escaped(&mut tamed, c),
        }
    }
    Cow::Owned(tamed)
}

/// Text without ` (os error 39)`, which the standard library puts after the words of an error number: people have the words.
pub fn plain(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    if !text.contains(BEGIN) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split(BEGIN);
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.split_once(')') {
            Some((number, rest))
                if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
            {
                plain.push_str(rest);
            }
            _ => {
                plain.push_str(BEGIN);
                plain.push_str(part);
            }
        }
    }
    Cow::Owned(plain)
}

/// A JSON text in which everything that does not show is `\uHHHH`. A reader gets the same strings.
pub fn tame_json(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of strings only blanks can be among these, and those may stand there.
        if shows(c) || matches!(c, '\n' | '\t' | '\r') {
            tamed.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(tamed, "\\u{unit:04x}");
        }
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_show_is_written_by_its_bytes() {
        assert_eq!(
            printable(b"a\n<0>b\\\xff\x1b[2J"),
            r"a\x0a<0>b\x5c\xff\x1b[2J"
        );
        assert_eq!(
            printable("\u{202e}é\u{9b}".as_bytes()),
            r"\xe2\x80\xaeé\xc2\x9b"
        );
        assert_eq!(tame("a\nb\\x0a\u{2028}"), r"a\x0ab\x0a\xe2\x80\xa8");
        assert_eq!(tame("plain é"), "plain é");
    }

    #[test]
    fn errors_are_words() {
        assert_eq!(
            plain("/a: Directory not empty (os error 39); b (os error 2)"),
            "/a: Directory not empty; b"
        );
        for kept in ["x (os error )", "x (os error a)", "x (os error 3", "x"] {
            assert_eq!(plain(kept), kept);
        }
    }

    proptest! {
        #[test]
        fn nothing_gets_through(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            let printed = printable(&bytes);
            prop_assert!(printed.chars().all(shows));
            prop_assert!(tame(&text).chars().all(shows));
            prop_assert_eq!(tame(&printed), printed.as_str());
            let json = serde_json::to_string(&text).unwrap();
            let tamed = tame_json(&json);
            prop_assert!(tamed.chars().all(shows), "{}", tamed);
            prop_assert_eq!(serde_json::from_str::<String>(&tamed).unwrap(), text);
        }
    }
}
