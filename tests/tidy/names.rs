//! One meaning per word: a type's name stands once in the daemon and in the wire crate.

use crate::{assert_none, rust_files};
use std::collections::{BTreeMap, BTreeSet};

/// Names that stand more than once, and why.
const MORE_THAN_ONCE: &[(&str, &str)] = &[(
    "Args",
    "the arguments of a subcommand, known to its own file alone",
)];

/// The type that a line defines.
fn defined(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let rest = ["struct ", "enum ", "trait ", "union "]
        .iter()
        .find_map(|word| line.strip_prefix(word))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    // A macro's `$name` is none.
    Some(&rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
}

#[test]
fn a_types_name_stands_once() {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in rust_files() {
        let of_the_product = path.starts_with("src") || path.starts_with("proto/src");
        // Tests beside the code have worlds and steps of their own.
        let of_tests =
            |part: &std::ffi::OsStr| part == "tests" || part == "survival" || part == "tests.rs";
        if !of_the_product || path.iter().any(of_tests) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for name in code.lines().filter_map(defined) {
            all.entry(name.to_owned())
                .or_default()
                .insert(path.display().to_string());
        }
    }
    assert!(all.len() > 300, "{} types", all.len());
    let allowed = |name: &str| MORE_THAN_ONCE.iter().any(|(known, _)| *known == name);
    for (name, _) in MORE_THAN_ONCE {
        let places = all.get(*name).map_or(0, BTreeSet::len);
        assert!(places > 1, "{name} stands once: take it off the list");
    }
    let doubled: Vec<String> = all
        .iter()
        .filter(|(name, places)| places.len() > 1 && !allowed(name))
        .map(|(name, places)| {
            let places: Vec<_> = places.iter().map(String::as_str).collect();
            format!("{name}: {}", places.join(", "))
        })
        .collect();
    assert_none("types of one name", &doubled);
}
