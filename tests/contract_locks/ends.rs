//! Where a file ends, when others write it too: whoever has a lock sees it as the last holder left it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::DEADLINE;
use crate::agent::Agent;
use crate::harness::{Env, private};
use crate::places::{one_file, two_strata};

/// How many lines each of four processes appends. In the daemon's state before it knew of this, one of ten was lost.
fn times() -> usize {
    let asked = std::env::var("ETCFS_TEST_APPENDS");
    asked.map_or(250, |n| n.parse().expect("a number"))
}

const MODES: [&[&str]; 2] = [&[], &["passthrough"]];
const LOCKS: [&str; 3] = ["flock", "posix", "ofd"];

/// Has four processes append to one file, two of them at each of its places, and counts what is there then.
fn append_at(places: &[PathBuf; 2], beneath: &Path, how: &str) -> (usize, usize) {
    fs::write(beneath, "").expect("write");
    let mut agents: Vec<_> = (0..4)
        .map(|n| {
            let mut agent = Agent::new();
            let tag = char::from(b'a' + n as u8);
            let place = places[n % 2].display();
            let started = agent.start(&format!("append {how} {} {tag} {place}", times()));
            (agent, started)
        })
        .collect();
    for (agent, started) in &mut agents {
        let answer = agent.answer_within(*started, Duration::from_secs(600));
        assert_eq!(answer, Some(Ok(String::new())));
    }
    let text = fs::read_to_string(beneath).expect("read");
    let mut lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    (count, lines.len())
}

/// A local file on the mount and beneath it; `name` is made empty.
fn local_places(env: &Env, options: &[&str]) -> (crate::harness::Etcfs, [PathBuf; 2]) {
    let (etcfs, mount, _) = one_file(env, options);
    let beneath = etcfs.local().join("f");
    (etcfs, [mount, beneath])
}

#[test]
fn no_append_under_a_lock_is_lost_between_strata_9_1() {
    let all = (4 * times(), 4 * times());
    for options in MODES {
        private(DEADLINE * 10, move |env| {
            let (alpha, beta, native) = two_strata(env, options);
            let strata = [alpha.mnt().join("shared"), beta.mnt().join("shared")];
            let natively = [native.clone(), native.clone()];
            for how in LOCKS {
                assert_eq!(append_at(&natively, &native, how), all, "natively, {how}");
                assert_eq!(append_at(&strata, &native, how), all, "{how}, {options:?}");
            }
        });
    }
}

#[test]
fn no_append_under_a_lock_is_lost_beneath_a_local_file_9_1() {
    let all = (4 * times(), 4 * times());
    for options in MODES {
        private(DEADLINE * 10, move |env| {
            let (_etcfs, places) = local_places(env, options);
            for how in LOCKS {
                let had = append_at(&places, &places[1], how);
                assert_eq!(had, all, "{how}, {options:?}");
            }
        });
    }
}

/// Has an agent look for the end of the file at `place` while it is written at `other`.
fn wrong_ends(place: &Path, other: &Path, how: &str) -> String {
    let link = place.with_extension("other");
    std::os::unix::fs::symlink(other, &link).expect("symlink");
    let wrong = Agent::new().call(&format!("end {how} 300 {}", place.display()));
    fs::remove_file(link).expect("rm");
    wrong.expect("the ends")
}

#[test]
fn an_open_file_knows_its_end_when_another_stratum_has_written_9_1() {
    for options in MODES {
        private(DEADLINE, move |env| {
            let (alpha, beta, native) = two_strata(env, options);
            let (here, there) = (alpha.mnt().join("shared"), beta.mnt().join("shared"));
            for how in ["r", "w"] {
                assert_eq!(wrong_ends(&native, &native, how), "0", "natively");
                assert_eq!(wrong_ends(&here, &there, how), "0", "{how}, {options:?}");
            }
        });
    }
}

/// Also where it is looked at by name meanwhile. A reader's open drops nothing, so it may be behind for the tick of the kernel's
/// clock in which it was opened (`etcfsctl help locks`).
#[test]
fn a_local_file_open_for_reading_knows_its_end_after_a_tick_9_1() {
    use std::io::{Seek as _, SeekFrom, Write as _};
    for options in MODES {
        private(DEADLINE, move |env| {
            let strict = [options, &["cache=strict"]].concat();
            let (_etcfs, [mount, beneath]) = local_places(env, &strict);
            let mut file = fs::File::open(&mount).expect("open");
            let mut other = fs::File::options()
                .append(true)
                .open(&beneath)
                .expect("open");
            std::thread::sleep(Duration::from_millis(50));
            let first = fs::metadata(&beneath).expect("stat").len();
            for n in 1..=300 {
                fs::metadata(&mount).expect("stat");
                other.write_all(b"x").expect("append");
                let end = file.seek(SeekFrom::End(0)).expect("seek");
                let size = file.metadata().expect("fstat").len();
                assert_eq!((end, size), (first + n, first + n), "{options:?}");
            }
        });
    }
}

#[test]
fn a_file_open_for_writing_knows_its_end_when_it_was_written_beneath_9_1() {
    for options in MODES {
        private(DEADLINE, move |env| {
            let (_etcfs, [mount, beneath]) = local_places(env, options);
            assert_eq!(wrong_ends(&mount, &beneath, "w"), "0", "{options:?}");
        });
    }
}
