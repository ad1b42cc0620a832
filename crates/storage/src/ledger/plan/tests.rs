//! In whichever order an owner and recoveries end a request, and in whichever batches, what counts in the end is the owner's
//! word, and without one the first recovery.

use super::*;
use accounting::{AccountLimit, Bid, ModelId, PriceVersion, ProviderName, Quote, UserId};
use tokio::sync::oneshot;

use crate::ledger::entry::{RequestRecord, WayIn};
use crate::ledger::hold::PendingHold;

/// Who ends the request, and at which charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Settles(i64),
    Releases,
    Recovers(i64),
}

/// The tables, as a batch finds and leaves them.
#[derive(Default)]
struct Tables {
    accounts: HashMap<AccountKey, Account>,
    holds: HashMap<RequestId, StoredHold>,
    entries: Vec<(RequestId, EntryKind, Outcome, Credits, [i64; 10])>,
}

fn day() -> Day {
    "2026-11-24".parse().unwrap()
}

fn account() -> AccountKey {
    AccountKey::User { day: day(), user: UserId::new("ann").unwrap() }
}

fn record() -> RequestRecord {
    RequestRecord {
        user: UserId::new("ann").unwrap(),
        sponsored: None,
        day: day(),
        provider: ProviderName::new("openai").unwrap(),
        model: ModelId::new("m").unwrap(),
        price_version: Some(PriceVersion(1)),
        policy: Policy::OneCredit,
        way_in: WayIn::Gateway,
        task: None,
        chat_id: None,
        message_id: None,
        workspace_model: None,
        instance: None,
        started_at: 1_795_000_000_000_000,
        input_tokens: 10,
    }
}

fn hold(id: RequestId, unsure: bool) -> Op {
    let accounts = vec![AccountLimit { account: account(), limit: Some(credits(100)) }];
    let bid = Bid { accounts, quote: Quote::Estimate(credits(3)) };
    let wait = std::time::Duration::ZERO;
    let request = HoldRequest { id, bid, record: record(), wait };
    let (queue, _) = tokio::sync::mpsc::unbounded_channel();
    let (reply, _) = oneshot::channel();
    let deadline = tokio::time::Instant::now();
    let queue = crate::ledger::Queue(queue);
    Op::Hold(Box::new(PendingHold { request, deadline, patience: deadline, queue, reply, unsure }))
}

fn credits(whole: i64) -> Credits {
    Credits::from_whole(whole).unwrap()
}

impl End {
    fn op(self, id: RequestId) -> Op {
        let (charge, outcome) = match self {
            Self::Settles(charge) => (charge, Outcome::Complete),
            Self::Releases => (0, Outcome::Released),
            Self::Recovers(charge) => (charge, Outcome::Recovered),
        };
        let settlement = Box::new(Settlement {
            id,
            record: record(),
            accounts: vec![account()],
            answered_model: None,
            price_version: None,
            usage: Usage { output: charge.unsigned_abs(), ..Usage::default() },
            charge: credits(charge),
            estimated: None,
            outcome,
            provider_request_id: None,
            first_byte_at: None,
            ended_at: Timestamp::UNIX_EPOCH,
        });
        match self {
            Self::Settles(_) => Op::Settle { settlement, reply: oneshot::channel().0 },
            Self::Releases => Op::Release { nothing: settlement, reply: None },
            Self::Recovers(_) => Op::Recover { settlement, reply: oneshot::channel().0 },
        }
    }
}

impl Tables {
    fn recorded(&self, id: RequestId) -> Option<Recorded> {
        let of = || self.entries.iter().filter(move |entry| entry.0 == id);
        of().next()?;
        let counts = std::array::from_fn(|class| of().map(|entry| entry.4[class]).sum());
        let guessed = of().all(|entry| entry.2 == Outcome::Recovered);
        Some(Recorded { charge: Credits::total(of().map(|entry| entry.3)).unwrap(), counts, guessed })
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Answer> {
        let wanted = Wanted::of(ops);
        let holds: HashMap<_, _> =
            wanted.holds.iter().filter_map(|id| Some((*id, *self.holds.get(id)?))).collect();
        let recorded = wanted.recorded(&holds);
        let recorded = recorded.into_iter().filter_map(|id| Some((id, self.recorded(id)?))).collect();
        let loaded = Loaded { accounts: self.accounts.clone(), holds, recorded };
        let (changes, answers) = plan(ops, loaded, OwnerId::new(new_id()));
        self.accounts.extend(changes.accounts);
        for id in changes.ended_holds {
            assert!(self.holds.remove(&id).is_some(), "a hold ends once");
        }
        for hold in changes.new_holds {
            let stored = StoredHold { amount: hold.amount, output_tokens: hold.output_tokens };
            assert_eq!(self.holds.insert(hold.request.id, stored), None);
        }
        for entry in changes.entries {
            let id = entry.corrects.unwrap_or(entry.settlement.id);
            self.entries.push((id, entry.kind, entry.settlement.outcome, entry.charge, entry.counts));
        }
        answers
    }

    /// The ledger, the account and the charge agree, and nothing is held.
    fn assert_charged(&self, id: RequestId, charge: i64, context: &impl std::fmt::Debug) {
        let recorded = self.recorded(id).map_or((Credits::ZERO, 0), |sums| (sums.charge, sums.counts[5]));
        assert_eq!(recorded, (credits(charge), charge), "{context:?}");
        let state = self.accounts.get(&account()).copied().unwrap_or_default();
        assert_eq!(state, Account { spent: credits(charge), held: Credits::ZERO }, "{context:?}");
        let requests = self.entries.iter().filter(|entry| entry.1 == EntryKind::Request).count();
        assert!(requests <= 1, "{context:?}");
        assert!(self.entries.len() <= 2, "one entry and one correction: {context:?}");
    }
}

/// All orders of these.
fn orders(ends: &[End]) -> Vec<Vec<End>> {
    if ends.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |at: usize| {
        let mut rest = ends.to_vec();
        let first = rest.remove(at);
        orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
    };
    (0..ends.len()).flat_map(with_first).collect()
}

/// All ways to cut an order into batches.
fn batches(order: &[End]) -> Vec<Vec<Vec<End>>> {
    (0..1_u32 << (order.len() - 1))
        .map(|cuts| {
            let mut batches = vec![vec![order[0]]];
            for (at, end) in order.iter().enumerate().skip(1) {
                match batches.last_mut() {
                    Some(last) if cuts & (1 << (at - 1)) == 0 => last.push(*end),
                    _ => batches.push(vec![*end]),
                }
            }
            batches
        })
        .collect()
}

#[test]
fn whoever_comes_first_the_owners_word_counts() {
    // An attempt whose answer was lost comes again.
    let owners = [
        vec![End::Settles(5)],
        vec![End::Settles(5); 2],
        vec![End::Releases],
        vec![End::Releases; 2],
        vec![],
    ];
    // Guesses below what it was, above, and right.
    let guesses =
        [vec![], vec![End::Recovers(2)], vec![End::Recovers(2), End::Recovers(9)], vec![End::Recovers(5); 2]];
    let mut tried = 0;
    for (owner, guesses) in
        owners.iter().flat_map(|owner| guesses.iter().map(move |guesses| (owner, guesses)))
    {
        let ends = [owner.clone(), guesses.clone()].concat();
        for order in orders(&ends).into_iter().filter(|order| !order.is_empty()) {
            for batches in batches(&order) {
                let (mut tables, id) = (Tables::default(), RequestId::new(new_id()));
                assert!(matches!(tables.apply(&[hold(id, false)])[..], [Answer::Held { .. }]));
                for batch in &batches {
                    let ops: Vec<Op> = batch.iter().map(|end| end.op(id)).collect();
                    for answer in tables.apply(&ops) {
                        assert!(!matches!(answer, Answer::Failed(_)), "{batches:?}: {answer:?}");
                    }
                }
                let charge = match (owner.first(), order.first()) {
                    (Some(End::Settles(charge)), _) | (None, Some(End::Recovers(charge))) => *charge,
                    _ => 0,
                };
                tables.assert_charged(id, charge, &batches);
                if order.first() == owner.first() && !owner.is_empty() {
                    assert!(
                        tables.entries.iter().all(|entry| entry.1 != EntryKind::Correction),
                        "nothing to correct: {batches:?}"
                    );
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_right_guess_is_confirmed_once() {
    let (mut tables, id) = (Tables::default(), RequestId::new(new_id()));
    tables.apply(&[hold(id, false)]);
    for end in [End::Recovers(5), End::Settles(5), End::Settles(5), End::Recovers(7)] {
        tables.apply(&[end.op(id)]);
    }
    tables.assert_charged(id, 5, &"a right guess");
    assert_eq!(
        tables.entries.iter().map(|entry| entry.2).collect::<Vec<_>>(),
        [Outcome::Recovered, Outcome::Complete]
    );
}

#[test]
fn a_hold_made_by_an_attempt_whose_answer_was_lost_is_not_made_again() {
    let (mut tables, id) = (Tables::default(), RequestId::new(new_id()));
    tables.apply(&[hold(id, false)]);
    assert!(matches!(tables.apply(&[hold(id, true)])[..], [Answer::Held { .. }]), "it stands");
    tables.apply(&[End::Recovers(2).op(id)]);
    // Tried again after another process took its maker for dead: it would be held once more, and could never be settled.
    assert!(matches!(tables.apply(&[hold(id, true)])[..], [Answer::Failed(Error::Unavailable { .. })]));
    tables.apply(&[End::Releases.op(id)]);
    tables.assert_charged(id, 0, &"what was never sent");
}
