//! Every numbered statement of the contract that the daemon fulfils has a test named after it: `d19_...` or `..._b16`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The statements of the contract's sections 2, 3 and 6, and those of its sections 0, 1 and 4 that are no passthrough,
/// no debugging tools and no crash survival. A statement with two numbers (`B4/S10`) is shown under either of them.
const NUMBERS: &[&str] = &[
    // Findings: one daemon per request, no freezing, the native permission model.
    "F1 F2 F3",
    // Overrides and freshness cost nothing, rules cost nothing, malformed input is survived.
    "U2 U3 U6 U9",
    // Start.
    "D1 D2 D3 D4 D5 D6 D7 D8 D9 D10 D11",
    // Mount and unmount.
    "D12 D13 D14 D15 D16 D17 D18 D19 D20 D21 D22",
    // The configuration file.
    "D23 D24 D25 D26 D27 D28 D29 D30 D31 D32 D33 D34 D35",
    // Attributes.
    "D36 D37 D38",
    // Globals and overrides.
    "D39 D40 D41 D42 D43 D44 D45",
    // What the C program does well.
    "S1 S2 S3 S4 S5 S6",
    // What it does not.
    "B1/S7 B2/S8 B3/S9 B4/S10 B5/S11 B6/S12 B7/S13 B8/S14 B9/S15 B10/S16 B11/S17 B12/S18 B13/S19",
    "B14 B15 B16 B17/S20 B18/S21 B19/S22 B20 B21 B22 B23 B24 B25 B26 B27 B28",
    "B29 B30 B31 B32 B33 B34 B35",
    // The journal of enforcements.
    "P6",
];

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display())) {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The parts of the names of all tests: `d19`, `signals`, `unmount`, ...
fn parts_of_test_names() -> BTreeSet<String> {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["tests", "src", "proto/src", "proto/tests"] {
        rust_files(&repo.join(dir), &mut files);
    }
    let mut parts = BTreeSet::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("read");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                is_test = true;
            } else if let (true, Some(rest)) = (is_test, line.strip_prefix("fn ")) {
                let name = rest.split('(').next().unwrap_or_default();
                parts.extend(name.split('_').map(str::to_owned));
                is_test = false;
            }
        }
    }
    parts
}

#[test]
fn every_statement_of_the_contract_has_a_test_named_after_it() {
    let parts = parts_of_test_names();
    let shown = |number: &str| parts.contains(&number.to_lowercase());
    let missing: Vec<&str> = NUMBERS
        .iter()
        .flat_map(|line| line.split(' '))
        .filter(|statement| !statement.split('/').any(shown))
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn no_statement_is_listed_twice() {
    let mut seen = BTreeSet::new();
    let numbers = NUMBERS.iter().flat_map(|line| line.split([' ', '/']));
    let twice: Vec<&str> = numbers.filter(|number| !seen.insert(*number)).collect();
    assert!(twice.is_empty(), "listed twice: {twice:?}");
}
