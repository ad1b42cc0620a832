//! A request on its way: its hold, what has passed of its answer, and its one end.
//!
//! The rule it protects: whatever happens to a request, its hold is settled or released exactly once. A [`Flight`] ends by
//! [`Flight::settle`] or [`Flight::release`]; dropped before that (the client went away, a handler was cancelled), it is
//! settled by a tracked task with what has passed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use accounting::{AccountLimit, Credits, Price, RequestId};
use jiff::Timestamp;
use providers::{ProviderError, Reported};
use storage::Snapshot;
use storage::ledger::{Hold, Outcome, Progress, RequestRecord};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::count::{self, Input};
use crate::estimate::Estimate;
use crate::output::Output;
use crate::route::Route;
use crate::settlement::{self, Bill};
use crate::shared::Shared;

/// What has passed of an answer.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// All output that the provider bills, as text.
    pub produced: Output,
    /// What the provider reported last.
    pub usage: Option<Reported>,
    /// The model that the answer names.
    pub answered_model: Option<String>,
    /// The provider's own id of the request.
    pub provider_request_id: Option<String>,
    /// When the first byte came.
    pub first_byte_at: Option<Timestamp>,
}

/// All that settling a request needs.
#[derive(Debug)]
pub(crate) struct Cargo {
    pub hold: Hold,
    pub record: RequestRecord,
    pub limits: Vec<AccountLimit>,
    pub route: Route,
    /// The prices at admission.
    pub snapshot: Arc<Snapshot>,
    pub input: Input,
    pub seen: Seen,
}

/// A request on its way to its provider and back.
#[derive(Debug)]
#[must_use = "a flight must be settled or released"]
pub(crate) struct Flight {
    id: RequestId,
    shared: Arc<Shared>,
    cargo: Option<Cargo>,
    beacon: Arc<Beacon>,
    /// What was produced, roughly, for the beacon.
    estimate: Option<Estimate>,
    /// Whether output came behind what the provider reported last.
    went_on: bool,
    /// Cancelled when this process must end its streams.
    pub ground: CancellationToken,
}

/// What the heartbeat saves of a flight.
#[derive(Debug, Default)]
pub(crate) struct Beacon {
    output_tokens: AtomicU64,
    first_byte_at: AtomicI64,
    usage: Mutex<Option<Reported>>,
    /// For whom it has moved: [`NOTED`] and [`SAVED`].
    moved: AtomicU8,
}

/// The progress that holds note is behind.
const NOTED: u8 = 1;
/// The progress that is saved is behind.
const SAVED: u8 = 2;

/// Output that is told before there is any: Anthropic's `message_start` names a few tokens.
const AT_THE_START: u64 = 8;

/// All flights of this process.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    beacons: Mutex<HashMap<RequestId, Arc<Beacon>>>,
    /// Told whenever one ends.
    landings: Notify,
}

impl Flights {
    /// How far each request has come that has moved since holds noted it last.
    pub(crate) fn to_note(&self) -> Vec<(RequestId, Progress)> {
        let flights = self.beacons.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = flights.iter().filter(|(_, beacon)| beacon.has_moved_for(NOTED));
        moved.map(|(id, beacon)| (*id, beacon.progress())).collect()
    }

    /// These could not be noted.
    pub(crate) fn note_again(&self, ids: &[RequestId]) {
        let flights = self.beacons.lock().unwrap_or_else(PoisonError::into_inner);
        for beacon in ids.iter().filter_map(|id| flights.get(id)) {
            beacon.moved.fetch_or(NOTED, Ordering::Relaxed);
        }
    }

    /// How far all requests have come that are answered, if any of them has moved since it was saved last, or `anyway`.
    pub(crate) fn to_save(&self, anyway: bool) -> Option<Vec<(RequestId, Progress)>> {
        let flights = self.beacons.lock().unwrap_or_else(PoisonError::into_inner);
        // All are asked, so that each begins anew.
        let moved = flights.values().filter(|beacon| beacon.has_moved_for(SAVED)).count();
        let answered = flights.iter().filter(|(_, beacon)| beacon.first_byte_at.load(Ordering::Relaxed) != 0);
        (moved > 0 || anyway).then(|| answered.map(|(id, beacon)| (*id, beacon.progress())).collect())
    }

    /// How many requests are under way.
    pub(crate) fn count(&self) -> usize {
        self.beacons.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether that request is under way here.
    pub(crate) fn has(&self, id: RequestId) -> bool {
        self.beacons.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    fn add(&self, id: RequestId, beacon: Arc<Beacon>) {
        self.beacons.lock().unwrap_or_else(PoisonError::into_inner).insert(id, beacon);
    }

    pub(crate) fn remove(&self, id: RequestId) {
        self.beacons.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.landings.notify_waiters();
    }

    /// Waits until that request has ended; at once if it is not under way.
    pub(crate) async fn landed(&self, id: RequestId) {
        loop {
            let landing = self.landings.notified();
            if !self.has(id) {
                return;
            }
            landing.await;
        }
    }
}

impl Beacon {
    /// Whether it has moved since that was asked last.
    fn has_moved_for(&self, whom: u8) -> bool {
        self.moved.load(Ordering::Relaxed) & whom != 0
            && self.moved.fetch_and(!whom, Ordering::Relaxed) & whom != 0
    }

    fn progress(&self) -> Progress {
        let first_byte_at = Some(self.first_byte_at.load(Ordering::Relaxed)).filter(|at| *at != 0);
        let reported = *self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let (usage, growing) = match reported {
            Some(Reported::Final(usage)) => (Some(usage), false),
            Some(Reported::SoFar(usage)) => (Some(usage), true),
            None => (None, false),
        };
        let output_tokens = self.output_tokens.load(Ordering::Relaxed);
        Progress { output_tokens, usage, growing, first_byte_at }
    }
}

impl Flight {
    pub(crate) fn new(shared: &Arc<Shared>, cargo: Cargo) -> Self {
        let beacon = Arc::new(Beacon::default());
        let id = cargo.hold.id();
        shared.flights.add(id, Arc::clone(&beacon));
        let ground = shared.ground();
        Self {
            id,
            shared: Arc::clone(shared),
            cargo: Some(cargo),
            beacon,
            estimate: None,
            went_on: false,
            ground,
        }
    }

    /// Notes a part of the answer.
    pub(crate) fn note<'a>(
        &mut self,
        produced: impl Into<Cow<'a, str>>,
        usage: Option<Reported>,
        model: Option<String>,
    ) {
        let produced = produced.into();
        let Some(Cargo { seen, route, .. }) = &mut self.cargo else { return };
        if seen.first_byte_at.is_none() {
            let now = self.shared.clock.now();
            seen.first_byte_at = Some(now);
            self.beacon.first_byte_at.store(now.as_microsecond(), Ordering::Relaxed);
        }
        // Nobody has to guess what is told.
        let is_told = matches!(usage, Some(Reported::Final(usage)) if usage.output > 0);
        if !produced.is_empty() && !is_told {
            let estimate = self.estimate.get_or_insert_with(|| Estimate::of(route.model.as_str()));
            self.beacon.output_tokens.store(estimate.add(&produced), Ordering::Relaxed);
        }
        self.went_on = usage.is_none() && (self.went_on || !produced.is_empty());
        if !produced.is_empty() {
            seen.produced.push(produced, route.model.as_str());
        }
        if usage.is_some() {
            seen.usage = usage;
            *self.beacon.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
        }
        if seen.answered_model.is_none() {
            seen.answered_model = model;
        }
        self.beacon.moved.store(NOTED | SAVED, Ordering::Relaxed);
    }

    /// The answer has come to its marked end: a report of how far it had come is the last word, if nothing came behind it.
    pub(crate) fn close_report(&mut self) {
        let Some(Cargo { seen, .. }) = &mut self.cargo else { return };
        if let (Some(Reported::SoFar(usage)), false) = (seen.usage, self.went_on) {
            seen.usage = Some(Reported::Final(usage));
        }
    }

    /// Whether the provider has told of anything that it made: output, or what was used. The input alone that an answer
    /// begins with is no such thing.
    fn has_made_something(&self) -> bool {
        let Some(Cargo { seen, .. }) = &self.cargo else { return false };
        let used = match seen.usage {
            Some(Reported::Final(usage)) => usage.input > 0 || usage.output > 0,
            Some(Reported::SoFar(usage)) => usage.output > AT_THE_START,
            None => false,
        };
        used || seen.produced.bytes() > 0
    }

    /// Notes output that nobody has read, of so many bytes of JSON.
    fn note_unread(&mut self, bytes: u64) {
        self.note("", None, None);
        if let Some(Cargo { seen, .. }) = &mut self.cargo {
            seen.produced.add_unread(bytes);
            self.beacon.output_tokens.store(count::by_length(bytes), Ordering::Relaxed);
        }
    }

    /// Notes the provider's own id of the request.
    pub(crate) fn note_request_id(&mut self, id: Option<String>) {
        if let Some(cargo) = &mut self.cargo {
            cargo.seen.provider_request_id = id;
        }
    }

    /// The request.
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// What is held on each account.
    pub(crate) fn amount(&self) -> Credits {
        self.cargo.as_ref().map_or(Credits::ZERO, |cargo| cargo.hold.amount())
    }

    /// The price to charge at, where it was admitted at another.
    pub(crate) fn reprice(&mut self, price: Price) {
        if let Some(cargo) = &mut self.cargo {
            cargo.route.price = price;
        }
    }

    /// What has been produced so far.
    pub(crate) fn produced(&mut self) -> Option<&mut Output> {
        self.cargo.as_mut().map(|cargo| &mut cargo.seen.produced)
    }

    /// The model called.
    pub(crate) fn model(&self) -> &str {
        self.cargo.as_ref().map_or("", |cargo| cargo.route.model.as_str())
    }

    /// The longest answer that the model gives, in tokens, if the price table says.
    pub(crate) fn model_output(&self) -> Option<u64> {
        self.cargo.as_ref().and_then(|cargo| cargo.route.max_output_tokens)
    }

    /// Ends the request: its hold is replaced by its charge, by a task that goes on if the caller goes away. The bill
    /// comes once the charge is committed.
    pub(crate) fn settle(mut self, outcome: Outcome) -> oneshot::Receiver<Bill> {
        let (sender, receiver) = oneshot::channel();
        self.depart(outcome, Some(sender));
        receiver
    }

    /// Ends the request for nothing: the provider produced nothing.
    pub(crate) async fn release(mut self) {
        if let Some(cargo) = self.cargo.take() {
            let shared = Arc::clone(&self.shared);
            let released = self.shared.tasks.spawn(async move {
                let id = cargo.hold.id();
                if let Err(error) = cargo.hold.release().await {
                    tracing::error!(%error, request = %id, "a hold could not be released; its owner's end releases it");
                }
                shared.flights.remove(id);
            });
            // The credits are free again before the client is told; if the database is away, the task goes on alone.
            let _ = tokio::time::timeout(self.shared.waits.settle, released).await;
        }
    }

    /// Ends a request that its provider has failed: for nothing, if the provider says so itself and has told of nothing that
    /// it made.
    pub(crate) async fn fail(mut self, error: &ProviderError) {
        // What the request itself asks for in vain is no fault of a server.
        if let (Some(Cargo { route, .. }), false) =
            (&self.cargo, matches!(error, ProviderError::Unsupported(_)))
        {
            let (provider, model, request) = (&route.provider, &route.model, &self.id);
            tracing::warn!(%error, %provider, %model, %request, "a model server failed in a request");
        }
        if let ProviderError::Reported { usage: Some(usage), .. } = error {
            self.note("", Some(Reported::Final(*usage)), None);
        }
        if let ProviderError::NoRoom { read } = error {
            self.note_unread(*read);
        }
        if !error.leaves_open() && !self.has_made_something() {
            return self.release().await;
        }
        let outcome = match error {
            ProviderError::TimedOut { .. } => Outcome::TimedOut,
            ProviderError::NoRoom { .. } => Outcome::Cut,
            _ => Outcome::ProviderFailed,
        };
        let wait = self.shared.waits.settle;
        // The charge stands before the client is told; if the database is away, it is written later.
        let _ = tokio::time::timeout(wait, self.settle(outcome)).await;
    }

    fn depart(&mut self, outcome: Outcome, tell: Option<oneshot::Sender<Bill>>) {
        if let Some(mut cargo) = self.cargo.take() {
            let shared = Arc::clone(&self.shared);
            cargo.hold.make_stand();
            self.shared.tasks.spawn(async move {
                let id = cargo.hold.id();
                let bill = settlement::settle(&shared, cargo, outcome).await;
                shared.flights.remove(id);
                if let (Some(tell), Some(bill)) = (tell, bill) {
                    // Nobody waits any more if the client went away meanwhile.
                    let _ = tell.send(bill);
                }
            });
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let outcome = if self.ground.is_cancelled() { Outcome::Shutdown } else { Outcome::ClientGone };
        self.depart(outcome, None);
    }
}
