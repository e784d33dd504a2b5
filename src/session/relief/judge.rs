//! Which workers are relieved and who is held back, from what all threads are seen to be at.

use crate::fs::budget::Account;
use crate::session::crew::held::HeldBack;
use std::collections::HashMap;
use std::time::Duration;

/// A request this old is slow: fifty times what one takes that waits for nothing. Many slow ones in a row are as bad as
/// one that is stuck.
const SLOW: Duration = Duration::from_micros(400);
/// A worker is stuck that has been in one request for so long, when no other worker is free.
const STUCK: Duration = Duration::from_millis(3);
/// The same when others are free: a caller is served best on its own CPU.
const STUCK_ANYWAY: Duration = Duration::from_millis(20);

/// What a slow request that a worker is seen at counts against its user, and one that a worker is stuck in. Each look
/// takes one off.
const POINTS: (u32, u32) = (2, 4);
/// So many points have a user held back.
const TOO_MANY: u32 = 7;
/// The most points that are counted.
const MOST_POINTS: u32 = 20;
/// How long a user is held back after the last slow request, in nanoseconds.
const HOLD: u64 = 250_000_000;

/// Root is held back only when so many workers are stuck in its requests.
const ROOT_STUCK: usize = 8;
/// Beyond as many relieved threads as there are workers and these, everybody but root is held back.
const SPARE: usize = 16;
/// Beyond twice as many as there are workers and these, nobody is relieved.
const LAST: usize = 48;

/// A request that a thread is at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnderWay {
    /// Which.
    pub(crate) unique: u64,
    /// Whose.
    pub(crate) account: Account,
    /// How long ago it was read.
    pub(crate) age: Duration,
    /// The worker that is at it, unless it has been relieved.
    pub(crate) place: Option<usize>,
    /// A worker is at it, relieved or not.
    pub(crate) was_worker: bool,
    /// Such requests may always take long.
    pub(crate) is_long: bool,
}

/// What a look has led to.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Workers to be relieved, and the requests that they are stuck in.
    pub(crate) relieve: Vec<(usize, u64)>,
    /// Who is held back.
    pub(crate) held: HeldBack,
}

/// What is remembered from look to look.
pub(crate) struct Judge {
    workers: usize,
    records: HashMap<Account, Standing>,
    /// Which workers are free, of the last look.
    free: Vec<bool>,
}

#[derive(Default)]
struct Standing {
    points: u32,
    /// Held back until then.
    until: Option<u64>,
}

impl Judge {
    /// Nobody is suspected of anything.
    pub(crate) fn new(workers: usize) -> Judge {
        Judge {
            workers,
            records: HashMap::new(),
            free: Vec::with_capacity(workers),
        }
    }

    /// One look at `now` nanoseconds. `reads`: whether a worker is to read at all; `relieved`: how many threads were
    /// relieved and have not left. Allocates nothing while there is nothing to say.
    pub(crate) fn look(
        &mut self,
        now: u64,
        seen: &[UnderWay],
        reads: impl Fn(usize) -> bool,
        relieved: usize,
    ) -> Orders {
        let mut verdict = Orders::default();
        self.free.clear();
        self.free.extend((0..self.workers).map(reads));
        for one in seen {
            if let Some(free) = one.place.and_then(|place| self.free.get_mut(place)) {
                *free = false;
            }
        }
        let stuck = match self.free.contains(&true) {
            true => STUCK_ANYWAY,
            false => STUCK,
        };
        let mut room = (2 * self.workers + LAST).saturating_sub(relieved);
        for one in seen {
            if let Some(place) = one.place.filter(|_| one.age >= stuck && room > 0) {
                room -= 1;
                verdict.relieve.push((place, one.unique));
            }
        }
        self.record(now, seen);
        verdict.held.everybody = relieved + verdict.relieve.len() >= self.workers + SPARE;
        let held = self
            .records
            .iter()
            .filter(|(_, record)| record.until.is_some());
        verdict.held.accounts = held.map(|(account, _)| *account).collect();
        verdict.held.accounts.sort_unstable();
        verdict
    }

    fn record(&mut self, now: u64, seen: &[UnderWay]) {
        for record in self.records.values_mut() {
            record.points = record.points.saturating_sub(1);
            record.until = record.until.filter(|until| *until > now);
        }
        let of_root = |one: &&UnderWay| one.was_worker && one.account.is_root() && one.age >= STUCK;
        let root_is_stuck = seen.iter().filter(of_root).count() >= ROOT_STUCK;
        for one in seen.iter().filter(|one| one.age >= SLOW) {
            let record = self.records.entry(one.account).or_default();
            // What a held back user's requests are like is seen where they are carried out.
            let goes_on = record.until.is_some() && !one.is_long;
            if one.place.is_some() {
                let points = if one.age >= STUCK { POINTS.1 } else { POINTS.0 };
                record.points = MOST_POINTS.min(record.points + points);
            }
            let too_many = match one.account.is_root() {
                true => root_is_stuck,
                false => record.points >= TOO_MANY,
            };
            if too_many || goes_on {
                record.until = Some(now + HOLD);
            }
        }
        self.records
            .retain(|_, record| record.points > 0 || record.until.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A request that has taken so many microseconds.
    fn seen(uid: u32, place: Option<usize>, us: u64) -> UnderWay {
        UnderWay {
            unique: us,
            account: Account::of(uid),
            age: Duration::from_micros(us),
            place,
            was_worker: place.is_some(),
            is_long: false,
        }
    }

    /// Which of `workers` are relieved at the first look.
    fn relieved(
        workers: usize,
        requests: &[UnderWay],
        reads: &[bool],
        already: usize,
    ) -> Vec<usize> {
        let verdict = Judge::new(workers).look(0, requests, |at| reads[at], already);
        verdict.relieve.iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn a_stuck_worker_is_relieved_at_once_when_none_is_free_and_later_otherwise() {
        let both = [seen(1000, Some(0), 5000), seen(0, Some(1), 10)];
        assert_eq!(relieved(2, &both, &[true, true], 0), [0]);
        assert_eq!(relieved(2, &both[..1], &[true, true], 0), [0_usize; 0]);
        assert_eq!(
            relieved(2, &both[..1], &[true, false], 0),
            [0],
            "the other must not read"
        );
        let long = [seen(1000, Some(0), 30_000)];
        assert_eq!(relieved(2, &long, &[true, true], 0), [0]);
        assert_eq!(
            relieved(2, &[seen(1000, None, 30_000)], &[true, true], 0),
            [0_usize; 0]
        );
    }

    #[test]
    fn sixty_four_workers_are_relieved_one_by_one_and_within_a_bound() {
        let stuck: Vec<UnderWay> = (0..64).map(|at| seen(1000, Some(at), 5000)).collect();
        let all: Vec<usize> = (0..64).collect();
        assert_eq!(relieved(64, &stuck, &[true; 64], 0), all);
        assert_eq!(relieved(64, &stuck[..63], &[true; 64], 0), [0_usize; 0]);
        assert_eq!(
            relieved(64, &stuck, &[true; 64], 2 * 64 + LAST - 3),
            [0, 1, 2]
        );
        assert_eq!(
            relieved(64, &stuck, &[true; 64], 2 * 64 + LAST),
            [0_usize; 0]
        );
    }

    #[test]
    fn who_keeps_workers_busy_is_held_back_for_a_while_and_nobody_else() {
        let mut judge = Judge::new(2);
        let reads = |_| true;
        let slow = [seen(1000, Some(0), 900), seen(1001, Some(1), 100)];
        let mut looks = 0;
        while !judge
            .look(looks, &slow, reads, 0)
            .held
            .has(Account::of(1000))
        {
            looks += 1;
            assert!(looks < 20, "it is noticed");
        }
        assert!(
            looks > 2,
            "but not at once: one slow request is nobody's fault"
        );
        // From here on the user's requests are carried out elsewhere, and are slow there.
        let elsewhere = [seen(1000, None, 900)];
        for at in [100 * MS, 300 * MS, 500 * MS] {
            let held = judge.look(at, &elsewhere, reads, 0).held;
            assert!(held.has(Account::of(1000)) && !held.has(Account::of(1001)));
        }
        let long = [UnderWay {
            is_long: true,
            ..elsewhere[0]
        }];
        assert_ne!(
            judge.look(600 * MS, &long, reads, 0).held,
            HeldBack::default()
        );
        assert_eq!(
            judge.look(751 * MS, &long, reads, 0).held,
            HeldBack::default()
        );
        for at in 0..30 {
            judge.look((800 + at) * MS, &[], reads, 0);
        }
        assert!(judge.records.is_empty(), "nothing is remembered for ever");
    }

    #[test]
    fn one_slow_request_now_and_then_has_nobody_held_back() {
        let mut judge = Judge::new(2);
        for look in 0..1000 {
            let slow = [seen(1000, Some(0), 900)];
            let seen = if look % 4 == 0 { &slow[..] } else { &[] };
            let held = judge.look(look * 3 * MS, seen, |_| true, 0).held;
            assert_eq!(held, HeldBack::default(), "look {look}");
        }
    }

    #[test]
    fn root_is_held_back_only_when_many_of_its_requests_are_stuck() {
        let mut judge = Judge::new(16);
        let stuck: Vec<UnderWay> = (0..16).map(|at| seen(0, Some(at), 5000)).collect();
        for look in 0..50 {
            let held = judge.look(look, &stuck[..ROOT_STUCK - 1], |_| true, 0).held;
            assert!(!held.has(Account::ROOT));
        }
        assert!(judge.look(50, &stuck, |_| true, 0).held.has(Account::ROOT));
    }

    #[test]
    fn when_too_many_threads_are_stuck_everybody_but_root_is_held_back() {
        let mut judge = Judge::new(4);
        let held = judge.look(0, &[], |_| true, 4 + SPARE - 1).held;
        assert!(!held.has(Account::of(1000)));
        let held = judge.look(1, &[], |_| true, 4 + SPARE).held;
        assert!(held.has(Account::of(1000)) && !held.has(Account::KERNEL));
        assert!(!held.has(Account::ROOT));
    }
}
