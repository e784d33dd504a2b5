//! Descriptors for clients' open files and directories.
//!
//! Asked at every open, so it is a few atomic additions and no lock: accounts are counted in a table of slots, by hash. Two
//! accounts may share a slot and then the bound, which nobody can bring about on purpose: the hash is seeded at start. The
//! slot is part of the handle's number, so that what has no descriptor here (an open that is passed through) is given back
//! as well.

use super::Account;
use rustix::io::Errno;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bits of a slot's number.
const SLOT_BITS: u32 = 12;
/// Slot 0 is root's.
const SLOTS: usize = 1 << SLOT_BITS;
/// Where the slot stands in a handle's number: above what counts up, below the flag of opens without a descriptor.
const SLOT_SHIFT: u32 = 48;

/// How many opens the users have, and may have.
pub struct Descriptors {
    slots: Box<[AtomicUsize]>,
    all: AtomicUsize,
    hasher: foldhash::quality::RandomState,
    most: usize,
}

/// One open that is counted, until it is given up or becomes a handle's.
#[must_use = "it is given back when dropped"]
pub struct Charge<'a> {
    descriptors: &'a Descriptors,
    slot: usize,
}

impl Descriptors {
    /// `most` for all, root included; three quarters of that for all but root, and three eighths for one of those.
    pub fn new(most: usize) -> Descriptors {
        Descriptors {
            slots: (0..SLOTS).map(|_| AtomicUsize::new(0)).collect(),
            all: AtomicUsize::new(0),
            hasher: foldhash::quality::RandomState::default(),
            most,
        }
    }

    /// Counts one more open of user `uid`.
    ///
    /// # Errors
    /// ENFILE when that is too many: of this user, of all users, or at all.
    pub fn charge(&self, uid: u32) -> Result<Charge<'_>, Errno> {
        let account = Account::of(uid);
        let slot = match account.is_root() {
            true => 0,
            false => 1 + self.hasher.hash_one(account) as usize % (SLOTS - 1),
        };
        let own = 1 + self.slots[slot].fetch_add(1, Ordering::Relaxed);
        let all = 1 + self.all.fetch_add(1, Ordering::Relaxed);
        let charge = Charge {
            descriptors: self,
            slot,
        };
        let fits = all <= self.most
            && (slot == 0 || {
                let roots = self.slots[0].load(Ordering::Relaxed);
                own <= self.most / 8 * 3 && all.saturating_sub(roots) <= self.most / 4 * 3
            });
        fits.then_some(charge).ok_or(Errno::NFILE)
    }

    /// The open of handle `fh` has ended.
    pub fn give_back(&self, fh: u64) {
        self.take_off((fh >> SLOT_SHIFT) as usize % SLOTS);
    }

    fn take_off(&self, slot: usize) {
        // Never below 0, whatever a sender claims to have had open.
        let less = |n: usize| n.checked_sub(1);
        let relaxed = Ordering::Relaxed;
        if self.slots[slot]
            .fetch_update(relaxed, relaxed, less)
            .is_ok()
        {
            let _ = self.all.fetch_update(relaxed, relaxed, less);
        }
    }

    /// How many opens are counted.
    pub fn len(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// True when none is counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Charge<'_> {
    /// The number of a handle from the counter `number`: [`Descriptors::give_back`] of it ends the charge.
    pub fn into_handle(self, number: u64) -> u64 {
        let slot = self.slot as u64;
        std::mem::forget(self);
        number & ((1 << SLOT_SHIFT) - 1) | slot << SLOT_SHIFT
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.descriptors.take_off(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Handles of `uid` until it is refused.
    fn fill(descriptors: &Descriptors, uid: u32) -> Vec<u64> {
        let number = |n: u64| n + 1000 * u64::from(uid);
        (1..)
            .map_while(|n| Some(descriptors.charge(uid).ok()?.into_handle(number(n))))
            .collect()
    }

    #[test]
    fn one_user_leaves_the_others_their_share_and_all_users_leave_root_its_own() {
        let descriptors = Descriptors::new(800);
        assert_eq!(fill(&descriptors, 1000).len(), 300);
        assert!(descriptors.charge(1000).is_err());
        assert!(descriptors.charge(1001).is_ok(), "and given back again");
        // Subordinate uids of one range are one user.
        let ranges: usize = (100_000..100_050)
            .map(|uid| fill(&descriptors, uid).len())
            .sum();
        assert_eq!(ranges, 300);
        assert_eq!(
            descriptors.charge(1001).err(),
            Some(Errno::NFILE),
            "600 for all users"
        );
        assert_eq!(fill(&descriptors, 0).len(), 200);
        assert_eq!(descriptors.len(), 800);
    }

    #[test]
    fn what_is_given_back_can_be_had_again_and_never_more() {
        let descriptors = Descriptors::new(80);
        for _ in 0..3 {
            let mut handles = fill(&descriptors, 1000);
            handles.extend(fill(&descriptors, 0));
            let mut numbers = handles.clone();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(
                numbers.len(),
                handles.len(),
                "every handle has a number of its own"
            );
            handles
                .iter()
                .for_each(|fh| descriptors.give_back(fh | 1 << 63));
            assert!(descriptors.is_empty());
        }
        descriptors.give_back(5 << SLOT_SHIFT);
        descriptors.give_back(0);
        assert!(descriptors.is_empty());
        assert_eq!(fill(&descriptors, 1000).len(), 30);
    }
}
