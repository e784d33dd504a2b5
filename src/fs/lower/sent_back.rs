//! Who was sent back to look a name up again.
//!
//! The kernel looks a name up and then acts on what it has found. Where that has lost the name meanwhile and is gone, the
//! answer is ESTALE, upon which the kernel does both once more (`retry_estale`, include/linux/namei.h), and once only: a
//! name that others rename over all the time would fail an open(2) which natively never fails. So what is found for
//! somebody who was sent back is held by a descriptor, and can be opened whatever becomes of its name.

use crate::fs::budget::Account;
use crate::mutex::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many are remembered of all users but root, and how many of root.
const MOST: usize = 64;

/// How many of one user: nobody is forgotten because another one has many threads.
const MOST_OF_ONE: usize = MOST / 4;

/// How long. Whoever was sent back asks for the directories on the way first, and for the name at once after that.
const SOON: Duration = Duration::from_secs(1);

/// Who was sent back.
#[derive(Debug, Default)]
pub(crate) struct SentBack {
    any: AtomicBool,
    lists: Mutex<Remembered>,
}

/// The oldest first.
#[derive(Debug, Default)]
struct Remembered {
    root: VecDeque<SentThread>,
    others: VecDeque<SentThread>,
}

#[derive(Debug)]
struct SentThread {
    /// The number that its requests bear.
    number: u32,
    account: Account,
    until: Instant,
}

impl SentBack {
    /// Notes that a request of this thread, of user `uid`, was answered ESTALE.
    pub(crate) fn note(&self, number: u32, uid: u32) {
        let account = Account::of(uid);
        let mut lists = lock(&self.lists);
        lists.keep(|thread| thread.number != number);
        let (list, most_of_one) = match account.is_root() {
            true => (&mut lists.root, MOST),
            false => (&mut lists.others, MOST_OF_ONE),
        };
        let is_own = |thread: &SentThread| thread.account == account;
        if list.iter().filter(|thread| is_own(thread)).count() == most_of_one {
            let oldest = list.iter().position(is_own);
            oldest.and_then(|oldest| list.remove(oldest));
        } else if list.len() == MOST {
            list.pop_front();
        }
        list.push_back(SentThread {
            number,
            account,
            until: Instant::now() + SOON,
        });
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether this thread was sent back a moment ago. One load as long as nobody was.
    pub(crate) fn has(&self, number: u32) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut lists = lock(&self.lists);
        let now = Instant::now();
        lists.keep(|thread| now < thread.until);
        let mut threads = lists.root.iter().chain(&lists.others);
        let has = threads.any(|thread| thread.number == number);
        let any = !lists.root.is_empty() || !lists.others.is_empty();
        self.any.store(any, Ordering::Relaxed);
        has
    }
}

impl Remembered {
    fn keep(&mut self, which: impl Fn(&SentThread) -> bool) {
        self.root.retain(&which);
        self.others.retain(&which);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_forgotten_because_of_anothers_threads() {
        let sent_back = SentBack::default();
        sent_back.note(1, 0);
        sent_back.note(2, 1001);
        for number in 1000..2000 {
            sent_back.note(number, 1000);
        }
        assert!(sent_back.has(1), "root's");
        assert!(sent_back.has(2), "another user's");
        assert!(sent_back.has(1999) && !sent_back.has(1000), "the newest");
    }

    #[test]
    fn root_alone_has_a_list_of_its_own() {
        let sent_back = SentBack::default();
        for number in 0..100 {
            sent_back.note(number, 0);
        }
        assert!(sent_back.has(99) && sent_back.has(36) && !sent_back.has(35));
        for uid in 1000..1100 {
            sent_back.note(10_000 + uid, uid);
        }
        assert!(
            sent_back.has(36),
            "many users together forget none of root's"
        );
        assert!(sent_back.has(11_099) && !sent_back.has(11_000));
    }
}
