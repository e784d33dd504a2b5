//! What the oldest compiler that is promised (`rust-version`) does not take and clippy does not refuse. Newer calls of the
//! standard library are refused by clippy's `incompatible_msrv`.

use super::{assert_none, code, rust_files};

/// True if a condition that begins in the first of these lines has a `let` and something after it, as rustfmt lays it out:
/// each part on a line of its own, below the first and indented by one step.
fn is_let_chain(lines: &[&str]) -> bool {
    let first = code(lines[0]);
    if first
        .split("&&")
        .skip(1)
        .any(|part| part.starts_with(" let "))
    {
        return true;
    }
    let begin = first.trim_start();
    let indent = first.len() - begin.len();
    let begin = begin.strip_prefix("} else ").unwrap_or(begin);
    if !begin.starts_with("if let ") && !begin.starts_with("while let ") {
        return false;
    }
    let deeper = |line: &&&str| line.len() - line.trim_start().len() > indent;
    let mut rest = lines[1..].iter().take_while(deeper);
    !first.ends_with('{') && rest.any(|line| line.starts_with(&format!("{:1$}&& ", "", indent + 4)))
}

#[test]
fn no_condition_joins_a_let_with_something_else() {
    let mut found = Vec::new();
    for (path, text) in rust_files() {
        let lines: Vec<&str> = text.lines().collect();
        let chains = (0..lines.len()).filter(|at| is_let_chain(&lines[*at..]));
        found.extend(chains.map(|at| format!("{}:{}", path.display(), at + 1)));
    }
    assert_none(
        "a chain of conditions with `let` needs Rust 1.88; one `if` inside the other, `filter` or `let else` does it",
        &found,
    );
}

#[test]
fn chains_are_told_from_nested_conditions() {
    let is = |text: &str| is_let_chain(&text.lines().collect::<Vec<_>>());
    let chain = ["if a ", "let Some(b) = c {"].join("&& ");
    assert!(is(&chain));
    assert!(is("if let Some(a) = b\n    && c\n{\n}"));
    assert!(is("} else if let Some(a) = b\n    && c\n{\n}"));
    assert!(is("while let Some(a) = b\n    && c\n{\n}"));
    assert!(!is("if let Some(a) = b {\n    c && d\n}"));
    assert!(!is(
        "if let Some(a) = f(\n    b,\n) {\n    g()\n        && h()\n}"
    ));
    assert!(!is("if a\n    && b\n{\n}"));
}
