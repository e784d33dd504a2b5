mod world;

use super::*;
use crate::fs::locks::ask::Ask;
use crate::ledger::crash::killed_at;
use crate::ledger::table::FlatRecord;
use crate::ledger::{Region, VERSION};
use proptest::prelude::*;
use rustix::fd::AsRawFd as _;
use rustix::io::Errno;
use std::sync::atomic::AtomicU64;
use world::*;
use zerocopy::FromBytes;

const REGIONS: [Region; 4] = [
    Region::LockOwners,
    Region::LockRanges,
    Region::LockHandles,
    Region::LockChanges,
];

/// What a request does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Set(Ask),
    Wait(Ask),
    DropOwner(Owner),
    DropHandle(u64),
}

impl Step {
    fn take(self, world: &World, locks: &Arc<Locks>) {
        match self {
            Step::Set(ask) => drop(world.set(locks, &ask)),
            Step::Wait(ask) => {
                let used = world.used(locks, &ask);
                let _ = used.wait(&ask, ask.kind.unwrap());
            }
            Step::DropOwner(owner) => locks.drop_owner(NODE, owner),
            Step::DropHandle(fh) => locks.drop_handle(NODE, fh),
        }
    }
}

const A: Owner = Owner::Posix(1);
const B: Owner = Owner::Posix(2);
const F: Owner = Owner::Flock(4);

fn kind() -> impl Strategy<Value = Option<LockKind>> {
    prop_oneof![Just(None), Just(SHARED), Just(EXCLUSIVE)]
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..20_u64, 0..20_u64).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let posix = (0..3_u64, 0..4_u64, range, kind());
    let posix =
        posix.prop_map(|(n, fh, range, kind)| Step::Set(ask(Owner::Posix(n), fh, range, kind)));
    let flock = (4..6_u64, kind());
    let flock = flock.prop_map(|(fh, kind)| Step::Set(ask(Owner::Flock(fh), fh, (0, END), kind)));
    prop_oneof![
        6 => posix,
        2 => flock,
        1 => (0..3_u64).prop_map(|n| Step::DropOwner(Owner::Posix(n))),
        1 => (0..4_u64).prop_map(Step::DropHandle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_successor_has_what_was_had(steps in prop::collection::vec(step(), 0..30), more in step()) {
        let world = World::new();
        let locks = world.restored();
        for step in steps {
            step.take(&world, &locks);
        }
        let had = world.all(&locks);
        let order = sinces(&locks);
        // Killed: nothing of it is taken down.
        std::mem::forget(locks);
        let locks = world.restored();
        prop_assert_eq!(world.all(&locks), had);
        prop_assert_eq!(sinces(&locks), order.clone());
        let next = locks.next_lock();
        prop_assert!(order.iter().all(|&(_, since)| since < next));
        more.take(&world, &locks);
        world.all(&locks);
    }

    /// Killed at each point of each step: nothing is locked below that the successor does not know of, the others have what
    /// they had, and the step taken again comes to what it comes to without a kill.
    #[test]
    fn a_step_killed_anywhere_is_taken_again(before in prop::collection::vec(step(), 0..8), last in step()) {
        kill_everywhere(&before, last);
    }

    #[test]
    fn what_is_broken_is_said_to_be(
        words in prop::collection::vec((0..4_usize, 0..64_usize, prop_oneof![0..4_u64, any::<u64>()]), 0..40),
        keep in any::<bool>(),
    ) {
        let world = World::new();
        let locks = world.restored();
        if keep {
            for n in 0..3 {
                let ask = ask(Owner::Posix(n), n, (n * 10, n * 10 + 5), SHARED);
                world.set(&locks, &ask).unwrap();
            }
        }
        let named = world.ledger.named_descriptors();
        std::mem::forget(locks);
        for (region, at, word) in words {
            let region = REGIONS[region];
            let mark = &world.ledger.header().marks[region as usize];
            mark.fetch_max(10, Ordering::Relaxed);
            world.ledger.records::<Word>(region)[at].0.store(word, Ordering::Relaxed);
        }
        let inherited = Inherited::of(named);
        let _ = Locks::over(world.ledger, &inherited, 1000);
    }
}

#[derive(FromBytes)]
#[repr(C)]
struct Word(AtomicU64);

impl FlatRecord for Word {
    fn is_used(&self) -> bool {
        true
    }
}

fn kill_everywhere(before: &[Step], last: Step) {
    let (clean, had) = {
        let world = World::new();
        let locks = world.restored();
        before.iter().for_each(|step| step.take(&world, &locks));
        let had = world.all(&locks);
        last.take(&world, &locks);
        (world.all(&locks), had)
    };
    for at in 0.. {
        let world = World::new();
        let locks = world.restored();
        before.iter().for_each(|step| step.take(&world, &locks));
        let (theirs, own) = (locks.clone(), world.clone());
        let killed = killed_at(at, move || last.take(&own, &theirs));
        std::mem::forget(locks);
        if !killed {
            assert!(
                at > 0 || clean == had,
                "{last:?} has no point to be killed at"
            );
            break;
        }
        world.close_unnamed();
        // The successor may be killed as well.
        let early = world.clone();
        killed_at(at % 7, move || std::mem::forget(early.restored()));
        let locks = world.restored();
        world.all(&locks);
        last.take(&world, &locks);
        assert_eq!(
            world.all(&locks),
            clean,
            "{last:?} killed at {at}, taken again"
        );
    }
}

#[test]
fn every_kind_of_change_can_be_killed_anywhere() {
    let posix = |fh, range, kind| Step::Set(ask(A, fh, range, kind));
    let flock = |kind| Step::Set(ask(F, 4, (0, END), kind));
    let others = [
        Step::Set(ask(B, 2, (90, 99), EXCLUSIVE)),
        Step::Set(ask(B, 2, (40, 49), SHARED)),
    ];
    let cases: &[(&[Step], Step)] = &[
        (&[], posix(0, (10, 19), EXCLUSIVE)),
        (&[], Step::Wait(ask(A, 0, (10, 19), EXCLUSIVE))),
        // A reader's description is exchanged for a writer's.
        (
            &[posix(1, (10, 19), SHARED), posix(1, (30, 45), SHARED)],
            posix(0, (12, 14), EXCLUSIVE),
        ),
        (
            &[posix(0, (10, 19), SHARED)],
            Step::Wait(ask(A, 0, (5, 30), EXCLUSIVE)),
        ),
        (&[posix(0, (10, 19), EXCLUSIVE)], posix(0, (0, END), None)),
        (&[posix(0, (10, 19), EXCLUSIVE)], posix(0, (12, 13), None)),
        (&[posix(0, (10, 19), EXCLUSIVE)], posix(2, (12, 13), SHARED)),
        (
            &[posix(0, (0, 19), SHARED), posix(0, (30, 39), SHARED)],
            posix(0, (20, 29), SHARED),
        ),
        (
            &[posix(0, (0, 9), EXCLUSIVE), posix(0, (20, 29), SHARED)],
            posix(0, (5, 25), EXCLUSIVE),
        ),
        (
            &[posix(0, (0, 9), EXCLUSIVE), posix(2, (20, 29), SHARED)],
            Step::DropOwner(A),
        ),
        (&[posix(0, (0, 9), EXCLUSIVE)], Step::DropHandle(0)),
        (
            &[posix(0, (0, 9), EXCLUSIVE), posix(2, (20, 29), SHARED)],
            Step::DropHandle(0),
        ),
        // Somebody is in the way.
        (&[posix(0, (80, 85), SHARED)], posix(0, (80, 95), EXCLUSIVE)),
        (&[], flock(EXCLUSIVE)),
        (&[flock(SHARED)], flock(EXCLUSIVE)),
        (&[flock(EXCLUSIVE)], flock(EXCLUSIVE)),
        (&[flock(EXCLUSIVE)], flock(None)),
        (&[flock(EXCLUSIVE)], Step::DropOwner(F)),
    ];
    for (before, last) in cases {
        kill_everywhere(&[&others[..], before].concat(), *last);
    }
}

/// A lock that was had below and is not noted is not to stay: the client may have been told that it has none.
#[test]
fn what_was_had_and_not_noted_is_given_up() {
    let mut given_up = 0;
    for at in 0.. {
        let world = World::new();
        let locks = world.restored();
        world.set(&locks, &ask(A, 0, (0, 9), SHARED)).unwrap();
        let had = world.all(&locks);
        let (theirs, own) = (locks.clone(), world.clone());
        let wanted = ask(A, 0, (5, 29), EXCLUSIVE);
        if !killed_at(at, move || _ = own.set(&theirs, &wanted)) {
            break;
        }
        let fd = lock(&locks.tables.get(NODE).unwrap()).owners[&A]
            .description
            .load()
            .fd
            .as_raw_fd();
        let was_had = below(fd).0 != [(0, 9, "READ")];
        std::mem::forget(locks);
        world.close_unnamed();
        let locks = world.restored();
        let has = world.all(&locks);
        if has == had {
            given_up += usize::from(was_had);
        } else {
            assert_eq!(has[0].1, [(0, 4, "READ"), (5, 29, "WRITE")]);
        }
    }
    assert!(given_up > 0);
}

/// What was given away and is somebody else's by then cannot be had back, and is noted so.
#[test]
fn what_was_given_up_and_taken_by_a_rival_is_not_had() {
    let world = World::new();
    let locks = world.restored();
    world.set(&locks, &ask(A, 0, (0, 9), EXCLUSIVE)).unwrap();
    let used = locks.find(NODE, A).unwrap();
    let rival = world.open(true).unwrap();
    // Half way: the change is written down and made, and nothing noted.
    let kept = &lock(&locks.tables.get(NODE).unwrap()).owners[&A]
        .kept
        .clone();
    for (range, kind) in [((0, 3), EXCLUSIVE), ((4, 6), None)] {
        let (first, last) = range;
        std::mem::forget(kept.begin_change(Range { first, last }, kind));
    }
    let all = Range { first: 0, last: 6 };
    sys::ofd_set(&used.description().fd, all, None).unwrap();
    let first = Range { first: 0, last: 1 };
    sys::ofd_set(&rival.fd, first, Some(LockKind::Shared)).unwrap();
    std::mem::forget((used, locks));
    let locks = world.restored();
    // Three ranges cannot be asked for in part.
    assert_eq!(world.all(&locks)[0].1, [(0, 3, "READ"), (7, 9, "WRITE")]);
}

#[test]
fn the_end_of_a_watched_process_is_noticed_by_the_successor() {
    let world = World::new();
    let locks = world.restored();
    locks.lookout.prepare().unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    for owner in [A, B] {
        let at = if owner == A { 0 } else { 10 };
        world
            .set(&locks, &ask(owner, 0, (at, at + 5), EXCLUSIVE))
            .unwrap();
    }
    let holder = lock(&locks.tables.get(NODE).unwrap()).owners[&A].clone();
    let watched = locks.lookout.watch((NODE, A), child.id()).unwrap();
    holder.kept.set_watch(watched.kept());
    *lock(&holder.watch) = Watch::Of(watched);
    locks.owners.go_on_with(holder.account, 1);
    std::mem::forget((holder, locks));
    let locks = world.restored();
    assert_eq!(locks.len(), 3, "two descriptions and a process");
    let used = locks.find(NODE, A).unwrap();
    assert!(!used.release_if_ended());
    drop(used);
    std::mem::forget(locks);
    child.kill().unwrap();
    child.wait().unwrap();
    let locks = world.restored();
    let keeping = locks.clone();
    std::thread::spawn(move || keeping.keep());
    while locks.len() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(world.all(&locks)[0].0, B);
}

#[test]
fn who_waited_for_a_lock_gets_it_from_the_successor() {
    let world = World::new();
    let locks = world.restored();
    world.set(&locks, &ask(B, 0, (0, 9), EXCLUSIVE)).unwrap();
    let wanted = ask(A, 0, (5, 5), EXCLUSIVE);
    let used = world.used(&locks, &wanted);
    let kept = lock(&locks.tables.get(NODE).unwrap()).owners[&A]
        .kept
        .clone();
    std::mem::forget(kept.begin_change(wanted.range, wanted.kind));
    std::mem::forget((used, locks));
    let locks = world.restored();
    let has = world.all(&locks);
    assert_eq!(has.iter().map(|has| has.0).collect::<Vec<_>>(), [B]);
    assert_eq!(world.set(&locks, &wanted), Err(Errno::AGAIN));
    locks.drop_owner(NODE, B);
    assert_eq!(world.set(&locks, &wanted), Ok(()));
    assert_eq!(
        VERSION,
        world.ledger.header().version.load(Ordering::Relaxed)
    );
}
