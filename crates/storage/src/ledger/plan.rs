//! What a batch does, decided purely: from the rows loaded to the rows to write and an answer for each
//! operation. Both databases run this code.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use accounting::{
    Account, AccountKey, Credits, Day, Decision, OwnerId, Policy, Refusal, RequestId, Usage, admit,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::entry::{EntryKind, Outcome, Progress, Settlement};
use super::foreign::{ForeignRow, UNUSABLE};
use super::hold::{HoldRequest, Op, Recovery, Settled};
use crate::rollup::first_open_day;
use crate::{Error, new_id};

/// The rows that a batch needs, in the order in which they are locked.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Accounts by their text key.
    pub accounts: BTreeMap<String, AccountKey>,
    /// Holds to be settled or released, or that may be there from an attempt before.
    pub holds: Vec<RequestId>,
    /// Those of them that are to end. What the ledger has of them counts where the hold is gone.
    pub ended: Vec<RequestId>,
    /// Requests of which the ledger may have something although they have a hold, or are to get one.
    pub doubtful: Vec<RequestId>,
    /// Whether rows of the original are to be entered, which the database has to see unchanged.
    pub foreign: bool,
}

/// Those rows, locked or remembered.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub accounts: HashMap<AccountKey, Account>,
    pub holds: HashMap<RequestId, StoredHold>,
    /// What the ledger has already of requests that are to end and have no hold any more, and of doubtful ones.
    pub recorded: HashMap<RequestId, Recorded>,
}

/// A hold's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredHold {
    pub amount: Credits,
    pub output_tokens: Option<u64>,
}

/// The sums of a request's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded {
    pub charge: Credits,
    pub counts: [i64; 10],
    /// Whether its owner has said nothing yet: all that is there was guessed by a recovery.
    pub guessed: bool,
}

/// The rows to write, all or none.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub accounts: HashMap<AccountKey, Account>,
    pub new_holds: Vec<NewHold<'a>>,
    pub ended_holds: Vec<RequestId>,
    pub entries: Vec<Entry<'a>>,
    pub progress: Vec<(RequestId, &'a Progress)>,
    /// Rows of the original by their place, and what they are marked with.
    pub marked: Vec<(&'a str, String)>,
    /// Whether the owner's lease is to be renewed.
    pub renew: bool,
    /// How far all requests of the owner have come.
    pub saved: Option<&'a str>,
}

/// A hold to insert.
#[derive(Debug)]
pub(super) struct NewHold<'a> {
    pub request: &'a HoldRequest,
    pub owner: OwnerId,
    pub amount: Credits,
    pub output_tokens: Option<u64>,
}

/// A ledger row to insert.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub id: Uuid,
    pub kind: EntryKind,
    pub corrects: Option<RequestId>,
    pub settlement: &'a Settlement,
    pub counts: [i64; 10],
    pub charge: Credits,
    pub over_hold: bool,
}

/// What each operation is told once the changes are committed.
#[derive(Debug)]
pub(super) enum Answer {
    Held { amount: Credits, output_tokens: Option<u64> },
    Refused(Refusal),
    Wait,
    Settled(Settled),
    Released,
    Recovered(Recovery),
    Renewed,
    Imported,
    Failed(Error),
}

impl Changes<'_> {
    /// The days that are over already and get an entry all the same: the roll-up must sum them anew.
    pub(super) fn reopened_days(&self, now: Timestamp) -> BTreeSet<Day> {
        let late = |entry: &&Entry<'_>| {
            let Settlement { record, ended_at, .. } = entry.settlement;
            record.day < first_open_day(now.max(*ended_at))
        };
        self.entries.iter().filter(late).map(|entry| entry.settlement.record.day).collect()
    }

    /// How many rows they write, those of indexes among them.
    pub(super) fn rows(&self) -> usize {
        let holds = self.new_holds.len() + self.ended_holds.len() + self.progress.len();
        let entries = 3 * self.entries.len() + self.marked.len();
        self.accounts.len() + holds + entries + usize::from(self.needs_lease())
    }

    /// Whether there is something that only an owner does that lives.
    pub(super) const fn needs_lease(&self) -> bool {
        self.renew || self.saved.is_some()
    }
}

impl Wanted {
    pub(super) fn of(ops: &[Op]) -> Self {
        let mut wanted = Self::default();
        let mut add = |key: &AccountKey| {
            wanted.accounts.insert(key.to_string(), key.clone());
        };
        for op in ops {
            match op {
                Op::Hold(pending) => {
                    pending.request.bid.accounts.iter().for_each(|limit| add(&limit.account));
                    wanted.holds.push(pending.request.id);
                    if pending.unsure {
                        wanted.doubtful.push(pending.request.id);
                    }
                }
                Op::Settle { settlement, .. } | Op::Release { nothing: settlement, .. } => {
                    settlement.accounts.iter().for_each(&mut add);
                    wanted.holds.push(settlement.id);
                    wanted.ended.push(settlement.id);
                }
                Op::Recover { settlement, .. } => {
                    settlement.accounts.iter().for_each(&mut add);
                    wanted.holds.push(settlement.id);
                    wanted.doubtful.push(settlement.id);
                }
                Op::Import { rows, .. } => {
                    let settlements = rows.iter().filter_map(|row| row.settlement.as_ref());
                    settlements.flat_map(|settlement| &settlement.accounts).for_each(&mut add);
                    wanted.foreign = true;
                }
                Op::Renew { .. } | Op::Save { .. } => {}
            }
        }
        wanted
    }

    /// The requests of which the ledger's entries are needed, once the holds are loaded.
    pub(super) fn recorded(&self, holds: &HashMap<RequestId, StoredHold>) -> Vec<RequestId> {
        let ended = self.ended.iter().filter(|id| !holds.contains_key(id));
        ended.chain(&self.doubtful).copied().collect()
    }
}

/// Decides a batch: settlements and releases first, so that what they free can be held again, then the holds in the
/// order of arrival.
pub(super) fn plan<'a>(ops: &'a [Op], loaded: Loaded, owner: OwnerId) -> (Changes<'a>, Vec<Answer>) {
    let Loaded { accounts, holds, recorded } = loaded;
    let changes = Changes::default();
    let mut planner = Planner { accounts, holds, recorded, touched: Vec::new(), changes, owner };
    let mut answers: Vec<Option<Answer>> = ops
        .iter()
        .map(|op| match op {
            Op::Settle { settlement, .. } => {
                let done = planner.settle(settlement);
                Some(done.map_or_else(Answer::Failed, Answer::Settled))
            }
            Op::Release { nothing, .. } => {
                let done = planner.release(nothing);
                Some(done.map_or_else(Answer::Failed, |()| Answer::Released))
            }
            Op::Recover { settlement, .. } => {
                let done = planner.recover(settlement);
                Some(done.map_or_else(Answer::Failed, Answer::Recovered))
            }
            Op::Import { rows, .. } => {
                rows.iter().for_each(|row| planner.import(row));
                Some(Answer::Imported)
            }
            Op::Renew { progress, .. } => {
                planner.changes.renew = true;
                planner.changes.progress.extend(progress.iter().map(|(id, progress)| (*id, progress)));
                Some(Answer::Renewed)
            }
            Op::Save { progress, .. } => {
                planner.changes.saved = Some(progress);
                Some(Answer::Renewed)
            }
            Op::Hold(_) => None,
        })
        .collect();
    planner.hold(ops, &mut answers);
    let ended = &planner.changes.ended_holds;
    planner.changes.progress.retain(|(id, _)| !ended.contains(id));
    for key in planner.touched {
        if let Some(account) = planner.accounts.get(&key) {
            planner.changes.accounts.insert(key, *account);
        }
    }
    let missing =
        || Answer::Failed(Error::Unavailable { what: "an operation was left without an answer".into() });
    (planner.changes, answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect())
}

struct Planner<'a> {
    accounts: HashMap<AccountKey, Account>,
    /// As they are after what was decided so far.
    holds: HashMap<RequestId, StoredHold>,
    /// The same.
    recorded: HashMap<RequestId, Recorded>,
    touched: Vec<AccountKey>,
    changes: Changes<'a>,
    owner: OwnerId,
}

impl<'a> Planner<'a> {
    fn hold(&mut self, ops: &'a [Op], answers: &mut [Option<Answer>]) {
        let mut asking = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let Op::Hold(pending) = op else { continue };
            if self.recorded.contains_key(&pending.request.id) {
                // Committed by an attempt whose answer was lost, and settled by others since.
                let what = "the database was away while a hold was made; please ask again".into();
                answers[index] = Some(Answer::Failed(Error::Unavailable { what }));
                continue;
            }
            match self.holds.get(&pending.request.id) {
                // Committed by an attempt whose answer was lost.
                Some(StoredHold { amount, output_tokens }) => {
                    answers[index] = Some(Answer::Held { amount: *amount, output_tokens: *output_tokens });
                }
                None => asking.push((index, &pending.request)),
            }
        }
        let decisions = admit(asking.iter().map(|(_, request)| &request.bid), &mut self.accounts);
        for ((index, request), decision) in asking.into_iter().zip(decisions) {
            answers[index] = Some(match decision {
                Ok(Decision::Hold { amount, output_tokens }) => {
                    self.touched.extend(request.bid.accounts.iter().map(|limit| limit.account.clone()));
                    self.changes.new_holds.push(NewHold {
                        request,
                        owner: self.owner,
                        amount,
                        output_tokens,
                    });
                    Answer::Held { amount, output_tokens }
                }
                Ok(Decision::Wait) => Answer::Wait,
                Ok(Decision::Refuse(refusal)) => Answer::Refused(refusal),
                Err(error) => Answer::Failed(error.into()),
            });
        }
    }

    /// The owner's word: the request's entry, or what corrects the entries that it has.
    fn settle(&mut self, settlement: &'a Settlement) -> Result<Settled, Error> {
        let counts = counts(&settlement.usage)?;
        let hold = self.holds.get(&settlement.id).copied();
        if let (None, Some(before)) = (hold, self.recorded.get(&settlement.id).copied()) {
            let accounts = self.correct(settlement, counts, before)?;
            return Ok(Settled { accounts, over_hold: false });
        }
        let strict = settlement.record.policy == Policy::Strict;
        let over_hold = strict && hold.is_some_and(|hold| settlement.charge > hold.amount);
        let accounts = self.enter(settlement, counts, over_hold)?;
        Ok(Settled { accounts, over_hold })
    }

    /// The owner's word that it cost nothing.
    fn release(&mut self, nothing: &'a Settlement) -> Result<(), Error> {
        match self.recorded.get(&nothing.id).copied() {
            _ if self.holds.contains_key(&nothing.id) => self.give_back(nothing),
            Some(before) if before.guessed => {
                self.correct(nothing, counts(&nothing.usage)?, before).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// A guess in place of an owner that is gone. Whatever has ended the request before stands: its owner, also by a release, and
    /// the first of several recoveries.
    fn recover(&mut self, settlement: &'a Settlement) -> Result<Recovery, Error> {
        if !self.holds.contains_key(&settlement.id) {
            return Ok(Recovery::Moot);
        }
        if self.recorded.contains_key(&settlement.id) {
            self.give_back(settlement)?;
            return Ok(Recovery::Moot);
        }
        self.enter(settlement, counts(&settlement.usage)?, false)?;
        Ok(Recovery::Charged)
    }

    /// A request's first entry, in place of its hold.
    fn enter(
        &mut self,
        settlement: &'a Settlement,
        counts: [i64; 10],
        over_hold: bool,
    ) -> Result<Vec<(AccountKey, Account)>, Error> {
        let (id, charge) = (settlement.id, settlement.charge);
        let held = self.holds.get(&id).map_or(Credits::ZERO, |hold| hold.amount);
        let accounts = self.change(&settlement.accounts, charge, held)?;
        self.end_hold(id);
        let kind = EntryKind::Request;
        self.changes.entries.push(Entry {
            id: id.uuid(),
            kind,
            corrects: None,
            settlement,
            counts,
            charge,
            over_hold,
        });
        let guessed = settlement.outcome == Outcome::Recovered;
        self.recorded.insert(id, Recorded { charge, counts, guessed });
        Ok(accounts)
    }

    /// The difference between what the ledger has of a request and what its owner says.
    fn correct(
        &mut self,
        settlement: &'a Settlement,
        counts: [i64; 10],
        before: Recorded,
    ) -> Result<Vec<(AccountKey, Account)>, Error> {
        let (id, due) = (settlement.id, settlement.charge.minus(before.charge)?);
        let difference = std::array::from_fn(|class| counts[class].saturating_sub(before.counts[class]));
        let accounts = self.change(&settlement.accounts, due, Credits::ZERO)?;
        // An attempt whose answer was lost has written the same already. A guess that was right is written all the same: from
        // now on its owner has said it.
        if before.guessed || due != Credits::ZERO || difference != [0; 10] {
            self.changes.entries.push(Entry {
                id: new_id(),
                kind: EntryKind::Correction,
                corrects: Some(id),
                settlement,
                counts: difference,
                charge: due,
                over_hold: false,
            });
        }
        self.recorded.insert(id, Recorded { charge: settlement.charge, counts, guessed: false });
        Ok(accounts)
    }

    /// Ends a hold without a charge.
    fn give_back(&mut self, of: &Settlement) -> Result<(), Error> {
        let held = self.holds.get(&of.id).map_or(Credits::ZERO, |hold| hold.amount);
        self.change(&of.accounts, Credits::ZERO, held)?;
        self.end_hold(of.id);
        Ok(())
    }

    fn end_hold(&mut self, id: RequestId) {
        if self.holds.remove(&id).is_some() {
            self.changes.ended_holds.push(id);
        }
    }

    /// Enters a row of the original; one that can't be entered is only marked.
    fn import(&mut self, row: &'a ForeignRow) {
        let entered = row.settlement.as_ref().and_then(|settlement| {
            let counts = counts(&settlement.usage).ok()?;
            let charge = settlement.charge;
            self.change(&settlement.accounts, charge, Credits::ZERO).ok()?;
            let (id, kind) = (settlement.id.uuid(), EntryKind::Import);
            let entry = Entry { id, kind, corrects: None, settlement, counts, charge, over_hold: false };
            self.changes.entries.push(entry);
            Some(settlement.id.to_string())
        });
        self.changes.marked.push((&row.place, entered.unwrap_or_else(|| UNUSABLE.into())));
    }

    /// Spends and gives back on each account, or on none if one of them can't take it.
    fn change(
        &mut self,
        keys: &[AccountKey],
        spend: Credits,
        give_back: Credits,
    ) -> Result<Vec<(AccountKey, Account)>, Error> {
        let after = keys
            .iter()
            .map(|key| {
                let account = self.accounts.get(key).copied().unwrap_or_default();
                let (spent, held) = (account.spent.plus(spend)?, account.held.minus(give_back)?);
                Ok((key.clone(), Account { spent, held }))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        for (key, account) in &after {
            self.accounts.insert(key.clone(), *account);
            self.touched.push(key.clone());
        }
        Ok(after)
    }
}

/// A usage in the order of the ledger's columns.
fn counts(usage: &Usage) -> Result<[i64; 10], Error> {
    let usage = usage.checked()?;
    let columns = [
        usage.input,
        usage.cached_input,
        usage.cache_write,
        usage.cache_write_long,
        usage.input_audio,
        usage.output,
        usage.reasoning,
        usage.output_audio,
        usage.images,
        usage.calls,
    ];
    let mut counts = [0; 10];
    for (count, column) in counts.iter_mut().zip(columns) {
        *count = i64::try_from(column).map_err(|_| accounting::Error::Overflow)?;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests;
