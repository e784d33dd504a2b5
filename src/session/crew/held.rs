//! Who is held back.

use crate::fs::budget::Account;

/// Who is held back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// Everybody but root: too many threads are stuck.
    pub(crate) everybody: bool,
    /// And these.
    pub(crate) accounts: Vec<Account>,
}

impl HeldBack {
    /// What ends a file's or a node's use is never among it: that would keep other users' locks and descriptors.
    pub(crate) fn has(&self, account: Account) -> bool {
        if account == Account::KERNEL {
            return false;
        }
        self.everybody && !account.is_root() || self.accounts.contains(&account)
    }
}
