//! How many requests wait for locks, of each user and in all.

use crate::fs::budget::Account;
use crate::mutex::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How many requests of one user may wait for locks, unless told otherwise. Each costs a thread: some 8 KiB of memory
/// and a kernel stack of 16 KiB.
pub(crate) const MAX_LOCK_WAITERS: usize = 1024;

/// How many times as many may wait for all users but root together: one user who has many uids has no more.
const ALL: usize = 3;

/// Everything that waits.
pub(crate) struct Waiters {
    state: Mutex<WaiterCounts>,
    /// How many may wait for one user.
    most: AtomicUsize,
}

impl Default for Waiters {
    fn default() -> Waiters {
        Waiters {
            state: Mutex::default(),
            most: AtomicUsize::new(MAX_LOCK_WAITERS),
        }
    }
}

#[derive(Default)]
struct WaiterCounts {
    by_account: HashMap<Account, usize>,
    /// By uid, for who looks at it.
    by_user: HashMap<u32, usize>,
}

impl Waiters {
    /// Changes how many requests of one user may wait.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many requests of one user may wait.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// How many requests wait for each user.
    pub(crate) fn by_user(&self) -> Vec<(u32, usize)> {
        let state = lock(&self.state);
        state.by_user.iter().map(|(&uid, &n)| (uid, n)).collect()
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).by_user.values().sum()
    }

    /// Lets one more request of `uid` wait, for as long as the place is kept.
    pub(crate) fn enter(self: &Arc<Waiters>, uid: u32) -> Option<Waiter> {
        let account = Account::of(uid);
        let mut state = lock(&self.state);
        let root = state.by_account.get(&Account::ROOT).copied().unwrap_or(0);
        let others = state.by_account.values().sum::<usize>() - root;
        let own = state.by_account.entry(account).or_default();
        let full = *own >= self.most() || !account.is_root() && others >= ALL * self.most();
        if full {
            return None;
        }
        *own += 1;
        *state.by_user.entry(uid).or_default() += 1;
        Some(Waiter {
            all: self.clone(),
            account,
            uid,
        })
    }
}

/// A request's place among those that wait.
pub(crate) struct Waiter {
    all: Arc<Waiters>,
    account: Account,
    uid: u32,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        let mut state = lock(&self.all.state);
        less(&mut state.by_account, &self.account);
        less(&mut state.by_user, &self.uid);
    }
}
