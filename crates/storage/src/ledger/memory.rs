//! What a process remembers of the rows that it wrote last, so that it can decide without reading them.
//!
//! Others may write the same rows at any time: a decision on remembered rows is only valid if the database still has them
//! so, which whoever writes it must check in the same transaction.

use std::collections::HashMap;

use accounting::{Account, AccountKey, RequestId};

use super::plan::{Changes, Loaded, StoredHold, Wanted};

/// More accounts or holds than this are forgotten.
const MOST: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Memory {
    accounts: HashMap<AccountKey, Account>,
    holds: HashMap<RequestId, StoredHold>,
}

impl Memory {
    /// The rows for a batch, if every account and every hold that it ends is remembered. Holds that it makes are taken
    /// as new.
    pub(super) fn recall(&self, wanted: &Wanted) -> Option<Loaded> {
        let account = |key: &AccountKey| Some((key.clone(), *self.accounts.get(key)?));
        let hold = |id: &RequestId| Some((*id, *self.holds.get(id)?));
        Some(Loaded {
            accounts: wanted.accounts.values().map(account).collect::<Option<_>>()?,
            holds: wanted.ended.iter().map(hold).collect::<Option<_>>()?,
            recorded: HashMap::new(),
        })
    }

    /// An account as remembered.
    pub(super) fn account(&self, key: &AccountKey) -> Account {
        self.accounts.get(key).copied().unwrap_or_default()
    }

    /// Learns what was read under lock.
    pub(super) fn read(&mut self, loaded: &Loaded) {
        self.make_room();
        self.accounts.extend(loaded.accounts.iter().map(|(key, account)| (key.clone(), *account)));
        self.holds.extend(loaded.holds.iter().map(|(id, hold)| (*id, *hold)));
    }

    /// Learns what was written.
    pub(super) fn wrote(&mut self, changes: &Changes<'_>) {
        self.make_room();
        self.accounts.extend(changes.accounts.iter().map(|(key, account)| (key.clone(), *account)));
        for id in &changes.ended_holds {
            self.holds.remove(id);
        }
        self.holds.extend(changes.new_holds.iter().map(|hold| {
            let (amount, output_tokens) = (hold.amount, hold.output_tokens);
            (hold.request.id, StoredHold { amount, output_tokens })
        }));
    }

    /// Forgets everything: somebody else has written, or it is unknown what was written.
    pub(super) fn forget(&mut self) {
        self.accounts.clear();
        self.holds.clear();
    }

    fn make_room(&mut self) {
        if self.accounts.len() > MOST || self.holds.len() > MOST {
            self.forget();
        }
    }
}
