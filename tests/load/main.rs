//! Many clients of many users at once: nobody fails, nothing is left over, and what memory the load took comes back.
//!
//! `scripts/load [MINUTES]` runs it long and with bounds on time; here it is short, and only counts.

#[path = "../harness/mod.rs"]
mod harness;

mod client;
mod times;

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Env, Etcfs, Opts, forget_names, number, private, stats};
use times::Times;

const CLIENTS: u32 = 64;
const USERS: u32 = 8;
const DIRS: usize = 400;

/// Descriptors beside those for open files and directories: the devices, the sockets, the bases, what the start left.
const OWN_DESCRIPTORS: u64 = 64;

/// What stays of the anonymous memory that a load took, at most: what is kept for the latest forgotten nodes, for entries of
/// tables that are taken out at the next use of their place, and for the buffers of threads that stay.
const KEPT_KIB: u64 = 12 * 1024;

/// No call takes as long on a machine that does nothing else. For `scripts/load` only.
const LONGEST: Duration = Duration::from_secs(1);

/// A figure of `/proc/PID/status`, KiB.
fn kib(etcfs: &Etcfs, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", etcfs.pid())).expect("the status");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.unwrap_or_else(|| panic!("no {field}"))
}

fn descriptors(etcfs: &Etcfs) -> u64 {
    let all = fs::read_dir(format!("/proc/{}/fd", etcfs.pid())).expect("list");
    all.count() as u64
}

fn nodes(etcfs: &Etcfs) -> u64 {
    stats(etcfs)["nodes"].as_u64().expect("nodes")
}

/// The files that all read, and a directory of each client's own.
fn plant(local: &Path, files: usize) {
    for n in 0..DIRS {
        let dir = local.join(format!("shared-{n}"));
        fs::create_dir(&dir).expect("mkdir");
        for file in 0..files / DIRS {
            // Most are empty: in a tmpfs every other one costs a page.
            let text = if file % 50 == 0 { "text" } else { "" };
            fs::write(dir.join(format!("file-{file}")), text).expect("write");
        }
    }
    for n in 0..CLIENTS {
        let dir = local.join(format!("own-{n}"));
        fs::create_dir(&dir).expect("mkdir");
        let user = client::user(n);
        chown(&dir, Some(user), Some(user)).expect("chown");
    }
}

/// The highest figures while clients work.
#[derive(Default)]
struct Peak {
    resident: u64,
    descriptors: u64,
}

fn work(env: &Env, etcfs: &Etcfs, files: usize, time: Duration) -> (Times, Peak) {
    let results = env.dir("results");
    fs::set_permissions(
        &results,
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("chmod");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| client::start(n, &etcfs.mnt(), &results, files / DIRS, time))
        .collect();
    let mut peak = Peak::default();
    let mut left = clients;
    while !left.is_empty() {
        std::thread::sleep(Duration::from_millis(100));
        peak.resident = peak.resident.max(kib(etcfs, "VmRSS:"));
        peak.descriptors = peak.descriptors.max(descriptors(etcfs));
        left.retain_mut(|client| !client.has_ended());
    }
    let all = (0..CLIENTS).map(|n| {
        let text = fs::read_to_string(results.join(n.to_string()));
        let text = text.unwrap_or_else(|e| panic!("client {n} told nothing: {e}"));
        Times::read(&text)
    });
    (all.fold(Times::default(), Times::and), peak)
}

/// Waits for FORGETs, and for what follows upon quiet.
fn until(what: &str, mut figure: impl FnMut() -> u64, most: u64) -> (u64, Duration) {
    let began = Instant::now();
    loop {
        let now = figure();
        if now <= most {
            return (now, began.elapsed());
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{what}: {now} after a minute, and {most} at most are expected"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sixty_four_clients_of_eight_users_do_not_fail_and_leave_nothing() {
    let time = Duration::from_secs(number("ETCFS_LOAD_SECONDS").unwrap_or(4));
    let files = number("ETCFS_LOAD_FILES").unwrap_or(20_000) as usize;
    private(time + Duration::from_secs(600), move |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        plant(&etcfs.local(), files);
        fs::read_dir(etcfs.mnt()).expect("list").count();
        let (rest, own) = (kib(&etcfs, "VmRSS:"), kib(&etcfs, "RssAnon:"));
        let (times, peak) = work(env, &etcfs, files, time);
        let known = nodes(&etcfs);
        println!(
            "{CLIENTS} clients of {USERS} users, {files} files, {} s\n{times}\
             nodes known at the end: {known}\ndescriptors: {} at most\n\
             resident: {rest} KiB before, {} KiB at most, {} KiB at the end",
            time.as_secs(),
            peak.descriptors,
            peak.resident,
            kib(&etcfs, "VmRSS:"),
        );
        assert_eq!(times.failures(), "", "no call failed");
        // Directories in use have one each, a client two files and a listing at most.
        let most = DIRS as u64 + u64::from(CLIENTS) * 4 + OWN_DESCRIPTORS;
        assert!(peak.descriptors <= most, "{} of {most}", peak.descriptors);
        if std::env::var_os("ETCFS_LOAD_STRICT").is_some() {
            assert!(
                times.longest() < LONGEST,
                "a call took {:?}",
                times.longest()
            );
        }
        forget_names(&etcfs.mnt());
        until("nodes", || nodes(&etcfs), 3);
        let (now, after) = until("RssAnon", || kib(&etcfs, "RssAnon:"), own + KEPT_KIB);
        println!(
            "resident: {} KiB when the kernel has forgotten all, {:.1} s after; of its own {now} KiB (before: {own})",
            kib(&etcfs, "VmRSS:"),
            after.as_secs_f64()
        );
        until("descriptors", || descriptors(&etcfs), OWN_DESCRIPTORS);
    });
}
