//! The repository keeps its own rules: layers, where unsafe code may be, file sizes, documents and scripts.

mod circles;
mod names;
mod oldest;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Layers of the daemon's crate; a module imports from its own layer and from lower ones. `log` and
/// `printable` only format lines, and `mutex` takes locks, so every layer may use them.
const LAYERS: &[(&str, u32)] = &[
    ("printable", 0),
    ("log", 0),
    ("mutex", 0),
    ("sys", 1),
    ("mount", 1),
    ("ledger", 1),
    ("fs", 2),
    ("ops", 3),
    ("session", 4),
    ("ctl", 5),
    ("docs", 5),
    ("trace", 5),
    ("replay", 5),
    ("supervise", 5),
    ("watchdog", 5),
    ("cli", 5),
    ("daemon", 5),
    ("lib", 5),
    ("main", 5),
];

/// Modules of the same layer that do not know each other.
const STRANGERS: &[(&str, &str)] = &[("sys", "mount")];

/// A longer file most likely holds two ideas.
const LONGEST: usize = 450;

/// What the wire crate may not name: it performs no I/O, has no threads and no clock.
const NOT_ON_THE_WIRE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time",
    "std::sync",
    "rustix",
    "libc::",
];

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The repository's text files by their paths in it; build results and version control are left out.
fn files() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![repo().to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display())) {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if path.is_dir() {
                if !matches!(&*name, "target" | ".git" | "corpus" | "artifacts") {
                    waiting.push(path);
                }
            } else if let (true, Ok(text)) = (name != ".git", fs::read_to_string(&path)) {
                let inside = path.strip_prefix(repo()).expect("a path of the repository");
                found.insert(inside.to_owned(), text);
            }
        }
    }
    found
}

fn rust_files() -> BTreeMap<PathBuf, String> {
    let mut files = files();
    files.retain(|path, _| path.extension().is_some_and(|e| e == "rs"));
    files
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// The modules that a line imports or names by `crate::`, alone or as a list in braces.
fn modules_named(line: &str) -> Vec<&str> {
    let word = |text: &'_ str| {
        text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(str::trim_start).collect(),
            None => vec![rest],
        })
        .map(|text| &text[..word(text)])
        .filter(|name| !name.is_empty())
        .collect()
}

/// The top module that a file under src belongs to.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    // Other programs are crates of their own.
    if first == "bin" || repo().join("src").join(first).join("main.rs").is_file() {
        return None;
    }
    Some(first.trim_end_matches(".rs").to_owned())
}

fn layer_of(module: &str) -> Option<u32> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let Some(module) = module_of(&path) else {
            continue;
        };
        let Some(layer) = layer_of(&module) else {
            wrong.push(format!(
                "{}: {module} has no layer in this test",
                path.display()
            ));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for other in modules_named(code(line)) {
                let upward = layer_of(other).is_none_or(|other| other > layer);
                let stranger = STRANGERS
                    .iter()
                    .any(|(a, b)| (*a == module && *b == other) || (*b == module && *a == other));
                if upward || stranger {
                    wrong.push(format!(
                        "{}:{}: {module} uses {other}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert_none("imports that do not go down", &wrong);
}

#[test]
fn the_wire_crate_does_nothing_but_the_wire() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files()
        .iter()
        .filter(|(path, _)| path.starts_with("proto/src"))
    {
        for (number, line) in text.lines().enumerate() {
            for name in NOT_ON_THE_WIRE
                .iter()
                .filter(|name| code(line).contains(**name))
            {
                wrong.push(format!("{}:{}: {name}", path.display(), number + 1));
            }
        }
    }
    assert_none("I/O, threads or clocks in proto", &wrong);
}

#[test]
fn unsafe_code_is_in_sys_mount_and_tests_with_a_reason_each() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let lines: Vec<&str> = text.lines().collect();
        let allowed = ["src/sys", "src/mount", "tests", "proto/tests", "proto/fuzz"]
            .iter()
            .any(|dir| path.starts_with(dir));
        for (index, line) in lines.iter().enumerate() {
            let opens = ["unsafe {", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| code(line).contains(form));
            if !opens || path.starts_with("tests/tidy") {
                continue;
            }
            let at = format!("{}:{}", path.display(), index + 1);
            if !allowed {
                wrong.push(format!(
                    "{at}: unsafe code belongs to src/sys and src/mount"
                ));
            }
            let reasoned = lines[index.saturating_sub(6)..=index]
                .iter()
                .any(|line| line.contains("SAFETY:"));
            if !reasoned {
                wrong.push(format!("{at}: no SAFETY comment"));
            }
        }
    }
    assert_none("unsafe code", &wrong);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!(
                "{}: {lines} lines; is an idea missing?",
                path.display()
            ));
        }
        // A module's unit tests are described by the module.
        let unit_tests = path.starts_with("src")
            && path
                .iter()
                .any(|part| part == "tests.rs" || part == "tests");
        let documented = text.lines().take(5).any(|line| line.starts_with("//!"));
        if !documented && !unit_tests {
            wrong.push(format!("{}: does not begin with //!", path.display()));
        }
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Cargo would take tests/harness.rs for a test.
        if name == "mod" && (path.starts_with("src") || path.starts_with("proto/src")) {
            wrong.push(format!(
                "{}: a module is a file of its own name",
                path.display()
            ));
        }
        if matches!(&*name, "util" | "utils" | "common" | "helpers") {
            wrong.push(format!("{}: named after nothing", path.display()));
        }
    }
    assert_none("files", &wrong);
}

#[test]
fn nothing_is_left_for_later_or_tied_to_one_machine() {
    let later = [
        "TODO",
        "FIXME",
        "XXX",
        "todo!(",
        "unimplemented!(",
        "#[ignore",
        "dbg!(",
    ];
    let homes = ["/home/", "/root/", "/Users/", "/work/"];
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let own = path.starts_with("tests/tidy") || path.starts_with("proto/tests/frames");
        if own || path.ends_with("Cargo.lock") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let at = format!("{}:{}", path.display(), number + 1);
            // Shell templates such as mktemp's XXXXXX are not notes.
            for mark in later
                .iter()
                .filter(|mark| line.contains(**mark) && !line.contains("XXXX"))
            {
                wrong.push(format!("{at}: {mark}"));
            }
            for home in homes {
                let absolute = line.match_indices(home).any(|(start, _)| {
                    let before = line[..start].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && !"}/._-*".contains(c))
                });
                if absolute {
                    wrong.push(format!("{at}: a path of one machine, {home}"));
                }
            }
        }
    }
    assert_none("left for later, or tied to one machine", &wrong);
}

#[test]
fn scripts_can_be_run_and_stop_on_misspelt_variables() {
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let script = path.starts_with("scripts") || path == Path::new(".ci/run");
        if !script || !text.starts_with("#!") {
            continue;
        }
        let mode = fs::metadata(repo().join(&path))
            .expect("stat a script")
            .permissions()
            .mode();
        if mode & 0o111 != 0o111 {
            wrong.push(format!("{}: not executable", path.display()));
        }
        let strict = text
            .lines()
            .any(|line| line.starts_with("set -") && line.contains('u'));
        if text.contains("bash") && !strict {
            wrong.push(format!("{}: no set -u", path.display()));
        }
        if !text
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("# "))
        {
            wrong.push(format!(
                "{}: its second line does not say what it does",
                path.display()
            ));
        }
    }
    assert_none("scripts", &wrong);
}

#[test]
fn the_readme_names_both_commands() {
    let readme = fs::read_to_string(repo().join("README.md")).expect("README.md");
    for command in ["scripts/test", "scripts/demo"] {
        assert!(
            readme.contains(command),
            "README.md does not name {command}"
        );
        assert!(repo().join(command).is_file(), "{command} does not exist");
    }
}

#[test]
fn every_expected_difference_has_a_diagnosis() {
    let mut wrong = Vec::new();
    for (path, text) in files()
        .iter()
        .filter(|(path, _)| path.starts_with("tests/expected"))
    {
        let suite = path.file_stem().unwrap_or_default();
        if !repo().join("scripts/suites.d").join(suite).is_file() {
            wrong.push(format!("{}: no suite of that name", path.display()));
        }
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if line.split_once(" # ").is_none_or(|(_, why)| why.len() < 20) {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert_none("expected differences without a diagnosis", &wrong);
}
