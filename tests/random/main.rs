//! Random operations on a mount and on a native tree: every answer and, again and again, the whole state must agree.
//!
//! A failure prints the seed and the last steps. `RANDOM_SEED` and `RANDOM_STEPS` run one seed of one's own.

mod data;
#[path = "../harness/mod.rs"]
mod harness;
mod steps;

use std::path::Path;
use std::time::Duration;

use harness::{Etcfs, Lower, Opts, Rng, differences, number, private, snapshot};
use steps::{Sides, step};

/// Steps of one seed.
const STEPS: u32 = 20_000;

/// The whole trees are compared each so many steps, and at the end.
const COMPARE_EACH: u32 = 2_000;

/// Steps that are printed when one differs.
const SHOWN: usize = 12;

/// What a seed runs on.
struct Case {
    lower: Lower,
    options: &'static [&'static str],
    /// True: everything happens below a global directory.
    global: bool,
}

fn run(seed: u64, case: Case) {
    let seed = number("RANDOM_SEED").unwrap_or(seed);
    let steps = number("RANDOM_STEPS").map_or(STEPS, |n| u32::try_from(n).unwrap_or(STEPS));
    private(Duration::from_secs(200), move |env| {
        let opts = Opts {
            lower: case.lower,
            options: case.options.iter().map(|&o| o.to_owned()).collect(),
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        let (mount, below) = if case.global {
            let below = etcfs.global().join("tree");
            std::fs::create_dir(&below).expect("make the global directory");
            etcfs
                .write_config(&["add_global /tree"])
                .expect("configure");
            (etcfs.mnt().join("tree"), below)
        } else {
            (etcfs.mnt(), etcfs.local())
        };
        let native = etcfs.native();
        let mut sides = Sides::new(mount.clone(), native.clone(), case.lower == Lower::Tmpfs);
        sides.keeps_set_ids = !etcfs.passes_through();
        let mut rng = Rng::new(seed);
        let mut said: Vec<String> = Vec::new();
        for n in 0..steps {
            let outcome = step(&mut rng, &mut sides);
            let line = format!("{n}: {} -> {}", outcome.what, outcome.native);
            said.push(line);
            let first = said.len().saturating_sub(SHOWN);
            assert!(
                outcome.on_mount == outcome.native,
                "seed {seed}, step {n}: {}\n  mount  {}\n  native {}\nsteps before it:\n{}",
                outcome.what,
                outcome.on_mount,
                outcome.native,
                said[first..said.len() - 1].join("\n")
            );
            if n % COMPARE_EACH == COMPARE_EACH - 1 || n + 1 == steps {
                let seen = compare(&mount, &native, "mount", "native");
                let beneath = compare(&below, &native, "beneath the mount", "native");
                assert!(
                    seen.is_empty() && beneath.is_empty(),
                    "seed {seed}, after step {n}:\n{seen}\n{beneath}\nlast steps:\n{}",
                    said[first..].join("\n")
                );
            }
        }
        drop(sides);
        eprintln!("seed {seed}: {steps} steps agree");
    });
}

/// The differences between two trees, as text.
fn compare(left: &Path, right: &Path, left_name: &str, right_name: &str) -> String {
    let left = snapshot(left, &[harness::CONFIG]);
    let right = snapshot(right, &[]);
    let lines = differences(&left, &right);
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "first is {left_name}, second is {right_name}:\n{}",
        lines.join("\n")
    )
}

#[test]
fn local_names_on_tmpfs_agree() {
    run(
        1,
        Case {
            lower: Lower::Tmpfs,
            options: &[],
            global: false,
        },
    );
}

#[test]
fn local_names_on_ext4_agree() {
    run(
        2,
        Case {
            lower: Lower::Ext4,
            options: &[],
            global: false,
        },
    );
}

#[test]
fn global_names_on_ext4_agree() {
    run(
        3,
        Case {
            lower: Lower::Ext4,
            options: &[],
            global: true,
        },
    );
}

#[test]
fn local_names_with_passthrough_agree() {
    run(
        4,
        Case {
            lower: Lower::Ext4,
            options: &["passthrough"],
            global: false,
        },
    );
}

#[test]
fn local_names_with_one_thread_agree() {
    run(
        5,
        Case {
            lower: Lower::Tmpfs,
            options: &["threads=1"],
            global: false,
        },
    );
}
