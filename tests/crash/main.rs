//! A server that is killed in the middle of a request: nobody notices, and nothing is done twice.
//!
//! Debug builds kill themselves where `ETCFS_TEST_KILLS` says (`src/sys/stop.rs`; a release build has no such places). What a
//! system call answers on the mount, and what then lies below, is compared with a native directory.

#[path = "../harness/mod.rs"]
mod harness;

mod calls;
mod faults;
mod left_open;
mod listings;
mod ordinary;
mod processes;
mod upgrade;
mod waits;

use calls::{CALLS, Call};
use harness::{Env, Etcfs, Opts, private};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(240);

/// The variable that keeps the kernel from being asked to send requests again.
const NO_RESEND: &str = "ETCFS_TEST_RESENDS_NOTHING";

/// What lies in a directory: what it is and holds, apart from times.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("list") {
        let entry = entry.expect("an entry");
        let path = entry.path();
        let meta = entry.metadata().expect("stat");
        let content = match meta.is_file() {
            true => String::from_utf8_lossy(&std::fs::read(&path).expect("read")).into_owned(),
            false => String::new(),
        };
        let value = &mut [0; 64][..];
        let len = rustix::fs::lgetxattr(&path, c"trusted.x", &mut *value).unwrap_or(0);
        let (mode, links, owner) = (meta.mode(), meta.nlink(), meta.uid());
        let what = format!("{mode:o} {links} {owner} {content:?} {:?}", &value[..len]);
        if meta.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path.strip_prefix(dir).expect("inside").to_owned(), what);
    }
    found
}

/// One call at a time, each killing a server; then all that was answered and all that lies there.
fn all_of(call: &Call, dir: &Path) -> (Vec<String>, BTreeMap<PathBuf, String>) {
    let mut answers = Vec::new();
    for point in call.points {
        let own = dir.join(point);
        std::fs::create_dir(&own).expect("mkdir");
        (call.prepare)(&own);
        answers.push(format!("{point}: {}", (call.run)(&own)));
    }
    (answers, tree(dir))
}

fn killed_over(env: &Env, call: &Call, resends: bool) {
    let anywhere = if call.is_aside { "*" } else { "" };
    let kills: Vec<String> = call
        .points
        .iter()
        .map(|point| format!("{point}:{}{anywhere}", call.request().0))
        .collect();
    let mut vars = vec![("ETCFS_TEST_KILLS".to_owned(), kills.join(","))];
    if !resends {
        vars.push((NO_RESEND.to_owned(), String::new()));
    }
    let bases = harness::Bases::new(env, harness::Lower::Tmpfs);
    let etcfs = Etcfs::serve(
        env,
        bases,
        Opts {
            options: vec!["keeper=yes".into()],
            vars,
            ..Opts::default()
        },
    );
    // The directories that the calls work in are made below, since that would be a call itself.
    let mut answers = Vec::new();
    let mut deaths = 0;
    for point in call.points {
        let below = etcfs.local().join(point);
        std::fs::create_dir(&below).expect("mkdir");
        (call.prepare)(&below);
        let before = etcfs.server();
        answers.push(format!("{point}: {}", (call.run)(&etcfs.mnt().join(point))));
        deaths += usize::from(etcfs.server() != before);
    }
    let served = (answers, tree(&etcfs.local()));
    let native = all_of(call, &etcfs.native());
    assert_eq!(served, native, "{}, resent: {resends}", call.name);
    let expected = if call.many { 1..=4 } else { 4..=4 };
    assert!(
        expected.contains(&deaths),
        "{deaths} deaths by {}:\n{}",
        call.name,
        etcfs.stderr()
    );
}

fn each(resends: bool) {
    private(DEADLINE, move |env| {
        for call in CALLS {
            killed_over(env, call, resends);
        }
    });
}

#[test]
fn every_call_is_answered_as_natively_when_requests_are_sent_again() {
    each(true);
}

#[test]
fn every_call_is_answered_as_natively_when_nothing_is_sent_again() {
    each(false);
}
