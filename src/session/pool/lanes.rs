//! Whose turn it is: one queue for each account, which take turns.

use crate::fs::budget::Account;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What may be under way and wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of one account under way at once.
    pub(crate) each: usize,
    /// Of all accounts but root's under way at once.
    pub(crate) all: usize,
    /// Of root under way at once, beyond those.
    pub(crate) root: usize,
    /// Bytes of one account that wait.
    pub(crate) bytes_each: usize,
    /// Bytes of all accounts but root's that wait.
    pub(crate) bytes_all: usize,
}

/// A request that waits for its turn.
pub(crate) trait Waiting {
    /// Which request it is.
    fn unique(&self) -> u64;
    /// The memory that it takes.
    fn bytes(&self) -> usize;
}

/// Requests that wait, by account, and how many of each are under way.
pub(crate) struct Lanes<T> {
    bounds: Bounds,
    lanes: HashMap<Account, Lane<T>>,
    /// Accounts other than root with something that may begin, each once.
    turns: VecDeque<Account>,
    /// Where the requests that wait are, by `unique`.
    places: HashMap<u64, (Account, u64)>,
    /// The next number in a lane.
    next: u64,
    /// Under way for all but root.
    running: usize,
    /// Bytes of all but root's that wait.
    bytes: usize,
}

struct Lane<T> {
    /// By the order in which they came.
    waiting: BTreeMap<u64, T>,
    running: usize,
    bytes: usize,
    /// It is in `turns`.
    listed: bool,
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane {
            waiting: BTreeMap::new(),
            running: 0,
            bytes: 0,
            listed: false,
        }
    }
}

impl<T: Waiting> Lanes<T> {
    /// Nothing waits.
    pub(crate) fn new(bounds: Bounds) -> Lanes<T> {
        Lanes {
            bounds,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            places: HashMap::new(),
            next: 0,
            running: 0,
            bytes: 0,
        }
    }

    /// Has `one` wait for the turn of `account`.
    ///
    /// # Errors
    /// Gives it back when too much waits already. What the kernel sends of its own accord is never given back: nobody
    /// would send it again, and what it ends would stay for ever.
    pub(crate) fn push(&mut self, account: Account, one: T) -> Result<(), T> {
        let bytes = one.bytes();
        let lane = self.lanes.entry(account).or_default();
        let full = lane.bytes + bytes > self.bounds.bytes_each
            || !account.is_root() && self.bytes + bytes > self.bounds.bytes_all;
        if full && account != Account::KERNEL {
            return Err(one);
        }
        self.push_anyway(account, one);
        Ok(())
    }

    /// The same, however much waits.
    pub(crate) fn push_anyway(&mut self, account: Account, one: T) {
        let bytes = one.bytes();
        let lane = self.lanes.entry(account).or_default();
        lane.bytes += bytes;
        if !account.is_root() {
            self.bytes += bytes;
        }
        self.next += 1;
        self.places.insert(one.unique(), (account, self.next));
        lane.waiting.insert(self.next, one);
        self.list(account);
    }

    /// True if something that waits may begin.
    pub(crate) fn any_may_begin(&self) -> bool {
        self.root_may_begin() || self.running < self.bounds.all && !self.turns.is_empty()
    }

    fn root_may_begin(&self) -> bool {
        let root = self.lanes.get(&Account::ROOT);
        root.is_some_and(|lane| !lane.waiting.is_empty() && lane.running < self.bounds.root)
    }

    /// What is to begin: root's, whose threads nobody else has, and otherwise that of the account whose turn it is. To be
    /// followed by [`Lanes::ended`].
    pub(crate) fn begin(&mut self) -> Option<(Account, T)> {
        let account = if self.root_may_begin() {
            Account::ROOT
        } else if self.running < self.bounds.all {
            self.turns.pop_front()?
        } else {
            return None;
        };
        let lane = self.lanes.get_mut(&account)?;
        lane.listed = false;
        let (_, one) = lane.waiting.pop_first()?;
        self.places.remove(&one.unique());
        lane.running += 1;
        lane.bytes -= one.bytes();
        if !account.is_root() {
            self.running += 1;
            self.bytes -= one.bytes();
        }
        self.list(account);
        Some((account, one))
    }

    /// Something of `account` that had begun has ended.
    pub(crate) fn ended(&mut self, account: Account) {
        if !account.is_root() {
            self.running -= 1;
        }
        let Some(lane) = self.lanes.get_mut(&account) else {
            return;
        };
        lane.running -= 1;
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(&account);
            return;
        }
        self.list(account);
    }

    /// Nothing waits, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Request `unique`, if it waits.
    pub(crate) fn find(&self, unique: u64) -> Option<&T> {
        let (account, at) = self.places.get(&unique)?;
        self.lanes.get(account)?.waiting.get(at)
    }

    /// Takes request `unique` out if it waits.
    pub(crate) fn take_out(&mut self, unique: u64) -> Option<T> {
        let (account, at) = self.places.remove(&unique)?;
        let lane = self.lanes.get_mut(&account)?;
        let one = lane.waiting.remove(&at)?;
        lane.bytes -= one.bytes();
        if !account.is_root() {
            self.bytes -= one.bytes();
        }
        if lane.waiting.is_empty() {
            if lane.listed {
                lane.listed = false;
                self.turns.retain(|listed| *listed != account);
            }
            if lane.running == 0 {
                self.lanes.remove(&account);
            }
        }
        Some(one)
    }

    /// The request of each account that has waited longest.
    pub(crate) fn first_of_each(&self) -> impl Iterator<Item = &T> {
        let lanes = self.lanes.values();
        lanes.filter_map(|lane| lane.waiting.first_key_value().map(|(_, one)| one))
    }

    /// Gives the account a turn if it has something to do with one.
    fn list(&mut self, account: Account) {
        let Some(lane) = self.lanes.get_mut(&account) else {
            return;
        };
        let ready = !lane.waiting.is_empty() && lane.running < self.bounds.each;
        if ready && !lane.listed && !account.is_root() {
            lane.listed = true;
            self.turns.push_back(account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Waiting for (u64, usize) {
        fn unique(&self) -> u64 {
            self.0
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    const BOUNDS: Bounds = Bounds {
        each: 2,
        all: 4,
        root: 2,
        bytes_each: 100,
        bytes_all: 150,
    };

    fn lanes() -> Lanes<(u64, usize)> {
        Lanes::new(BOUNDS)
    }

    fn uid(uid: u32) -> Account {
        Account::of(uid)
    }

    /// The users of all that may begin, in that order.
    fn begun(lanes: &mut Lanes<(u64, usize)>) -> Vec<(Account, u64)> {
        std::iter::from_fn(|| lanes.begin().map(|(account, one)| (account, one.0))).collect()
    }

    #[test]
    fn accounts_take_turns_and_each_keeps_its_order() {
        let mut lanes = lanes();
        for unique in 1..=3 {
            lanes.push(uid(1000), (unique, 1)).expect("room");
        }
        lanes.push(uid(1001), (10, 1)).expect("room");
        assert_eq!(
            begun(&mut lanes),
            [(uid(1000), 1), (uid(1001), 10), (uid(1000), 2)],
            "and the third of the first user when one of the two has ended"
        );
        assert!(!lanes.any_may_begin());
        lanes.ended(uid(1001));
        assert!(!lanes.any_may_begin());
        lanes.ended(uid(1000));
        assert_eq!(begun(&mut lanes), [(uid(1000), 3)]);
    }

    #[test]
    fn all_users_together_leave_root_its_threads() {
        let mut lanes = lanes();
        for user in 0..5 {
            lanes
                .push(uid(1000 + user), (user.into(), 1))
                .expect("room");
            lanes
                .push(uid(1000 + user), (10 + u64::from(user), 1))
                .expect("room");
        }
        assert_eq!(begun(&mut lanes).len(), BOUNDS.all);
        for unique in 100..103 {
            lanes.push(Account::ROOT, (unique, 1)).expect("room");
        }
        assert_eq!(
            begun(&mut lanes),
            [(Account::ROOT, 100), (Account::ROOT, 101)]
        );
        lanes.ended(uid(1000));
        let fifth = begun(&mut lanes);
        assert_eq!(
            fifth,
            [(uid(1004), 4)],
            "whoever has waited longest for a turn"
        );
    }

    #[test]
    fn what_waits_is_bounded_by_account_and_in_all_but_for_the_kernel() {
        let mut lanes = lanes();
        assert_eq!(lanes.push(uid(1000), (1, 101)), Err((1, 101)));
        lanes.push(uid(1000), (1, 100)).expect("room");
        assert_eq!(lanes.push(uid(1000), (2, 1)), Err((2, 1)));
        lanes.push(uid(1001), (3, 50)).expect("room");
        assert_eq!(lanes.push(uid(1002), (4, 1)), Err((4, 1)));
        lanes
            .push(Account::ROOT, (5, 100))
            .expect("root's own room");
        lanes
            .push(Account::KERNEL, (6, 1000))
            .expect("nobody sends it again");
        assert_eq!(begun(&mut lanes).len(), 4);
        lanes
            .push(uid(1002), (4, 1))
            .expect("what is under way waits no more");
    }

    #[test]
    fn what_is_taken_out_leaves_no_trace() {
        let mut lanes = lanes();
        lanes.push(uid(1000), (1, 60)).expect("room");
        lanes.push(uid(1000), (2, 40)).expect("room");
        assert_eq!(lanes.take_out(1), Some((1, 60)));
        assert_eq!(lanes.take_out(1), None);
        assert_eq!(lanes.first_of_each().count(), 1);
        assert_eq!(lanes.take_out(2), Some((2, 40)));
        assert!(lanes.lanes.is_empty() && lanes.turns.is_empty() && lanes.places.is_empty());
        assert_eq!((lanes.bytes, lanes.running), (0, 0));
        assert!(!lanes.any_may_begin());
        lanes.push(uid(1000), (3, 100)).expect("room");
        assert_eq!(begun(&mut lanes), [(uid(1000), 3)]);
        lanes.ended(uid(1000));
        assert!(lanes.lanes.is_empty());
    }
}
