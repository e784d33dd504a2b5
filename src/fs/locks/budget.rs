//! How much of something the users may have at a time.
//!
//! A bound for each account keeps one user from taking all. Whoever has more accounts than one meets the bound for all but
//! root together, and what is beyond that is root's.

use crate::fs::budget::Account;
use crate::mutex::lock;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the users have, and may have.
pub(crate) struct Budget {
    most: usize,
    had: Mutex<Had>,
    /// The sum, to be read without the lock.
    total: AtomicUsize,
}

#[derive(Default)]
struct Had {
    by_account: HashMap<Account, usize>,
    total: usize,
}

impl Budget {
    /// `most` for all, three quarters of it for all but root, and a quarter for one of those.
    pub(crate) fn new(most: usize) -> Budget {
        Budget {
            most,
            had: Mutex::default(),
            total: AtomicUsize::new(0),
        }
    }

    /// What all users have.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Acquire)
    }

    /// Takes `n` more for `account`.
    ///
    /// # Errors
    /// ENOLCK where that is too much.
    pub(crate) fn take(&self, account: Account, n: usize) -> Result<(), Errno> {
        if n == 0 {
            return Ok(());
        }
        let mut had = lock(&self.had);
        let (own, total) = (had.of(account) + n, had.total + n);
        let others = total - had.of(Account::ROOT);
        let within = own <= self.most / 4 && others <= self.most / 4 * 3;
        let fits = total <= self.most && (within || account.is_root());
        if !fits {
            return Err(Errno::NOLCK);
        }
        had.by_account.insert(account, own);
        self.set_total(&mut had, total);
        Ok(())
    }

    /// Counts `n` that a predecessor has taken for `account`, whatever the bounds.
    pub(crate) fn go_on_with(&self, account: Account, n: usize) {
        let mut had = lock(&self.had);
        let (own, total) = (had.of(account) + n, had.total + n);
        if n > 0 {
            had.by_account.insert(account, own);
            self.set_total(&mut had, total);
        }
    }

    /// Gives back `n` that [`Budget::take`] took for `account`.
    pub(crate) fn give(&self, account: Account, n: usize) {
        if n == 0 {
            return;
        }
        let mut had = lock(&self.had);
        match had.of(account).saturating_sub(n) {
            0 => had.by_account.remove(&account),
            own => had.by_account.insert(account, own),
        };
        let total = had.total.saturating_sub(n);
        self.set_total(&mut had, total);
    }

    fn set_total(&self, had: &mut Had, total: usize) {
        had.total = total;
        self.total.store(total, Ordering::Release);
    }
}

impl Had {
    fn of(&self, account: Account) -> usize {
        self.by_account.get(&account).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_bounds_alone_and_together_and_root_has_the_rest() {
        let budget = Budget::new(16);
        let take = |uid, n| budget.take(Account::of(uid), n);
        let full = Err(Errno::NOLCK);
        assert_eq!(take(1000, 4), Ok(()));
        assert_eq!(take(1000, 1), full);
        // One range of subordinate ids is one user, and as many as one likes are stopped together.
        assert_eq!(take(100_000, 4), Ok(()));
        assert_eq!(take(100_001, 1), full);
        assert_eq!(take(200_000, 4), Ok(()));
        assert_eq!(take(300_000, 1), full);
        assert_eq!(take(0, 4), Ok(()));
        assert_eq!(take(0, 1), full);
        budget.give(Account::of(1000), 3);
        assert_eq!(take(1000, 4), full);
        assert_eq!(take(1000, 3), Ok(()));
        for uid in [1000, 100_000, 200_000, 0] {
            budget.give(Account::of(uid), 4);
        }
        assert_eq!(budget.total(), 0);
        assert!(lock(&budget.had).by_account.is_empty());
    }
}
