//! Descriptors for clients' open files and directories.
//!
//! Asked at every open, so it is a few atomic additions and no lock: accounts are counted in a table of slots, by hash. Two
//! accounts may share a slot and then the bound, which nobody can bring about on purpose: the hash is seeded at start. The
//! slot is part of the handle's number, so that what has no descriptor here (an open that is passed through) is given back
//! as well.
//!
//! A client may have the same file open as often as its own limit allows, which may be the daemon's: handles of one user
//! that are alike share a descriptor.

use super::account::Account;
use crate::ledger::flight::Flight;
use crate::ledger::flight::tally::{Changer, CountChange};
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use rustix::io::Errno;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bits of a slot's number.
const SLOT_BITS: u32 = 12;
/// Slot 0 is root's.
const SLOTS: usize = 1 << SLOT_BITS;
/// Where the slot stands in a handle's number: above what counts up, below the flag of opens without a descriptor.
const SLOT_SHIFT: u32 = 48;

/// How many opens of one kind the users have, and may have.
struct Count {
    slots: Box<[AtomicUsize]>,
    all: AtomicUsize,
    most: usize,
}

impl Count {
    /// `most` for all, root included; three quarters of that for all but root, and three eighths for one of those.
    fn new(most: usize) -> Count {
        Count {
            slots: (0..SLOTS).map(|_| AtomicUsize::new(0)).collect(),
            all: AtomicUsize::new(0),
            most,
        }
    }

    /// Counts one more of `slot`; false, and nothing is counted, when that is too many.
    fn take(&self, slot: usize) -> bool {
        let own = 1 + self.slots[slot].fetch_add(1, Ordering::Relaxed);
        let all = 1 + self.all.fetch_add(1, Ordering::Relaxed);
        let fits = all <= self.most
            && (slot == 0 || {
                let roots = self.slots[0].load(Ordering::Relaxed);
                own <= self.most / 8 * 3 && all.saturating_sub(roots) <= self.most / 4 * 3
            });
        if !fits {
            self.give_back(slot);
        }
        fits
    }

    fn add(&self, slot: usize, count: usize) {
        self.slots[slot].fetch_add(count, Ordering::Relaxed);
        self.all.fetch_add(count, Ordering::Relaxed);
    }

    fn give_back(&self, slot: usize) {
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
}

/// How many handles there may be, at least, however few descriptors: those that share one take memory only. A ledger has
/// room for them.
const HANDLES: usize = 1 << 18;

/// The part of the seed that is the same for all: what is secret is the other.
fn shared() -> &'static SharedSeed {
    static SHARED: OnceLock<SharedSeed> = OnceLock::new();
    SHARED.get_or_init(|| SharedSeed::from_u64(0))
}

/// What the users have open. A handle is counted from its open to its RELEASE, and what it needs a descriptor for as long as
/// that is there: several handles of one user may share it.
pub(crate) struct Descriptors {
    descriptors: Arc<Count>,
    handles: Count,
    hasher: SeedableRandomState,
}

/// One open that is counted, until it is given up or becomes a handle's.
#[must_use = "it is given back when dropped"]
pub(crate) struct Charge<'a> {
    descriptors: &'a Descriptors,
    slot: usize,
    /// Where the handle's number is noted, and for which request.
    noted: Option<(&'a Flight, u64)>,
}

/// One descriptor that is counted, for as long as this lives.
pub(crate) struct HeldDescriptor {
    descriptors: Arc<Count>,
    slot: usize,
}

impl Descriptors {
    /// `most` descriptors for all users, who are told apart by `seed`.
    pub(crate) fn new(most: usize, seed: u64) -> Descriptors {
        Descriptors {
            descriptors: Arc::new(Count::new(most)),
            handles: Count::new(most.max(HANDLES)),
            hasher: SeedableRandomState::with_seed(seed, shared()),
        }
    }

    /// Counts one more open of user `uid`.
    ///
    /// # Errors
    /// ENFILE when that is too many: of this user, of all users, or at all.
    pub(crate) fn charge(&self, uid: u32) -> Result<Charge<'_>, Errno> {
        let account = Account::of(uid);
        let slot = match account.is_root() {
            true => 0,
            false => 1 + self.hasher.hash_one(account) as usize % (SLOTS - 1),
        };
        if !self.handles.take(slot) {
            return Err(Errno::NFILE);
        }
        if !self.descriptors.take(slot) {
            self.handles.give_back(slot);
            return Err(Errno::NFILE);
        }
        Ok(Charge {
            descriptors: self,
            slot,
            noted: None,
        })
    }

    /// Counts `count` handles like `fh`, which a predecessor has counted.
    pub(crate) fn count_again(&self, fh: u64, count: u32) {
        self.handles.add(slot_of(fh), count as usize);
    }

    /// Counts the descriptor of handle `fh`, which a predecessor has counted.
    pub(crate) fn hold_again(&self, fh: u64) -> HeldDescriptor {
        let slot = slot_of(fh);
        self.descriptors.add(slot, 1);
        HeldDescriptor {
            descriptors: self.descriptors.clone(),
            slot,
        }
    }

    /// Handle `fh` is no more.
    pub(crate) fn give_back(&self, fh: u64) {
        self.handles.give_back(slot_of(fh));
    }

    #[cfg(test)]
    /// How many descriptors are counted.
    pub(crate) fn len(&self) -> usize {
        self.descriptors.all.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    /// True when none is counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The slot that stands in a handle's number.
pub(crate) fn slot_of(fh: u64) -> usize {
    (fh >> SLOT_SHIFT) as usize % SLOTS
}

/// The numbers that handles of a slot have.
pub(crate) fn handles_of(slot: usize) -> std::ops::Range<u64> {
    let slot = slot as u64;
    slot << SLOT_SHIFT..(slot + 1) << SLOT_SHIFT
}

impl<'a> Charge<'a> {
    /// The same for request `unique`, of which `flight` tells a successor: the handle is noted there before there is one.
    pub(crate) fn for_request(self, flight: &'a Flight, unique: u64) -> Charge<'a> {
        let mut own = self;
        own.noted = Some((flight, unique));
        own
    }

    /// Whose it is.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// The same for one of opens that are counted together, and who counts it: the handle is noted with that.
    pub(crate) fn of_loan(self) -> (Charge<'a>, Changer<'a>) {
        let mut own = self;
        let given = |(flight, unique)| Changer::new(flight, unique, CountChange::Given);
        let asker = own.noted.take().map_or(Changer::NOBODY, given);
        (own, asker)
    }

    /// The number of a handle from the counter `number`, which [`Descriptors::give_back`] ends, and the descriptor's count.
    pub(crate) fn into_handle(self, number: u64) -> (u64, HeldDescriptor) {
        let held = HeldDescriptor {
            descriptors: self.descriptors.descriptors.clone(),
            slot: self.slot,
        };
        let fh = self.number(number);
        std::mem::forget(self);
        (fh, held)
    }

    /// The same for a handle that needs no descriptor of its own.
    pub(crate) fn into_sharing_handle(self, number: u64) -> u64 {
        let fh = self.number(number);
        self.descriptors.descriptors.give_back(self.slot);
        std::mem::forget(self);
        fh
    }

    /// What a handle with `number` from a counter is called. It is noted for the request.
    pub(crate) fn number(&self, number: u64) -> u64 {
        let fh = number & ((1 << SLOT_SHIFT) - 1) | (self.slot as u64) << SLOT_SHIFT;
        if let Some((flight, unique)) = self.noted {
            flight.opened(unique, fh);
        }
        fh
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.descriptors.descriptors.give_back(self.slot);
        self.descriptors.handles.give_back(self.slot);
    }
}

impl HeldDescriptor {
    /// Whose it is.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }
}

impl Drop for HeldDescriptor {
    fn drop(&mut self) {
        self.descriptors.give_back(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Handles of `uid` until it is refused.
    fn fill(descriptors: &Descriptors, uid: u32) -> Vec<(u64, HeldDescriptor)> {
        let number = |n: u64| n + 1000 * u64::from(uid);
        (1..)
            .map_while(|n| Some(descriptors.charge(uid).ok()?.into_handle(number(n))))
            .collect()
    }

    #[test]
    fn one_user_leaves_the_others_their_share_and_all_users_leave_root_its_own() {
        let descriptors = Descriptors::new(800, 7);
        let first = fill(&descriptors, 1000);
        assert_eq!(first.len(), 300);
        assert!(descriptors.charge(1000).is_err());
        assert!(descriptors.charge(1001).is_ok(), "and given back again");
        // Subordinate uids of one range are one user.
        let ranges: Vec<_> = (100_000..100_050)
            .flat_map(|uid| fill(&descriptors, uid))
            .collect();
        assert_eq!(ranges.len(), 300);
        assert_eq!(
            descriptors.charge(1001).err(),
            Some(Errno::NFILE),
            "600 for all users"
        );
        let roots = fill(&descriptors, 0);
        assert_eq!(roots.len(), 200);
        assert_eq!(descriptors.len(), 800);
    }

    #[test]
    fn what_is_given_back_can_be_had_again_and_never_more() {
        let descriptors = Descriptors::new(80, 7);
        for _ in 0..3 {
            let mut handles = fill(&descriptors, 1000);
            handles.extend(fill(&descriptors, 0));
            let mut numbers: Vec<u64> = handles.iter().map(|(fh, _)| *fh).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(
                numbers.len(),
                handles.len(),
                "every handle has a number of its own"
            );
            numbers
                .iter()
                .for_each(|fh| descriptors.give_back(fh | 1 << 63));
            drop(handles);
            assert!(descriptors.is_empty());
        }
        descriptors.give_back(5 << SLOT_SHIFT);
        descriptors.give_back(0);
        assert!(descriptors.is_empty());
        assert_eq!(fill(&descriptors, 1000).len(), 30);
    }

    #[test]
    fn handles_that_share_a_descriptor_are_bounded_too() {
        let descriptors = Descriptors::new(80, 7);
        let (_, first) = descriptors.charge(1000).expect("one").into_handle(0);
        let shared: Vec<u64> = (1..)
            .map_while(|n| Some(descriptors.charge(1000).ok()?.into_sharing_handle(n)))
            .collect();
        assert_eq!(shared.len(), HANDLES / 8 * 3 - 1);
        assert_eq!(descriptors.len(), 1);
        assert!(shared.iter().all(|fh| slot_of(*fh) == first.slot()));
        shared.iter().for_each(|fh| descriptors.give_back(*fh));
        drop(first);
        assert!(descriptors.is_empty());
    }
}
