//! The flow of one request: price and limits, quote, hold, send, stream on, settle. Every way in uses it.

use std::sync::Arc;
use std::time::Duration;

use accounting::{Clock, Label, OwnerId, ProviderName, RequestId, UserId};
use bytes::Bytes;
use http::HeaderMap;
use providers::{
    Answer, AnswerRoom, ChatRequest, Complete, EmbeddingsRequest, Provider, ProviderError, Reported,
    off_runtime,
};
use storage::ledger::{HoldOutcome, HoldRequest, Ledger, Outcome, RequestRecord, WayIn};
use storage::{Catalogue, Database, Snapshot, new_id};
use tokio::time::Instant;

use crate::answer::Tell;
use crate::count::{self, Input};
use crate::error::LimitReached;
use crate::flight::{Cargo, Flight, Seen};
use crate::output::Output;
use crate::payer::{Requester, accounts, payer};
use crate::quote::{Asked, quote};
use crate::remark::{Remark, Rules};
use crate::route::{self, OfferedModel, Route, Routes};
use crate::settlement::Bill;
use crate::shared::{Shared, Waits};
use crate::sponsored::{self, Audience};
use crate::stream::MeteredStream;
use crate::{MeterError, Unserved, beat, refusals};

/// How a [`Meter`] is set up.
#[derive(Debug)]
pub struct MeterOptions {
    /// The configured providers, each with a name of its own.
    pub providers: Vec<Provider>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which of several Open WebUIs on one database this is.
    pub instance: Option<Label>,
    /// For so long the end of an answer is withheld while its charge can't be committed.
    pub settle_wait: Duration,
    /// For so long the head of a streamed answer waits for its first event.
    pub head_wait: Duration,
}

/// What the ledger notes of a request beside who, what and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The way it came in.
    pub way_in: WayIn,
    /// Open WebUI's task.
    pub task: Option<Label>,
    /// Open WebUI's chat.
    pub chat_id: Option<Label>,
    /// Open WebUI's message.
    pub message_id: Option<Label>,
    /// Open WebUI's workspace model.
    pub workspace_model: Option<Label>,
}

/// An answer on its way to the client.
pub struct MeteredAnswer {
    /// Our id of the request.
    pub id: RequestId,
    /// What is passed on of it.
    pub body: MeteredBody,
    /// Fields of the request that its provider can't take; it went without them.
    pub omitted: Vec<String>,
    /// The provider's headers about its rates and times.
    pub headers: HeaderMap,
    /// For how long the provider was waited for.
    pub waited: Duration,
    /// What a whole answer costs, if that is known.
    pub bill: Option<Bill>,
}

/// What is passed on of an answer.
pub enum MeteredBody {
    /// A whole answer, JSON.
    Complete(Bytes),
    /// A streamed one.
    Stream(MeteredStream),
}

/// Admits, sends, meters and charges requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

/// A request whose hold stands, ready to be sent.
pub(crate) struct Admitted {
    pub flight: Flight,
    /// The output tokens for each choice that the hold covers, if the policy bounds them.
    pub output_tokens: Option<u64>,
}

impl Meter {
    /// A meter on that database, with a ledger of its own. Begins to renew its lease and to settle what dead processes
    /// left.
    ///
    /// # Errors
    /// If the database is away, or its schema is none that this program may use.
    pub async fn open(database: &Database, options: MeterOptions) -> Result<Self, storage::Error> {
        let MeterOptions { providers, clock, instance, settle_wait, head_wait } = options;
        storage::migrate::require_usable(database).await?;
        let catalogue = Catalogue::open(database, Arc::clone(&clock)).await?;
        let ledger = Ledger::open(database).await?;
        let routes = Routes::new(providers);
        let waits = Waits { settle: settle_wait, head: head_wait };
        let shared = Arc::new(Shared::new(routes, catalogue, ledger, clock, instance, waits));
        shared.tasks.spawn(beat::run(Arc::clone(&shared)));
        shared.tasks.spawn(beat::recover_all(Arc::clone(&shared)));
        shared.tasks.spawn(beat::follow(Arc::clone(&shared)));
        shared.tasks.spawn(beat::sum(Arc::clone(&shared)));
        shared.tasks.spawn(refusals::keep_writing(Arc::clone(&shared)));
        Ok(Self(shared))
    }

    /// A chat: one request, from its admission to its answer. `server` serves it; without one, the configured provider
    /// that has its model. A whole answer takes `room`.
    ///
    /// # Errors
    /// See [`MeterError`]; an error means that nothing of an answer was passed on.
    pub async fn chat(
        &self,
        requester: Requester,
        labels: Labels,
        server: Option<&Provider>,
        mut request: ChatRequest,
        room: &mut dyn AnswerRoom,
    ) -> Result<MeteredAnswer, Unserved> {
        let snapshot = self.snapshot().await?;
        let policy = snapshot.settings().admission_policy;
        self.0.told.check(policy, |unknown| request.refuse_unpriced_fields(unknown))?;
        let input = Input::Chat(request.shape(), request.original());
        let asked = Asked::Chat(&request);
        let (provider, admitted) = self.admit(requester, labels, server, &asked, input, snapshot).await?;
        let Admitted { mut flight, output_tokens } = admitted;
        let (tell, choices) = (Tell::of(&request), request.choices());
        request.set_model(flight.model().to_owned());
        request.set_model_output(flight.model_output());
        if let Some(tokens) = output_tokens {
            request.lower_output_limit(tokens, provider.output_limit_field());
        }
        let (id, sent_at) = (flight.id(), Instant::now());
        let sent = tokio::select! {
            biased;
            () = flight.ground.cancelled() => return Err(Unserved { error: shutting_down(), id: Some(id) }),
            sent = provider.chat(&request, room) => sent,
        };
        match sent {
            Ok(Answer::Stream(mut upstream)) => {
                flight.note_request_id(upstream.request_id.take());
                let omitted = std::mem::take(&mut upstream.omitted);
                let headers = std::mem::take(&mut upstream.headers);
                let bound = output_tokens.map(|tokens| tokens.saturating_mul(choices));
                // Its input may have to be read once more, to be counted.
                drop(request);
                let stream = MeteredStream::new(upstream, flight, tell, bound, self.0.waits.settle);
                match stream.begin(self.0.waits.head).await {
                    Ok(stream) => {
                        let (body, waited) = (MeteredBody::Stream(stream), sent_at.elapsed());
                        Ok(MeteredAnswer { id, body, omitted, headers, waited, bill: None })
                    }
                    Err(failed) => Err(Box::pin(self.failed(failed.0, failed.1.with_rates(headers))).await),
                }
            }
            Ok(Answer::Complete(complete)) => {
                // Its input may have to be read once more, to be counted.
                drop(request);
                Ok(self.complete(flight, complete, tell, room, sent_at.elapsed()).await)
            }
            Err(error) => {
                drop(request);
                Err(Box::pin(self.failed(flight, error)).await)
            }
        }
    }

    /// Embeddings of texts. The answer takes `room`.
    ///
    /// # Errors
    /// See [`MeterError`].
    pub async fn embeddings(
        &self,
        requester: Requester,
        labels: Labels,
        server: Option<&Provider>,
        mut request: EmbeddingsRequest,
        room: &mut dyn AnswerRoom,
    ) -> Result<MeteredAnswer, Unserved> {
        let snapshot = self.snapshot().await?;
        let policy = snapshot.settings().admission_policy;
        self.0.told.check(policy, |unknown| request.refuse_unpriced_fields(unknown))?;
        let input = Input::Embeddings(request.original());
        let asked = Asked::Embeddings(&request);
        let (provider, admitted) = self.admit(requester, labels, server, &asked, input, snapshot).await?;
        let Admitted { flight, .. } = admitted;
        request.set_model(flight.model().to_owned());
        let (id, sent_at) = (flight.id(), Instant::now());
        let sent = tokio::select! {
            biased;
            () = flight.ground.cancelled() => return Err(Unserved { error: shutting_down(), id: Some(id) }),
            sent = provider.embeddings(&request, room) => sent,
        };
        match sent {
            Ok(complete) => Ok(self.complete(flight, complete, Tell::CHAT, room, sent_at.elapsed()).await),
            Err(error) => Err(Box::pin(self.failed(flight, error)).await),
        }
    }

    /// How many tokens a chat has for its model, as the provider says it; counted here where the provider has no such route.
    /// That is free, so nothing is held and nothing noted; but only who may ask the model may ask this.
    ///
    /// # Errors
    /// See [`MeterError`].
    pub async fn count_tokens(
        &self,
        requester: Requester,
        labels: &Labels,
        server: Option<&Provider>,
        mut request: ChatRequest,
    ) -> Result<Bytes, MeterError> {
        let snapshot = self.snapshot().await?;
        let (provider, route) = self.find(&snapshot, server, &requester.user, request.model()).await?;
        let day = snapshot.settings().zone()?.day(self.0.clock.now());
        // It says nothing about the chat that it comes from.
        let requester = Requester { by_open_webui: false, ..requester };
        let rules = Rules { today: day, remarks: None };
        let payer = payer(&self.0, &snapshot, requester, labels, &route, rules).await?;
        accounts(&payer, &snapshot, day)?;
        request.set_model(route.model.to_string());
        let told = provider.count_tokens(&request).await.map_err(|error| match error {
            ProviderError::Unsupported(refused) => refused.into(),
            error => MeterError::Provider(error),
        })?;
        if let Some(told) = told {
            return Ok(told);
        }
        let input = Input::Chat(request.shape(), request.original());
        let model = route.model.to_string();
        let (tokens, _) = Box::pin(count::count(model, &payer.user, input, Output::default())).await;
        Ok(Tell::of(&request).count(tokens))
    }

    /// Whether there is that model, and it may be asked for: what a request for it would be refused for first.
    ///
    /// # Errors
    /// See [`MeterError`].
    pub async fn require_model(
        &self,
        server: Option<&Provider>,
        user: &UserId,
        model: &str,
    ) -> Result<(), MeterError> {
        let snapshot = self.0.catalogue.snapshot().await?;
        let found = self.find(&snapshot, server, user, model).await;
        found.map(drop).inspect_err(|error| self.note_refusal(&snapshot, user, None, model, error))
    }

    /// The models that can be asked for, those that sponsored allowances offer as models of their own included.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] if the database is away.
    pub async fn models(&self, audience: Audience<'_>) -> Result<Vec<OfferedModel>, MeterError> {
        let snapshot = self.0.catalogue.snapshot().await?;
        Ok(self.0.routes.offered_to(&snapshot, audience))
    }

    /// The models that sponsored allowances offer as models of their own, of one provider or of all, whoever serves it.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] if the database is away.
    pub async fn sponsored_models(
        &self,
        provider: Option<&ProviderName>,
    ) -> Result<Vec<OfferedModel>, MeterError> {
        let snapshot = self.0.catalogue.snapshot().await?;
        Ok(sponsored::offered(&snapshot, &sponsored::at(&snapshot, provider), Audience::Anybody))
    }

    /// Whether requests can be served now.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn ready(&self) -> Result<(), storage::Error> {
        if self.0.closing.is_cancelled() {
            return Err(storage::Error::Unavailable { what: "shutting down".into() });
        }
        self.0.ledger.ping().await
    }

    /// The users and prices that this meter knows.
    pub fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Under which name this process holds at present.
    pub fn owner(&self) -> OwnerId {
        self.0.ledger.owner()
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> usize {
        self.0.flights.count()
    }

    /// Lets running requests end for up to `drain`, then ends them, settles all and gives up this process's name.
    pub async fn shutdown(&self, drain: Duration) {
        beat::shutdown(&self.0, drain).await;
    }

    /// Prices and limits as they are now.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, MeterError> {
        if self.0.closing.is_cancelled() {
            return Err(shutting_down());
        }
        Ok(self.0.catalogue.snapshot().await?)
    }

    /// The provider of a model, and its price.
    async fn find(
        &self,
        snapshot: &Snapshot,
        server: Option<&Provider>,
        user: &UserId,
        model: &str,
    ) -> Result<(Provider, Route), MeterError> {
        let (provider, route) = match server {
            Some(server) => (server.clone(), route::at(snapshot, server.name(), model)?),
            None => {
                let found = self.0.routes.find(snapshot, model).await;
                found.map_err(|error| self.0.routes.with_meant(snapshot, user, error))?
            }
        };
        let is_openais = provider.is_openais();
        Ok((provider, Route { is_openais, ..route }))
    }

    /// Step 1, then 2 and 3: a provider and a price, then a hold.
    async fn admit(
        &self,
        requester: Requester,
        labels: Labels,
        server: Option<&Provider>,
        asked: &Asked<'_>,
        input: Input,
        snapshot: Arc<Snapshot>,
    ) -> Result<(Provider, Admitted), MeterError> {
        let model = asked.model();
        let (provider, route) = self
            .find(&snapshot, server, &requester.user, model)
            .await
            .inspect_err(|error| self.note_refusal(&snapshot, &requester.user, None, model, error))?;
        let admitted = self.admitted(requester, labels, asked, snapshot, route, input, None).await?;
        Ok((provider, admitted))
    }

    /// Notes that a request of a user was refused before it came here.
    pub async fn refused(&self, user: &UserId, error: &MeterError) {
        if let Ok(snapshot) = self.0.catalogue.snapshot().await {
            self.note_refusal(&snapshot, user, None, "", error);
        }
    }

    pub(crate) fn note_refusal(
        &self,
        snapshot: &Snapshot,
        user: &UserId,
        provider: Option<&ProviderName>,
        model: &str,
        error: &MeterError,
    ) {
        self.0.refusals.note(snapshot, self.0.clock.now(), user, provider, model, error);
    }

    /// Steps 2 and 3, whose refusals are noted.
    #[expect(clippy::too_many_arguments, reason = "what steps 1 to 3 hand on")]
    pub(crate) async fn admitted(
        &self,
        requester: Requester,
        labels: Labels,
        asked: &Asked<'_>,
        snapshot: Arc<Snapshot>,
        route: Route,
        input: Input,
        remarks: Option<&mut Vec<Remark>>,
    ) -> Result<Admitted, MeterError> {
        let (user, provider, model) = (requester.user.clone(), route.provider.clone(), route.model.clone());
        let held = self.hold(requester, labels, asked, Arc::clone(&snapshot), route, input, remarks).await;
        held.inspect_err(|error| self.note_refusal(&snapshot, &user, Some(&provider), model.as_str(), error))
    }

    /// Steps 2 and 3: who pays, quote, hold. `remarks`: where rules leave them that can't refuse any more.
    #[expect(clippy::too_many_arguments, reason = "what steps 1 to 3 hand on")]
    async fn hold(
        &self,
        requester: Requester,
        labels: Labels,
        asked: &Asked<'_>,
        snapshot: Arc<Snapshot>,
        route: Route,
        input: Input,
        remarks: Option<&mut Vec<Remark>>,
    ) -> Result<Admitted, MeterError> {
        let settings = snapshot.settings();
        let now = self.0.clock.now();
        let day = settings.zone()?.day(now);
        if !matches!(input, Input::Told) {
            settings.require(&["admission_policy", "hold_output_tokens", "strict_min_output"])?;
        }
        let rules = Rules { today: day, remarks };
        let payer = payer(&self.0, &snapshot, requester, &labels, &route, rules).await?;
        let limits = accounts(&payer, &snapshot, day)?;
        let quoted = quote(asked, &payer.user, limits.clone(), &route, settings).await?;
        let record = RequestRecord {
            user: payer.user,
            sponsored: payer.sponsored,
            day,
            provider: route.provider.clone(),
            model: route.model.clone(),
            price_version: route.version,
            policy: settings.admission_policy,
            way_in: labels.way_in,
            task: labels.task,
            chat_id: labels.chat_id,
            message_id: labels.message_id,
            workspace_model: labels.workspace_model,
            instance: self.0.instance.clone(),
            started_at: now.as_microsecond(),
            // Whoever says what it used had no input to guess.
            input_tokens: if matches!(input, Input::Told) { 0 } else { quoted.input_tokens },
        };
        let id = RequestId::new(new_id());
        let (bid, wait) = (quoted.bid, settings.hold_wait);
        match self.0.ledger.hold(HoldRequest { id, bid, record: record.clone(), wait }).await? {
            HoldOutcome::Held(hold) => {
                let output_tokens = hold.output_tokens();
                let cargo = Cargo { hold, record, limits, route, snapshot, input, seen: Seen::default() };
                Ok(Admitted { flight: Flight::new(&self.0, cargo), output_tokens })
            }
            HoldOutcome::Refused(refusal) => {
                Err(MeterError::LimitReached(Box::new(self.limit_reached(&snapshot, refusal)?)))
            }
            HoldOutcome::Busy => Err(MeterError::Busy),
        }
    }

    /// Step 6 for a whole answer.
    async fn complete(
        &self,
        mut flight: Flight,
        complete: Complete,
        tell: Tell,
        room: &mut dyn AnswerRoom,
        waited: Duration,
    ) -> MeteredAnswer {
        let Complete { body, usage, usage_goes_on, model, produced, request_id, omitted, headers } = complete;
        let reported = if usage_goes_on { Reported::SoFar } else { Reported::Final };
        flight.note(produced.text, usage.map(reported), model);
        flight.note_request_id(request_id);
        let id = flight.id();
        let bill = self.settled(flight, Outcome::Complete).await;
        let body = off_runtime(body.len(), || tell.complete(body, bill.as_ref()));
        room.keep(body.len());
        MeteredAnswer { id, body: MeteredBody::Complete(body), omitted, headers, waited, bill }
    }

    /// Step 6 for a request that failed before anything was passed on.
    async fn failed(&self, flight: Flight, error: ProviderError) -> Unserved {
        let id = Some(flight.id());
        flight.fail(&error).await;
        if let ProviderError::Unsupported(refused) = error {
            return Unserved { error: refused.into(), id };
        }
        Unserved { error: MeterError::Provider(error), id }
    }

    pub(crate) async fn settled(&self, flight: Flight, outcome: Outcome) -> Option<Bill> {
        let settled = flight.settle(outcome);
        tokio::time::timeout(self.0.waits.settle, settled).await.ok().and_then(Result::ok)
    }

    fn limit_reached(
        &self,
        snapshot: &Snapshot,
        refusal: accounting::Refusal,
    ) -> Result<LimitReached, MeterError> {
        let accounting::Refusal { account, limit, spent, needs } = refusal;
        let zone = snapshot.settings().zone()?;
        let resets_at =
            account.period().map(|(period, first)| zone.end_of_period(period, first)).transpose()?;
        let now = self.0.clock.now();
        let seconds = resets_at.map(|at| {
            let left = (at.as_microsecond() - now.as_microsecond()).max(0);
            left.unsigned_abs().div_ceil(1_000_000)
        });
        let free_models = self.0.routes.free(snapshot);
        let resets_text = resets_at.map(|at| zone.show(at));
        Ok(LimitReached { account, limit, spent, needs, resets_at, resets_text, seconds, free_models })
    }
}

pub(crate) fn shutting_down() -> MeterError {
    MeterError::Unavailable { what: "it is shutting down; please ask again".into() }
}
