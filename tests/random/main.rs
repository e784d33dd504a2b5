//! Random operations on a mount and on a native tree: every answer and, again and again, the whole state must agree.
//!
//! A failure prints the seed and the last steps. `RANDOM_SEED` and `RANDOM_STEPS` run one seed of one's own.

mod data;
#[path = "../harness/mod.rs"]
mod harness;
mod locks;
mod steps;

use std::path::Path;
use std::time::Duration;

use harness::{Bases, Etcfs, Lower, Opts, Rng, differences, number, private, snapshot};
use steps::{Sides, step};

/// Steps of one seed.
const STEPS: u32 = 20_000;

/// The whole trees are compared each so many steps, and at the end.
const COMPARE_EACH: u32 = 2_000;

/// Steps that are printed when one differs.
const SHOWN: usize = 12;

/// One in so many steps is the first of another party's turn.
const TURN: u64 = 20;

/// How long the kernel may keep what it was told of names and attributes, twice: a party that has not locked anything
/// sees what others did after that.
const A_TICK: Duration = Duration::from_millis(10);

/// What a seed runs on.
struct Case {
    lower: Lower,
    options: &'static [&'static str],
    /// Who takes turns, and where.
    parties: Parties,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parties {
    /// One, on local names.
    Local,
    /// One, below a global directory.
    Global,
    /// Two strata, below a directory global to both, and a native process in that directory.
    Three,
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
        let bases = Bases::new(env, case.lower);
        let native = bases.native();
        let below = match case.parties {
            Parties::Local => bases.local(),
            Parties::Global | Parties::Three => bases.global().join("tree"),
        };
        let mut all = vec![bases.clone()];
        if case.parties == Parties::Three {
            all.push(bases.second(env, "second"));
        }
        let mut mounts = Vec::new();
        let mut ways = Vec::new();
        for bases in all {
            let etcfs = Etcfs::serve(env, bases, opts.clone());
            match case.parties {
                Parties::Local => ways.push(etcfs.mnt()),
                Parties::Global | Parties::Three => {
                    etcfs
                        .write_config(&["add_global /tree"])
                        .expect("configure");
                    ways.push(etcfs.mnt().join("tree"));
                }
            }
            mounts.push(etcfs);
        }
        if case.parties != Parties::Local {
            std::fs::create_dir(&below).expect("make the global directory");
        }
        if case.parties == Parties::Three {
            ways.push(below.clone());
        }
        let mut sides = Sides::new(ways.clone(), native.clone(), case.lower == Lower::Tmpfs);
        sides.keeps_set_ids = !mounts[0].passes_through();
        let mut rng = Rng::new(seed);
        let mut said: Vec<String> = Vec::new();
        for n in 0..steps {
            let mut outcome = None;
            if rng.one_in(TURN) && sides.turn(&mut rng) {
                // Who locks need not wait before it.
                outcome = locks::handed_over(&mut rng, &sides);
                std::thread::sleep(A_TICK);
            }
            let outcome = outcome.unwrap_or_else(|| step(&mut rng, &mut sides));
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
                std::thread::sleep(A_TICK);
                let seen: String = ways
                    .iter()
                    .map(|way| compare(way, &native, "on the mount", "native"))
                    .collect();
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
            parties: Parties::Local,
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
            parties: Parties::Local,
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
            parties: Parties::Global,
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
            parties: Parties::Local,
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
            parties: Parties::Local,
        },
    );
}

#[test]
fn two_strata_and_a_native_process_on_tmpfs_agree() {
    run(
        6,
        Case {
            lower: Lower::Tmpfs,
            options: &[],
            parties: Parties::Three,
        },
    );
}

#[test]
fn two_strata_and_a_native_process_on_ext4_agree() {
    run(
        7,
        Case {
            lower: Lower::Ext4,
            options: &[],
            parties: Parties::Three,
        },
    );
}

#[test]
fn two_strata_and_a_native_process_with_passthrough_agree() {
    run(
        8,
        Case {
            lower: Lower::Ext4,
            options: &["passthrough"],
            parties: Parties::Three,
        },
    );
}
