//! Servers that are killed all the time, under clients that notice nothing: no call fails, every content is what it must be,
//! and nothing is left over.
//!
//! `scripts/chaos [SECONDS]` runs it long; here it is short. Debug and release builds alike.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../load/times.rs"]
mod times;

mod acts;
mod client;
mod held;
mod killer;
mod left;
mod shared;

use harness::{Bases, Env, Etcfs, Lower, Opts, number, private};
use killer::Killer;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use times::Times;

const CLIENTS: u32 = 8;

/// Entries of the directory that all list.
const MANY: usize = 300;

/// Where a client works, as seen from somewhere.
#[derive(Clone)]
struct Places {
    /// Its own directories: a local one and a global one.
    own: [PathBuf; 2],
    /// For what it holds open: global for half of them.
    held: PathBuf,
    /// Of all clients, on the global side.
    shared: PathBuf,
    /// Of the stratum, on the local side, with many entries.
    many: PathBuf,
}

/// Clients are of two users and of two strata.
fn user_of(client: u32) -> u32 {
    [0, 1000][client as usize % 2]
}

fn stratum_of(client: u32) -> usize {
    client as usize / 2 % 2
}

fn places(client: u32, local: &Path, global: &Path) -> Places {
    Places {
        own: [
            local.join(format!("own-{client}")),
            global.join(format!("shared/own-{client}")),
        ],
        held: match client < CLIENTS / 2 {
            true => local.join(format!("held-{client}")),
            false => global.join(format!("shared/held-{client}")),
        },
        shared: global.join("shared"),
        many: local.join("many"),
    }
}

fn open_to(dir: &Path, user: u32, mode: u32) {
    fs::create_dir_all(dir).expect("mkdir");
    chown(dir, Some(user), Some(user)).expect("chown");
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// What the clients find.
fn plant(strata: &[Etcfs; 2]) {
    open_to(&strata[0].global().join("shared"), 0, 0o777);
    for name in shared::COUNTERS.iter().chain([&shared::LOG]) {
        let file = strata[0].global().join("shared").join(name);
        fs::write(&file, "").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("chmod");
    }
    for etcfs in strata {
        let many = etcfs.local().join("many");
        open_to(&many, 0, 0o755);
        for n in 0..MANY {
            fs::write(many.join(format!("an-entry-{n}")), "").expect("write");
        }
    }
    for client in 0..CLIENTS {
        let etcfs = &strata[stratum_of(client)];
        let places = places(client, &etcfs.local(), &etcfs.global());
        for own in places.own.iter().chain([&places.held]) {
            open_to(own, user_of(client), 0o755);
        }
    }
}

fn strata(env: &Env, options: [&[&str]; 2], lower: Lower) -> [Etcfs; 2] {
    let first = Bases::new(env, lower);
    let second = first.second(env, "other");
    let mut options = options.into_iter();
    [(first, "first"), (second, "second")].map(|(bases, stratum)| {
        let more = options.next().unwrap_or_default().iter();
        let all = ["keeper=yes", "max_deaths=0"];
        Etcfs::serve(
            env,
            bases,
            Opts {
                stratum: stratum.to_owned(),
                options: all.iter().chain(more).map(|o| (*o).to_owned()).collect(),
                config: vec!["add_global /shared".to_owned()],
                ..Opts::default()
            },
        )
    })
}

/// Lets clients work while servers die; every difference is a failure.
fn run(env: &Env, options: [&[&str]; 2], lower: Lower, time: Duration) {
    let strata = strata(env, options, lower);
    plant(&strata);
    // What whoever starts the daemon has left open goes with the first server.
    strata.iter().for_each(killer::replace_server);
    let before = strata.each_ref().map(left::Figures::of);
    let results = env.dir("results");
    fs::set_permissions(&results, fs::Permissions::from_mode(0o777)).expect("chmod");
    let end = Instant::now() + time;
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let etcfs = &strata[stratum_of(n)];
            let seen = places(n, &etcfs.mnt(), &etcfs.mnt());
            client::start(n, etcfs.mnt(), seen, &results, end)
        })
        .collect();
    let mut killer = Killer::new(&strata);
    killer.kill_until(end, &mut || {
        clients.retain_mut(|client| !client.has_ended());
        clients.is_empty()
    });
    while !clients.is_empty() {
        clients.retain_mut(|client| !client.has_ended());
        std::thread::sleep(Duration::from_millis(20));
    }
    let told: Vec<_> = (0..CLIENTS).map(|n| client::told(&results, n)).collect();
    let mut failures: Vec<String> = told.iter().flat_map(|told| told.failures.clone()).collect();
    for (n, told) in (0..).zip(&told) {
        let etcfs = &strata[stratum_of(n)];
        let below = places(n, &etcfs.local(), &etcfs.global());
        failures.extend(told.differences(n, &below));
    }
    failures.extend(killer.failures());
    failures.extend(shared::differences(
        &strata[0].global().join("shared"),
        &told,
    ));
    let calls = told.into_iter().map(|told| told.times);
    let times = calls.fold(Times::default(), Times::and);
    failures.extend(times.failures().lines().map(str::to_owned));
    println!(
        "longest call: {} ms, waits for locks included",
        times.longest().as_millis()
    );
    println!(
        "{:?} on {lower:?}, {} s\n{times}{killer}",
        options,
        time.as_secs()
    );
    for (etcfs, before) in strata.iter().zip(&before) {
        println!("{}", left::Stalls::of(etcfs));
        failures.extend(left::over(etcfs, before));
    }
    let told = strata.each_ref().map(Etcfs::stderr).concat();
    let odd = told.lines().filter(|line| !killer::is_of_a_kill(line));
    let odd: Vec<_> = odd.take(20).collect();
    assert!(
        failures.is_empty(),
        "{}\n{}",
        failures.join("\n"),
        odd.join("\n")
    );
    assert_eq!(odd, [""; 0], "nothing else is to be told");
}

fn chaos(options: [&'static [&'static str]; 2], lower: Lower) {
    // Each of the tests takes its part of the time.
    let time = Duration::from_secs(number("ETCFS_CHAOS_SECONDS").unwrap_or(20) / 2);
    private(time + Duration::from_secs(300), move |env| {
        run(env, options, lower, time);
    });
}

#[test]
fn nobody_notices_deaths() {
    chaos([&[], &[]], Lower::Tmpfs);
}

#[test]
fn nobody_notices_deaths_while_files_are_passed_through() {
    chaos([&["passthrough"], &[]], Lower::Tmpfs);
}
