//! What the processes of a mount have open, whoever of them was replaced: the same.

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, private};
use crate::processes::{all_there, send, until};
use rustix::process::Signal;
use std::fs;
use std::process::Command;

/// Where the descriptors of the server lead, sorted, without the numbers of sockets and pipes.
fn open(etcfs: &Etcfs) -> Vec<String> {
    let server = all_there(&etcfs.mnt()).server.expect("a server");
    let dir = format!("/proc/{server}/fd");
    let links = fs::read_dir(dir).expect("a process").flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let kind = |link: String| match link.split_once(":[") {
        Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
        _ => link,
    };
    let mut all: Vec<_> = links
        .map(|link| kind(link.to_string_lossy().into_owned()))
        .collect();
    all.sort();
    all
}

fn replace(etcfs: &Etcfs, what: &str) {
    let before = all_there(&etcfs.mnt());
    match what {
        "server" => send(before.server.expect("a server"), Signal::KILL),
        "keeper" => send(before.keeper.expect("a keeper"), Signal::KILL),
        "spare" => send(before.spare.expect("a spare keeper"), Signal::KILL),
        _ => {
            let program = std::env::var_os("ETCFS_BIN");
            let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_etcfs").into());
            let output = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
                .arg("upgrade")
                .arg(program)
                .arg(etcfs.mnt())
                .output()
                .expect("run etcfsctl");
            assert!(output.status.success(), "{output:?}");
        }
    }
    until("another one is in its place", || {
        let now = all_there(&etcfs.mnt());
        (now.server, now.keeper, now.spare) != (before.server, before.keeper, before.spare)
    });
}

fn the_same_is_open(env: &Env, background: bool) {
    let etcfs = Etcfs::serve(
        env,
        Bases::new(env, Lower::Tmpfs),
        Opts {
            background,
            options: vec!["keeper=yes".to_owned(), "max_deaths=0".to_owned()],
            ..Opts::default()
        },
    );
    fs::create_dir(etcfs.mnt().join("dir")).expect("mkdir");
    fs::write(etcfs.mnt().join("dir/file"), "text").expect("write");
    // From the second server on nothing is open any more that whoever started the daemon had open.
    replace(&etcfs, "server");
    let read = || fs::read(etcfs.mnt().join("dir/file")).expect("read");
    read();
    let mut before = Vec::new();
    until("it is quiet", || {
        let last = std::mem::replace(&mut before, open(&etcfs));
        last == before
    });
    for what in [
        "upgrade", "keeper", "server", "upgrade", "spare", "server", "keeper",
    ] {
        replace(&etcfs, what);
        assert_eq!(read(), b"text");
        let mut now = Vec::new();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while now != before && std::time::Instant::now() < end {
            now = open(&etcfs);
        }
        assert_eq!(now, before, "after another {what}");
    }
}

#[test]
fn what_is_open_is_the_same_whoever_is_replaced() {
    private(DEADLINE, |env| the_same_is_open(env, false));
}

/// The sinks of its log, too.
#[test]
fn what_a_daemon_in_the_background_has_open_is_the_same_whoever_is_replaced() {
    private(DEADLINE, |env| the_same_is_open(env, true));
}
