//! Injected text as a function of bytes: what a file becomes when text is put in, taken out or replaced.
//!
//! - A text is *in* a file when its bytes occur anywhere in it, even within longer lines (B7): that is how Bedrock's own
//!   scripts ask, and a file that they find complete must not grow.
//! - It is put at the end, after a newline where the last line has none (B7). An empty file is left alone: package
//!   managers look whether a fresh file is still empty (D41).
//! - It is taken out only where it stands as whole lines, from the beginning of a line to the end of one, which is how
//!   it was put in; what is merely part of somebody's line is theirs. Every such place is emptied, because two strata
//!   that update a global file at the same moment may each have put it in (B8). The newline added before the text stays.
//!
//! All three return `None` when the file is already as it should be, so that nothing is written.

use memchr::memmem;
use std::ops::Range;

/// The file with `text` in it.
///
/// A last line that lacks only its newline to be the end of `text` gets the newline and nothing more.
pub(crate) fn injected(original: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    if original.is_empty() {
        return None;
    }
    with(original, text)
}

/// The file without `text`.
pub(crate) fn uninjected(original: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let places = whole_lines(original, text);
    match places.is_empty() {
        true => None,
        false => Some(without(original, &places)),
    }
}

/// The file with `new` instead of `old`, for a source whose content changed (D32).
///
/// Where `new` is already in the file, another stratum having been faster with a global file, it stays where it is.
/// Where old and new text overlap in the file (one may begin with the other), the longer one is taken to stand there.
/// A file that held nothing but `old` holds `new` afterwards; an empty one stays empty (D41).
pub(crate) fn reinjected(original: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    if original.is_empty() {
        return None;
    }
    let mut places = whole_lines(original, old);
    if old.len() <= new.len() {
        let kept = whole_lines(original, new);
        let meet = |one: &Range<usize>, other: &Range<usize>| {
            one.start < other.end && other.start < one.end
        };
        places.retain(|place| !kept.iter().any(|keep| meet(place, keep)));
    }
    let rest = without(original, &places);
    let replaced = with(&rest, new).unwrap_or(rest);
    (replaced != original).then_some(replaced)
}

/// `rest` with `text` in it, also where `rest` is empty.
fn with(rest: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    if memmem::find(rest, text).is_some() {
        return None;
    }
    let mut file = Vec::with_capacity(rest.len() + 1 + text.len());
    file.extend_from_slice(rest);
    if !rest.is_empty() && !rest.ends_with(b"\n") {
        file.push(b'\n');
        if file.ends_with(text) {
            return Some(file);
        }
    }
    file.extend_from_slice(text);
    Some(file)
}

fn without(original: &[u8], places: &[Range<usize>]) -> Vec<u8> {
    let mut rest = Vec::with_capacity(original.len());
    let mut from = 0;
    for place in places {
        rest.extend_from_slice(&original[from..place.start]);
        from = place.end;
    }
    rest.extend_from_slice(&original[from..]);
    rest
}

/// Where `text` stands as whole lines, in ascending order and without overlap. A text without a final newline takes the
/// newline that ends its last line with it.
///
/// Looks from the end: text is put there, so where places could be chosen in two ways (a text that repeats itself), the
/// choice must be the one that has the last place whole.
fn whole_lines(original: &[u8], text: &[u8]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    if text.is_empty() {
        return places;
    }
    let line = [b"\n", text].concat();
    let finder = memmem::FinderRev::new(&line);
    let mut limit = original.len();
    loop {
        let open = &original[..limit];
        let start = match finder.rfind(open) {
            Some(newline) => newline + 1,
            None if open.starts_with(text) => 0,
            None => break,
        };
        let end = start + text.len();
        let unended = !text.ends_with(b"\n");
        match original.get(end) {
            Some(b'\n') if unended => places.push(start..end + 1),
            Some(_) if unended => {
                limit = end - 1;
                continue;
            }
            _ => places.push(start..end),
        }
        limit = start;
    }
    places.reverse();
    places
}

#[cfg(test)]
mod tests {
    use super::{injected, reinjected, uninjected};
    use proptest::prelude::*;

    fn put(original: &str, text: &str) -> Option<String> {
        injected(original.as_bytes(), text.as_bytes()).map(|file| String::from_utf8(file).unwrap())
    }

    fn take(original: &str, text: &str) -> Option<String> {
        uninjected(original.as_bytes(), text.as_bytes())
            .map(|file| String::from_utf8(file).unwrap())
    }

    fn replace(original: &str, old: &str, new: &str) -> Option<String> {
        reinjected(original.as_bytes(), old.as_bytes(), new.as_bytes())
            .map(|file| String::from_utf8(file).unwrap())
    }

    #[test]
    fn text_is_put_at_the_end_of_what_lacks_it() {
        for (original, text, expected) in [
            ("a\n", "# INJ\n", Some("a\n# INJ\n")),
            // B7: the last line is ended first.
            (
                "line-without-newline",
                "# INJ\n",
                Some("line-without-newline\n# INJ\n"),
            ),
            ("a\n", "no newline", Some("a\nno newline")),
            // Ending the last line makes the text complete.
            ("a\n# INJ", "# INJ\n", Some("a\n# INJ\n")),
            ("a\n# OTHER", "# INJ\n", Some("a\n# OTHER\n# INJ\n")),
            // B7: part of a longer line counts as there.
            ("a # INJ\n", "# INJ\n", None),
            ("# INJ\na\n", "# INJ\n", None),
            ("a\nno newline, b\n", "no newline", None),
            // D41: an empty file is left alone.
            ("", "# INJ\n", None),
            ("a", "", None),
            ("\n", "\n", None),
        ] {
            assert_eq!(
                put(original, text).as_deref(),
                expected,
                "{original:?} {text:?}"
            );
        }
    }

    #[test]
    fn text_is_taken_from_every_place_where_it_stands_as_whole_lines() {
        for (original, text, expected) in [
            ("a\n# INJ\n", "# INJ\n", Some("a\n")),
            ("# INJ\n", "# INJ\n", Some("")),
            ("a\n# INJ\nb\n", "# INJ\n", Some("a\nb\n")),
            ("# INJ\n# INJ\na\n# INJ\n", "# INJ\n", Some("a\n")),
            ("a\nno newline", "no newline", Some("a\n")),
            ("a\nno newline\nb\n", "no newline", Some("a\nb\n")),
            ("no newline\nno newline", "no newline", Some("")),
            // The last place is found whole.
            ("1\n2\n1\n2\n1\n", "1\n2\n1\n", Some("1\n2\n")),
            ("a # INJ\n", "# INJ\n", None),
            ("a\n# INJ", "# INJ\n", None),
            ("a\nno newline, b\n", "no newline", None),
            ("no newline, b", "no newline", None),
            ("", "# INJ\n", None),
            ("a\n", "", None),
            ("", "", None),
        ] {
            assert_eq!(
                take(original, text).as_deref(),
                expected,
                "{original:?} {text:?}"
            );
        }
    }

    #[test]
    fn old_text_gives_way_to_new() {
        for (original, old, new, expected) in [
            // B8: nothing of the old remains.
            ("a\n# S1\n", "# S1\n", "# S2\n", Some("a\n# S2\n")),
            ("a\n# S1\nb\n", "# S1\n", "# S2\n", Some("a\nb\n# S2\n")),
            ("a\n# S1\nb", "# S1\n", "# S2\n", Some("a\nb\n# S2\n")),
            ("# S1\n", "# S1\n", "# S2\n", Some("# S2\n")),
            ("a\n", "# S1\n", "# S2\n", Some("a\n# S2\n")),
            ("a\n# S1\n# S2\n", "# S1\n", "# S2\n", Some("a\n# S2\n")),
            ("a\n# S1\n", "# S1\n", "", Some("a\n")),
            ("a\n# S1\n", "", "# S2\n", Some("a\n# S1\n# S2\n")),
            // The one begins with the other.
            ("a\n1\n", "1\n", "1\n2\n", Some("a\n1\n2\n")),
            ("a\n1\n2\n", "1\n", "1\n2\n", None),
            ("a\n1\n2\n", "1\n2\n", "1\n", Some("a\n1\n")),
            ("a\n1\n", "1\n2\n", "1\n", None),
            ("1\na\n1\n2\n", "1\n", "1\n2\n", Some("a\n1\n2\n")),
            ("a\n1\n", "1\n", "1\n", None),
            ("a\n", "1\n", "1\n", Some("a\n1\n")),
            ("", "1\n", "2\n", None),
        ] {
            let found = replace(original, old, new);
            assert_eq!(found.as_deref(), expected, "{original:?} {old:?} {new:?}");
        }
    }

    #[test]
    fn long_files_that_nearly_match_everywhere_are_done_in_reasonable_time() {
        let original = b"ab\n".repeat(1 << 18);
        let text = [b"ab\n".repeat(1 << 12), b"c".to_vec()].concat();
        let file = injected(&original, &text).unwrap();
        assert_eq!(uninjected(&file, &text).unwrap(), original);
        let line = b"ab\n".repeat(1 << 12);
        assert_eq!(uninjected(&original, &line).unwrap(), b"");
    }

    /// Few letters, so that texts and files often contain, overlap and repeat each other.
    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(proptest::sample::select(&b"a\n"[..]), 0..most),
            proptest::collection::vec(proptest::sample::select(&b"ab\n\xff\0"[..]), 0..most),
        ]
    }

    fn contains(file: &[u8], text: &[u8]) -> bool {
        text.is_empty() || file.windows(text.len()).any(|part| part == text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn injecting_twice_is_injecting_once(original in bytes(24), text in bytes(6)) {
            let file = injected(&original, &text);
            let had = original.is_empty() || contains(&original, &text);
            prop_assert_eq!(file.is_none(), had);
            if let Some(file) = file {
                prop_assert!(contains(&file, &text));
                prop_assert!(file.starts_with(&original));
                prop_assert_eq!(injected(&file, &text), None);
            }
        }

        #[test]
        fn taking_out_what_was_put_in_leaves_the_file_with_its_last_line_ended(
            original in bytes(24),
            text in bytes(6),
        ) {
            let mut ended = original.clone();
            if !ended.is_empty() && !ended.ends_with(b"\n") {
                ended.push(b'\n');
            }
            let put_in = injected(&original, &text).filter(|_| !contains(&ended, &text));
            if let Some(file) = put_in {
                prop_assert_eq!(uninjected(&file, &text), Some(ended));
            }
        }

        #[test]
        fn taking_out_never_adds_and_keeps_the_other_lines(original in bytes(24), text in bytes(6)) {
            if let Some(file) = uninjected(&original, &text) {
                prop_assert!(file.len() < original.len());
                let mut lines = original.split_inclusive(|byte| *byte == b'\n');
                for line in file.split_inclusive(|byte| *byte == b'\n') {
                    prop_assert!(lines.any(|other| other == line));
                }
            }
        }

        #[test]
        fn after_replacing_the_new_text_is_there_and_replacing_again_changes_nothing(
            original in bytes(24),
            old in bytes(6),
            new in bytes(6),
        ) {
            let file = reinjected(&original, &old, &new);
            prop_assert_ne!(file.as_ref(), Some(&original));
            let file = file.unwrap_or(original);
            prop_assert!(file.is_empty() || contains(&file, &new));
            prop_assert_eq!(reinjected(&file, &new, &new), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            original in proptest::collection::vec(any::<u8>(), 0..200),
            old in proptest::collection::vec(any::<u8>(), 0..8),
            new in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            prop_assert_eq!(injected(&original, &new).is_some(), !original.is_empty() && !contains(&original, &new));
            prop_assert!(uninjected(&original, &old).is_none_or(|file| file.len() < original.len()));
            prop_assert!(reinjected(&original, &old, &new).is_none_or(|file| file != original));
        }
    }
}
