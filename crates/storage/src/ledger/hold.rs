//! A hold in the hands of its owner, and the operations that wait for the writer.

use std::time::Duration;

use accounting::{Account, AccountKey, Bid, Clock, Credits, Refusal, RequestId, Usage};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Queue;
use super::entry::{Outcome, Progress, RequestRecord, Settlement};
use super::foreign::ForeignRow;
use super::owner::Lease;
use crate::{Error, SystemClock};

/// A request for a hold.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// The request's id, made by [`crate::new_id`].
    pub id: RequestId,
    /// What it draws on and may cost.
    pub bid: Bid,
    /// What else is known of it.
    pub record: RequestRecord,
    /// How long it may wait for other holds, and for a busy database.
    pub wait: Duration,
}

/// What became of it.
#[derive(Debug)]
pub enum HoldOutcome {
    /// Set aside.
    Held(Hold),
    /// A limit is in the way.
    Refused(Refusal),
    /// Other holds were in the way for too long, or too many of the user's requests wait already.
    Busy,
}

/// Credits set aside. Must be settled or released; dropped before that, it is released, so only drop it while nothing
/// has been sent.
#[derive(Debug)]
#[must_use = "a hold keeps credits from their user until it is settled or released"]
pub struct Hold {
    id: RequestId,
    amount: Credits,
    output_tokens: Option<u64>,
    accounts: Vec<AccountKey>,
    open: Option<Open>,
    /// Whether it stands when it is dropped.
    stands: bool,
}

/// What ends a hold that has not ended yet.
#[derive(Debug)]
struct Open {
    /// Another process may have charged it meanwhile: then its release is an entry, which needs all of this.
    record: Box<RequestRecord>,
    queue: Queue,
}

/// A settled request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its accounts as they are now.
    pub accounts: Vec<(AccountKey, Account)>,
    /// Whether the charge exceeded what a strict hold had set aside.
    pub over_hold: bool,
}

/// A hold whose owner is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    /// The request.
    pub id: RequestId,
    /// Its accounts.
    pub accounts: Vec<AccountKey>,
    /// What is known of it.
    pub record: RequestRecord,
    /// How far it had come when its owner last said so.
    pub progress: Option<Progress>,
}

/// What became of a hold that a dead process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It was charged.
    Charged,
    /// Nothing was to be done: its owner, or another process, has ended it before.
    Moot,
}

impl HoldRequest {
    /// Its end for nothing.
    pub(super) fn nothing(self) -> Box<Settlement> {
        let accounts = self.bid.accounts.into_iter().map(|limit| limit.account).collect();
        nothing(self.id, self.record, accounts)
    }
}

/// A request that used nothing and costs nothing.
fn nothing(id: RequestId, record: RequestRecord, accounts: Vec<AccountKey>) -> Box<Settlement> {
    Box::new(Settlement {
        id,
        record,
        accounts,
        answered_model: None,
        price_version: None,
        usage: Usage::default(),
        charge: Credits::ZERO,
        estimated: None,
        outcome: Outcome::Released,
        provider_request_id: None,
        first_byte_at: None,
        ended_at: SystemClock.now(),
    })
}

impl Hold {
    pub(super) fn new(
        request: HoldRequest,
        amount: Credits,
        output_tokens: Option<u64>,
        queue: Queue,
    ) -> Self {
        let HoldRequest { id, bid, record, .. } = request;
        let accounts = bid.accounts.into_iter().map(|limit| limit.account).collect();
        let record = Box::new(record);
        Self { id, amount, output_tokens, accounts, open: Some(Open { record, queue }), stands: false }
    }

    /// The request.
    pub const fn id(&self) -> RequestId {
        self.id
    }

    /// What is held on each account.
    pub const fn amount(&self) -> Credits {
        self.amount
    }

    /// The output tokens for each choice that it covers, if the policy bounds them.
    pub const fn output_tokens(&self) -> Option<u64> {
        self.output_tokens
    }

    /// The accounts on which it is held.
    pub fn accounts(&self) -> &[AccountKey] {
        &self.accounts
    }

    /// Replaces the hold by the charge. Retried until it commits; the hold stands meanwhile.
    ///
    /// # Errors
    /// Only what no retry can mend, such as an overflow of the account.
    pub async fn settle(mut self, settlement: Settlement) -> Result<Settled, Error> {
        match self.open.take() {
            Some(Open { queue, .. }) => {
                queue.ask(|reply| Op::Settle { settlement: Box::new(settlement), reply }).await
            }
            None => Err(Error::Unavailable { what: "this hold is settled already".into() }),
        }
    }

    /// Leaves the hold as it is in the database: it can't be charged, and must not become free. It stands until somebody
    /// recovers it after the end of this process.
    pub fn keep(mut self) {
        self.open = None;
    }

    /// From now on, a hold that is dropped stands as well: what it was made for has begun, and is to be charged.
    pub fn make_stand(&mut self) {
        self.stands = true;
    }

    /// Gives the credits back: nothing was produced. Retried until it commits. What a recovery has charged meanwhile is taken
    /// back.
    ///
    /// # Errors
    /// Only if the writer has stopped.
    pub async fn release(mut self) -> Result<(), Error> {
        match self.open.take() {
            Some(Open { record, queue }) => {
                let nothing = nothing(self.id, *record, std::mem::take(&mut self.accounts));
                queue.ask(|reply| Op::Release { nothing, reply: Some(reply) }).await
            }
            None => Ok(()),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Neither a fault of ours while it is charged nor the end of this process may make it free: as with `keep`, it stands
        // until it is recovered.
        let stands = self.stands || std::thread::panicking();
        if let Some(Open { record, queue }) = self.open.take().filter(|_| !stands) {
            // A stopped writer means that the process ends: others recover the hold.
            let nothing = nothing(self.id, *record, std::mem::take(&mut self.accounts));
            let _ = queue.send(Op::Release { nothing, reply: None });
        }
    }
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What waits for the writer.
#[derive(Debug)]
pub(super) enum Op {
    Hold(Box<PendingHold>),
    /// Its owner ends a request: what it says counts, whatever others have made of it.
    Settle {
        settlement: Box<Settlement>,
        reply: Reply<Settled>,
    },
    /// Its owner ends it for nothing.
    Release {
        nothing: Box<Settlement>,
        reply: Option<Reply<()>>,
    },
    /// Another process ends what a dead one left: only if nobody has.
    Recover {
        settlement: Box<Settlement>,
        reply: Reply<Recovery>,
    },
    Renew {
        progress: Vec<(RequestId, Progress)>,
        reply: Reply<Lease>,
    },
    Save {
        progress: String,
        reply: Reply<Lease>,
    },
    Import {
        rows: Vec<ForeignRow>,
        reply: Reply<()>,
    },
}

/// Another writer's turn is no reason to refuse a request, even one that waits for no other holds.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// A hold that waits for the writer, or for other holds.
#[derive(Debug)]
pub(super) struct PendingHold {
    pub request: HoldRequest,
    /// Until then it waits for other holds.
    pub deadline: Instant,
    /// Until then it waits for the database.
    pub patience: Instant,
    pub queue: Queue,
    pub reply: Reply<HoldOutcome>,
    /// Whether an attempt has failed so late that it may have been committed all the same.
    pub unsure: bool,
}

impl Op {
    pub(super) fn hold(request: HoldRequest, queue: Queue, reply: Reply<HoldOutcome>) -> Self {
        let now = Instant::now();
        let (deadline, patience) = (now + request.wait, now + request.wait.max(LEAST_PATIENCE));
        Self::Hold(Box::new(PendingHold { request, deadline, patience, queue, reply, unsure: false }))
    }

    /// Takes the texts out of what ends a request; `false` if there are none.
    pub(super) fn remove_texts(&mut self) -> bool {
        match self {
            Self::Settle { settlement: end, .. }
            | Self::Release { nothing: end, .. }
            | Self::Recover { settlement: end, .. } => end.remove_texts(),
            Self::Hold(_) | Self::Save { .. } | Self::Renew { .. } | Self::Import { .. } => false,
        }
    }
}
