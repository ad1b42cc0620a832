//! The one writer of a process: takes what waits, applies it together, answers each caller.
//!
//! A batch that fails for a reason of its own is replayed item by item, so that a bad one fails alone. While the
//! database is busy or away, everything is kept and tried again: admissions until their deadline, settlements and
//! releases without end.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use accounting::{AccountKey, OwnerId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hold::{Hold, HoldOutcome, Op, PendingHold};
use super::owner::{Lease, Owner};
use super::plan::{Answer, Changes, Loaded, Wanted, plan};
use super::writable::Writable;
use crate::Error;

/// How a database applies one batch: load under lock, then write and commit; or decide on what is remembered, and write
/// it only if that still is so.
pub(super) trait Engine {
    /// How long a batch may keep the database's write lock.
    const LONGEST: Duration;

    /// The rows as they were when this process wrote or read them last, if it remembers them all. Locks nothing.
    fn remembered(&mut self, _wanted: &Wanted) -> Option<Loaded> {
        None
    }

    /// Begins a transaction, and locks and loads the rows.
    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, Error>;

    /// Writes the changes and commits.
    async fn commit(
        &mut self,
        wanted: &Wanted,
        changes: &Changes<'_>,
        owner: OwnerId,
    ) -> Result<Committed, Error>;

    /// Leaves the transaction, if one is open, without a trace.
    async fn abandon(&mut self);
}

/// What became of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    /// Written.
    Done,
    /// Written, but for the owner's lease, which was to be renewed and is lost.
    LeaseLost,
    /// Nothing was written: they were decided on remembered rows, and others have changed those.
    Stale,
}

const MOST_PER_BATCH: usize = 256;
/// Holds of other processes end unannounced: those who wait for them look again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// So many requests of one user may wait for that user's other holds.
const MOST_WAITING: usize = 16;

pub(super) struct Writer<E> {
    engine: E,
    arrivals: mpsc::UnboundedReceiver<Op>,
    owner: Arc<Owner>,
    /// What could not be applied yet, in order.
    pending: VecDeque<Op>,
    /// Holds that wait for other holds, by the order of their arrival.
    waiting: BTreeMap<u64, Box<PendingHold>>,
    arrived: u64,
    look_again: Instant,
    /// So many operations fit into the time for which a batch may lock the database.
    batch: usize,
    pause: Duration,
    writable: Arc<Writable>,
}

impl<E: Engine> Writer<E> {
    pub(super) fn new(
        engine: E,
        arrivals: mpsc::UnboundedReceiver<Op>,
        owner: Arc<Owner>,
        writable: Arc<Writable>,
    ) -> Self {
        Self {
            engine,
            arrivals,
            owner,
            pending: VecDeque::new(),
            waiting: BTreeMap::new(),
            arrived: 0,
            look_again: Instant::now(),
            batch: MOST_PER_BATCH,
            pause: SHORTEST_PAUSE,
            writable,
        }
    }

    /// Serves until every handle and hold is gone and nothing is left to do.
    pub(super) async fn run(mut self) {
        while self.gather().await {
            let (sequence, ops) = self.next_batch();
            if ops.is_empty() {
                continue;
            }
            if let Err((ops, error)) = self.apply(sequence, ops).await {
                self.recover_batch(ops, error).await;
            }
        }
    }

    /// Waits for something to do and takes all that is there; `false` once nothing can come any more.
    async fn gather(&mut self) -> bool {
        if self.pending.is_empty() {
            let first = if self.waiting.is_empty() {
                match self.arrivals.recv().await {
                    Some(op) => Some(op),
                    None => return false,
                }
            } else {
                tokio::select! {
                    op = self.arrivals.recv() => op,
                    () = tokio::time::sleep_until(self.look_again) => None,
                }
            };
            self.pending.extend(first);
        }
        while self.pending.len() < self.batch {
            match self.arrivals.try_recv() {
                Ok(op) => self.pending.push_back(op),
                Err(_) => break,
            }
        }
        true
    }

    /// The next operations, behind those who have waited on the same accounts; with the place of each in the queue.
    fn next_batch(&mut self) -> (Vec<u64>, Vec<Op>) {
        let count = self.pending.len().min(self.batch);
        let fresh: Vec<Op> = self.pending.drain(..count).filter_map(unless_unwanted).collect();
        let now = Instant::now();
        let everyone = now >= self.look_again;
        let touched: HashSet<AccountKey> =
            if everyone || self.waiting.is_empty() { HashSet::new() } else { touched(&fresh) };
        let due: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiter)| {
                let mut accounts = waiter.request.bid.accounts.iter();
                everyone || waiter.deadline <= now || accounts.any(|limit| touched.contains(&limit.account))
            })
            .map(|(place, _)| *place)
            .collect();
        if everyone {
            self.look_again = now + LOOK_AGAIN;
        }
        let (mut places, mut ops) = (Vec::new(), Vec::new());
        for place in due {
            if let Some(waiter) = self.waiting.remove(&place).filter(|waiter| !waiter.reply.is_closed()) {
                places.push(place);
                ops.push(Op::Hold(waiter));
            }
        }
        for op in fresh {
            self.arrived += 1;
            places.push(self.arrived);
            ops.push(op);
        }
        (places, ops)
    }

    /// One transaction for all. On failure nothing has happened, or it is not known whether it has, and the operations come
    /// back.
    async fn apply(&mut self, places: Vec<u64>, mut ops: Vec<Op>) -> Result<(), (Vec<Op>, Error)> {
        let began = Instant::now();
        let owner = self.owner.id();
        let mut late = false;
        self.writable.trying(began);
        match self.decide(&ops, owner, &mut late).await {
            Ok((answers, committed)) => {
                self.writable.written();
                self.measure(began.elapsed(), ops.len());
                self.answer(places, ops, answers, committed);
                Ok(())
            }
            Err(error) => {
                self.engine.abandon().await;
                self.writable.failed(&error, Instant::now());
                if late && matches!(error, Error::Unavailable { .. }) {
                    for op in &mut ops {
                        if let Op::Hold(pending) = op {
                            pending.unsure = true;
                        }
                    }
                }
                Err((ops, error))
            }
        }
    }

    /// Decides and writes: on what is remembered, or else under lock. A failure that comes `late` may have come after the
    /// commit.
    async fn decide(
        &mut self,
        ops: &[Op],
        owner: OwnerId,
        late: &mut bool,
    ) -> Result<(Vec<Answer>, Committed), Error> {
        let wanted = Wanted::of(ops);
        if let Some(remembered) = self.engine.remembered(&wanted) {
            let (changes, answers) = plan(ops, remembered, owner);
            *late = true;
            let committed = self.engine.commit(&wanted, &changes, owner).await?;
            if committed != Committed::Stale {
                return Ok((answers, committed));
            }
        }
        *late = false;
        let loaded = self.engine.load(&wanted).await?;
        let (changes, answers) = plan(ops, loaded, owner);
        *late = true;
        let committed = self.engine.commit(&wanted, &changes, owner).await?;
        Ok((answers, committed))
    }

    /// Keeps the next batches as small as the time allows for which they may lock the database.
    fn measure(&mut self, took: Duration, count: usize) {
        self.pause = SHORTEST_PAUSE;
        if took > E::LONGEST {
            self.batch = (count / 2).max(1);
        } else if took < E::LONGEST / 2 && self.batch < MOST_PER_BATCH {
            self.batch = (self.batch * 2).min(MOST_PER_BATCH);
        }
    }

    async fn recover_batch(&mut self, ops: Vec<Op>, error: Error) {
        if matches!(error, Error::Unavailable { .. }) {
            self.try_later(ops, &error).await;
            return;
        }
        if ops.len() == 1 {
            self.end_alone(ops, error).await;
            return;
        }
        tracing::warn!(%error, operations = ops.len(), "a batch failed; applying its operations one by one");
        for op in ops {
            self.arrived += 1;
            if let Err((ops, error)) = self.apply(vec![self.arrived], vec![op]).await {
                self.end_alone(ops, error).await;
            }
        }
    }

    /// An operation that failed by itself: what the database refuses is tried once more without the texts that it does not
    /// need, so that no label keeps a charge from being written.
    async fn end_alone(&mut self, mut ops: Vec<Op>, mut error: Error) {
        if !matches!(error, Error::Unavailable { .. }) && ops.iter_mut().any(Op::remove_texts) {
            tracing::error!(%error, "the database refuses a charge; writing it without its labels");
            self.arrived += 1;
            match self.apply(vec![self.arrived], ops).await {
                Ok(()) => return,
                Err((again, why)) => (ops, error) = (again, why),
            }
        }
        if matches!(error, Error::Unavailable { .. }) {
            self.try_later(ops, &error).await;
        } else {
            tracing::error!(%error, "an operation on the ledger failed");
            ops.into_iter().for_each(|op| self.fail(op, error.clone()));
        }
    }

    /// Tells the caller. A hold that may have been made all the same is given back as soon as the database answers.
    fn fail(&mut self, op: Op, error: Error) {
        match op {
            Op::Hold(pending) => {
                let PendingHold { request, reply, unsure, .. } = *pending;
                let _ = reply.send(Err(error));
                if unsure {
                    self.pending.push_back(Op::Release { nothing: request.nothing(), reply: None });
                }
            }
            Op::Settle { reply, .. } => drop(reply.send(Err(error))),
            Op::Release { reply: Some(reply), .. } => drop(reply.send(Err(error))),
            Op::Release { reply: None, .. } => {}
            Op::Recover { reply, .. } => drop(reply.send(Err(error))),
            Op::Renew { reply, .. } | Op::Save { reply, .. } => drop(reply.send(Err(error))),
            Op::Import { reply, .. } => drop(reply.send(Err(error))),
        }
    }

    /// Puts what can wait back to the front of the queue, and pauses.
    async fn try_later(&mut self, ops: Vec<Op>, error: &Error) {
        let now = Instant::now();
        for op in ops.into_iter().rev() {
            match op {
                Op::Hold(ref pending) if pending.patience <= now => self.fail(op, error.clone()),
                Op::Renew { .. } | Op::Save { .. } | Op::Import { .. } => self.fail(op, error.clone()),
                op => self.pending.push_front(op),
            }
        }
        tracing::debug!(%error, pause = ?self.pause, "the database is busy or away");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn answer(&mut self, places: Vec<u64>, ops: Vec<Op>, answers: Vec<Answer>, committed: Committed) {
        let now = Instant::now();
        let mut waiting: HashMap<UserId, usize> = HashMap::new();
        for waiter in self.waiting.values() {
            *waiting.entry(waiter.request.record.user.clone()).or_default() += 1;
        }
        for ((place, op), answer) in places.into_iter().zip(ops).zip(answers) {
            match (op, answer) {
                (Op::Hold(mut pending), Answer::Wait) => {
                    pending.unsure = false;
                    let others = waiting.entry(pending.request.record.user.clone()).or_default();
                    if pending.deadline <= now || *others >= MOST_WAITING {
                        let _ = pending.reply.send(Ok(HoldOutcome::Busy));
                    } else {
                        *others += 1;
                        if self.waiting.is_empty() {
                            self.look_again = now + LOOK_AGAIN;
                        }
                        self.waiting.insert(place, pending);
                    }
                }
                (op, Answer::Failed(error)) => self.fail(op, error),
                (Op::Hold(pending), Answer::Held { amount, output_tokens }) => {
                    let PendingHold { request, queue, reply, .. } = *pending;
                    // If the caller has gone, the hold is dropped with the answer, and so released.
                    let _ =
                        reply.send(Ok(HoldOutcome::Held(Hold::new(request, amount, output_tokens, queue))));
                }
                (Op::Hold(pending), Answer::Refused(refusal)) => {
                    let _ = pending.reply.send(Ok(HoldOutcome::Refused(refusal)));
                }
                (Op::Settle { reply, .. }, Answer::Settled(settled)) => {
                    let _ = reply.send(Ok(settled));
                }
                (Op::Release { reply: Some(reply), .. }, Answer::Released) => {
                    let _ = reply.send(Ok(()));
                }
                (Op::Recover { reply, .. }, Answer::Recovered(recovery)) => {
                    let _ = reply.send(Ok(recovery));
                }
                (Op::Renew { reply, .. } | Op::Save { reply, .. }, Answer::Renewed) => {
                    let lost = committed == Committed::LeaseLost;
                    let _ = reply.send(Ok(if lost { Lease::Lost } else { Lease::Held }));
                }
                (Op::Import { reply, .. }, Answer::Imported) => {
                    let _ = reply.send(Ok(()));
                }
                (_, _) => {}
            }
        }
    }
}

/// The accounts that these operations free, or on which they want to hold.
fn touched(ops: &[Op]) -> HashSet<AccountKey> {
    let mut keys = HashSet::new();
    for op in ops {
        match op {
            Op::Hold(pending) => {
                keys.extend(pending.request.bid.accounts.iter().map(|limit| limit.account.clone()));
            }
            Op::Settle { settlement: end, .. }
            | Op::Release { nothing: end, .. }
            | Op::Recover { settlement: end, .. } => keys.extend(end.accounts.iter().cloned()),
            Op::Renew { .. } | Op::Save { .. } | Op::Import { .. } => {}
        }
    }
    keys
}

/// The operation, unless nobody waits for it any more: then nothing, or the release of what may have been made.
fn unless_unwanted(op: Op) -> Option<Op> {
    match op {
        Op::Hold(pending) if pending.reply.is_closed() => {
            let PendingHold { request, unsure, .. } = *pending;
            unsure.then(|| Op::Release { nothing: request.nothing(), reply: None })
        }
        op => Some(op),
    }
}
