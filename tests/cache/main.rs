//! What the kernel keeps with `cache=watch`, and what it must not show any more: changes through the mount and through another
//! stratum count at once, changes beneath once their event was dealt with. No test waits for a time: each waits for the state.

mod beneath;
mod crowded;
#[path = "../harness/mod.rs"]
mod harness;
mod kept;
mod killed;
mod parties;

mod ruled;
mod through;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Env, Etcfs, Opts, stats};

/// Far more than any of these tests takes.
const DEADLINE: Duration = Duration::from_secs(180);

/// How long what was changed beneath may be seen as it was. The window is a fraction of a millisecond; a machine that is busy
/// with other things is given its time. Less than the minute after which a name is asked for anyway.
const WINDOW: Duration = Duration::from_secs(25);

fn opts(options: &[&str]) -> Opts {
    let mut all = vec!["cache=watch".to_owned()];
    all.extend(options.iter().map(|&option| option.to_owned()));
    Opts {
        options: all,
        ..Opts::default()
    }
}

/// A daemon in the mode, over a local directory `d` with a file `f`, a symlink `l` and a directory `sub`.
fn served(env: &Env, options: &[&str]) -> Etcfs {
    let etcfs = Etcfs::start(env, opts(options));
    let dir = etcfs.local().join("d");
    fs::create_dir_all(dir.join("sub")).expect("mkdir");
    fs::write(dir.join("f"), "first").expect("write");
    std::os::unix::fs::symlink("first", dir.join("l")).expect("symlink");
    etcfs
}

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + WINDOW;
    while !is_so() {
        assert!(Instant::now() < end, "not within {WINDOW:?}: {what}");
        std::thread::yield_now();
    }
}

/// What `etcfsctl stats` says of the cache.
fn cache(etcfs: &Etcfs, field: &str) -> u64 {
    let stats = stats(etcfs);
    let cache = &stats["cache"];
    assert_eq!(cache["mode"], "watch", "the mode is not on");
    cache[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {cache}"))
}

/// Has the kernel keep `path`, which is there or not, and what it is.
fn warm(path: &Path) {
    for _ in 0..3 {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            let _ = fs::read_link(path);
        }
        if path.is_dir() {
            let _ = fs::read_dir(path).map(Iterator::count);
        }
    }
}

/// The names in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let list = fs::read_dir(dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display()));
    let mut names: Vec<String> = list
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The text of a file, or what is in the way.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| e.to_string())
}

/// Replaces `path` by a new file with this text, as editors do.
fn replace(path: &Path, text: &str) {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    fs::write(&name, text).expect("write");
    fs::rename(&name, path).expect("rename");
}
