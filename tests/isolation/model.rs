//! Random acts of several parties, on a mount and on a native tree: users, roots that lack capabilities, root of a user
//! namespace, each also beneath the mount and through another stratum's. What each answers, and again and again the whole
//! trees, must agree; where they may not is in `known`.
//!
//! A failure prints the seed and the fewest steps that were found to show it. `RANDOM_SEED` and `RANDOM_STEPS` run a seed of
//! one's own, `RANDOM_MINUTES` (scripts/fuzz model) one seed after the other.

mod act;
mod doing;
mod found;
mod known;
mod party;
mod places;
mod rows;
mod steps;
mod world;

use std::time::{Duration, Instant};

use crate::harness::{Lower, number, private};
use known::KNOWN;
use steps::{Step, Steps, Way};
use world::{Case, World};

/// Steps of one seed.
const STEPS: u64 = 3_000;

/// Both trees are made anew after so many.
const RESET_EACH: usize = 400;

/// What is beneath the mount is compared each so many steps, what the mounts show at each new beginning.
const COMPARE_EACH: usize = 20;

/// How long the fewest steps are looked for.
const SHRINK: Duration = Duration::from_secs(40);

/// What became of a step.
enum Became {
    Same,
    /// A difference that is known, by its place in the list.
    Known(usize),
    Wrong(Difference),
}

/// A difference that is not known.
struct Difference {
    /// What kind it is, so that fewer steps show the same and not another one.
    kind: String,
    how: String,
}

impl Difference {
    fn of_trees(how: String) -> Difference {
        let kind = "trees".to_owned();
        Difference { kind, how }
    }
}

fn run_step(world: &mut World, step: &Step) -> Became {
    let Some(outcome) = world.step(step) else {
        return Became::Same;
    };
    match known::find(world, step, (&outcome.mount, &outcome.native)) {
        Some(index) => Became::Known(index),
        None if outcome.mount == outcome.native => Became::Same,
        None => {
            let kind = |text: &str| text.split(' ').take(2).collect::<Vec<_>>().join(" ");
            Became::Wrong(Difference {
                kind: format!(
                    "{:?} {} {}",
                    std::mem::discriminant(&step.act),
                    kind(&outcome.mount),
                    kind(&outcome.native)
                ),
                how: format!(
                    "{step:?}\nmount  {}\nnative {}",
                    outcome.mount, outcome.native
                ),
            })
        }
    }
}

/// After a difference that is known: whether both trees could be made alike.
fn alike_again(world: &mut World, step: &Step) -> bool {
    // What has no name is not compared.
    let named = step.base.is_none() && step.fd.is_none();
    world::is_look(&step.act)
        || named && world.compare(false).is_empty()
        || (world.catch_up(step) && world.compare(false).is_empty())
}

/// Whether these steps show a difference, from a new beginning.
fn shows(world: &mut World, steps: &[Step]) -> Option<Difference> {
    world.reset();
    for step in steps {
        match run_step(world, step) {
            Became::Same => {}
            Became::Known(_) if alike_again(world, step) => {}
            Became::Known(_) => return None,
            Became::Wrong(difference) => return Some(difference),
        }
        if steps.len() < 30 {
            let differs = world.compare(false);
            if !differs.is_empty() {
                return Some(Difference::of_trees(differs));
            }
        }
    }
    let differs = world.compare(true);
    (!differs.is_empty()).then(|| Difference::of_trees(differs))
}

/// Fewer steps that show a difference, and which.
fn shrink(
    world: &mut World,
    mut steps: Vec<Step>,
    mut found: Difference,
) -> (Vec<Step>, Difference) {
    let until = Instant::now() + SHRINK;
    let mut part = steps.len().div_ceil(2);
    while part > 0 && Instant::now() < until {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && Instant::now() < until {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + part).min(steps.len()));
            match shows(world, &fewer) {
                Some(other) if other.kind == found.kind => (steps, found) = (fewer, other),
                _ => at += part,
            }
        }
        if part == 1 && steps.len() == before {
            break;
        }
        part = (part / 2).max(1);
    }
    (steps, found)
}

fn fail(world: &mut World, seed: u64, history: Vec<Step>, found: Difference) -> ! {
    let how = found.how.clone();
    let (steps, shrunk) = shrink(world, history, found);
    let shrunk = shrunk.how;
    let lines: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    panic!(
        "{:?}, seed {seed}: {how}\nthe fewest steps found ({}) and what they show: {shrunk}\n{}",
        world.case,
        steps.len(),
        lines.join("\n")
    );
}

/// Runs one seed and counts the known differences.
fn run_seed(world: &mut World, seed: u64, steps: u64, seen: &mut [u64]) {
    world.reset();
    let mut source = Steps::new(seed);
    let mut history = Vec::new();
    for n in 0..steps {
        let mut step = source.next();
        if step.way == Way::Second && !world.case.global {
            step.way = Way::Beneath;
        }
        if !world.resolve(&mut step) {
            continue;
        }
        history.push(step.clone());
        let mut again = history.len() == RESET_EACH || n + 1 == steps;
        match run_step(world, &step) {
            Became::Same => {}
            Became::Known(index) => {
                seen[index] += 1;
                again |= !alike_again(world, &step);
                if again {
                    world.reset();
                    history.clear();
                    continue;
                }
            }
            Became::Wrong(found) => fail(world, seed, history, found),
        }
        if again || history.len() % COMPARE_EACH == 0 {
            let differs = world.compare(again);
            if !differs.is_empty() {
                fail(world, seed, history, Difference::of_trees(differs));
            }
        }
        if again {
            world.reset();
            history.clear();
        }
    }
}

fn run(seed: u64, case: Case) {
    let minutes = number("RANDOM_MINUTES");
    let steps = number("RANDOM_STEPS").unwrap_or(STEPS);
    let time = Duration::from_secs(60 * minutes.unwrap_or(0));
    private(time + Duration::from_secs(150), move |env| {
        let mut world = World::new(env, case);
        let mut seen = [0; KNOWN.len()];
        let (first, began) = (number("RANDOM_SEED").unwrap_or(seed), Instant::now());
        let mut seeds = 0;
        while seeds == 0 || began.elapsed() < time {
            run_seed(&mut world, first + seeds, steps, &mut seen);
            seeds += 1;
        }
        let (asked, done) = world.counts;
        eprintln!(
            "{case:?}: {seeds} seeds from {first} of {steps} steps agree in {:?}; {done} of {asked} were carried out",
            began.elapsed()
        );
        assert!(
            done > asked / 4,
            "most steps are of no use: {done} of {asked}"
        );
        for (known, seen) in KNOWN.iter().zip(seen) {
            eprintln!("{seen} times {}: {}", known.what, known.why);
        }
    });
}

const fn case(lower: Lower, passthrough: bool, global: bool) -> Case {
    Case {
        lower,
        passthrough,
        global,
    }
}

/// The process that is root of a user namespace; as a test by itself it has nothing to do.
#[test]
fn party_process() {
    let served = party::serve_if_told();
    assert_eq!(served, party::is_told());
}

#[test]
fn local_names_on_ext4_are_what_they_are_natively_for_all_parties() {
    run(1, case(Lower::Ext4, false, false));
}

#[test]
fn local_names_on_tmpfs_with_passthrough_are_what_they_are_natively_for_all_parties() {
    run(2, case(Lower::Tmpfs, true, false));
}

#[test]
fn global_names_on_ext4_with_passthrough_are_what_they_are_natively_for_all_parties() {
    run(3, case(Lower::Ext4, true, true));
}

#[test]
fn global_names_on_tmpfs_are_what_they_are_natively_for_all_parties() {
    run(4, case(Lower::Tmpfs, false, true));
}
