//! What tests of overrides need: their rest, sources of text, and files as text.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Env;

/// Waits longer than an override rests after it was applied (D43).
pub fn rest() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// A source of text to inject: the scratch directory's file `name`.
pub fn source(env: &Env, name: &str, text: &str) -> PathBuf {
    let path = env.scratch().join(name);
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    path
}

/// The command that injects the text of `source` into the file `name` of the root.
pub fn inject(name: &str, source: &Path) -> String {
    format!("add_override inject /{name} {}", source.display())
}

/// A file's contents.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// What a symlink leads to.
pub fn target(path: &Path) -> String {
    let target =
        std::fs::read_link(path).unwrap_or_else(|e| panic!("readlink {}: {e}", path.display()));
    target.to_str().expect("a target in UTF-8").to_owned()
}

/// The hidden names in a lower directory, of which work that has ended leaves none.
pub fn hidden_names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .expect("list")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| name.starts_with(".etcfs-hidden-"))
        .collect()
}
