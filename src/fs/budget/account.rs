//! Whose uids are one account.

use std::fmt;
use std::sync::OnceLock;

/// The first subordinate uid that useradd(8) hands out, and how many a user gets (`SUB_UID_MIN` and `SUB_UID_COUNT`,
/// login.defs(5)).
const FIRST_SUBORDINATE: u32 = 100_000;
/// Uids in a range.
const RANGE: u32 = 65_536;
/// Fedora, systemd-nspawn and others hand out ranges from here on, each beginning at a multiple of its size.
const FIRST_ALIGNED: u32 = 524_288;

/// Who is charged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Account(u32);

impl Account {
    /// Root, who has a reserve of everything; also the user whose own the daemon is.
    pub(crate) const ROOT: Account = Account(0);
    /// The kernel itself: what it sends of its own accord (RELEASE, FORGET) names no user.
    pub(crate) const KERNEL: Account = Account(u32::MAX);
    /// Set in accounts of ranges of uids.
    const RANGES: u32 = 1 << 31;

    /// The account of a user, by fsuid.
    pub(crate) fn of(uid: u32) -> Account {
        static OWN: OnceLock<u32> = OnceLock::new();
        if uid == 0 || uid == *OWN.get_or_init(|| rustix::process::geteuid().as_raw()) {
            return Account::ROOT;
        }
        Account(match uid {
            0..FIRST_SUBORDINATE => uid,
            FIRST_SUBORDINATE..FIRST_ALIGNED => {
                Account::RANGES | ((uid - FIRST_SUBORDINATE) / RANGE)
            }
            // From a number that the ranges above do not reach.
            _ => Account::RANGES | (FIRST_ALIGNED / RANGE + uid / RANGE),
        })
    }

    /// True for root.
    pub(crate) fn is_root(self) -> bool {
        self == Account::ROOT
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Account::KERNEL => f.write_str("the kernel"),
            Account(range) if range & Account::RANGES != 0 => {
                write!(f, "range {}", range & !Account::RANGES)
            }
            Account(uid) => write!(f, "uid {uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn subordinate_uids_of_one_range_share_an_account() {
        assert_eq!(Account::of(100_000), Account::of(165_535));
        assert_ne!(Account::of(165_535), Account::of(165_536));
        assert_eq!(Account::of(524_288), Account::of(589_823));
        assert_ne!(Account::of(524_288), Account::of(524_287));
        assert_ne!(Account::of(1000), Account::of(1001));
        assert_ne!(Account::of(99_999), Account::of(100_000));
    }

    #[test]
    fn root_and_the_daemons_own_user_are_one_and_the_kernel_is_nobody_else() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(
            (Account::of(0), Account::of(own)),
            (Account::ROOT, Account::ROOT)
        );
        let others = [1, 1000, 65_534, 100_000, u32::MAX - 1, u32::MAX].map(Account::of);
        assert!(
            others
                .iter()
                .all(|account| !account.is_root() && *account != Account::KERNEL)
        );
    }
}
