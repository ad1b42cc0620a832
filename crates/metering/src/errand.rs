//! A request that foreign code sends by itself: held, metered by what it reports, and settled as any other.
//!
//! The rule it protects: code that is not ours can be wrong about its end, but not skip it. An [`Errand`] that is dropped is
//! settled with what it reported last.

use accounting::{Credits, Price, ProviderName, RequestId, Usage, charge};
use bytes::Bytes;
use providers::{ChatRequest, Reported, Shape};
use storage::ledger::Outcome;

use crate::count::Input;
use crate::flight::Flight;
use crate::meter::{Labels, Meter, shutting_down};
use crate::payer::Requester;
use crate::quote::Asked;
use crate::remark::{self, Remark};
use crate::settlement::Bill;
use crate::{MeterError, route};

/// A request under way that somebody else sends.
#[derive(Debug)]
#[must_use = "an errand must be settled or released"]
pub struct Errand {
    flight: Flight,
    amount: Credits,
    output_tokens: Option<u64>,
}

/// What foreign code used, when it is told only afterwards.
#[derive(Debug, Clone)]
pub struct Used {
    /// The price table's provider.
    pub provider: ProviderName,
    /// The model, as the price table has it.
    pub model: String,
    /// What it used.
    pub usage: Usage,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What it cost.
    pub bill: Bill,
    /// The rules that would have refused it.
    pub remarks: Vec<Remark>,
}

impl Meter {
    /// Sets aside what the request may cost at that provider; the caller sends it.
    ///
    /// # Errors
    /// See [`MeterError`]; nothing is held then.
    pub async fn errand(
        &self,
        requester: Requester,
        labels: Labels,
        provider: &ProviderName,
        request: &ChatRequest,
    ) -> Result<Errand, MeterError> {
        if self.shared().closing.is_cancelled() {
            return Err(shutting_down());
        }
        let snapshot = self.shared().catalogue.snapshot().await?;
        let route = route::at(&snapshot, provider, request.model()).inspect_err(|error| {
            self.note_refusal(&snapshot, &requester.user, Some(provider), request.model(), error);
        })?;
        let input = Input::Chat(request.shape(), request.original());
        let admitted =
            self.admitted(requester, labels, &Asked::Chat(request), snapshot, route, input, None).await?;
        Ok(Errand {
            amount: admitted.flight.amount(),
            output_tokens: admitted.output_tokens,
            flight: admitted.flight,
        })
    }

    /// Charges a request that has ended, without a hold and whatever is left or any rule says: it has happened. `remarks`:
    /// rules that the caller knows to be against it.
    ///
    /// # Errors
    /// [`MeterError::BadRequest`] for what can't be charged at all, [`MeterError::Unavailable`] if the database is away.
    pub async fn used(
        &self,
        mut requester: Requester,
        labels: Labels,
        used: Used,
        mut remarks: Vec<Remark>,
    ) -> Result<Recorded, MeterError> {
        let snapshot = self.shared().catalogue.snapshot().await?;
        if snapshot.settings().base_credit_allowance.is_none() {
            // It has happened, whether or not anything was granted.
            requester.limit.get_or_insert(Credits::ZERO);
        }
        let mut route = remark::route_of_past(&snapshot, &used.provider, &used.model, &mut remarks)?;
        let user = requester.user.clone();
        // Fails before anything is written.
        charge(&route.price, &used.usage)?;
        let price = std::mem::replace(&mut route.price, Price::FREE);
        let body = format!(r#"{{"model":{},"messages":[]}}"#, serde_json::Value::from(used.model.as_str()));
        let request = ChatRequest::parse_as(Shape::Chat, Bytes::from(body))?;

        let asked = Asked::Chat(&request);
        let admitted = self
            .admitted(requester, labels, &asked, snapshot, route, Input::Told, Some(&mut remarks))
            .await?;
        let mut flight = admitted.flight;
        flight.reprice(price);
        flight.note("", Some(Reported::Final(used.usage)), None);
        for Remark { code, message } in &remarks {
            tracing::warn!(%user, model = used.model, code, message, "usage was recorded against a rule");
        }
        let outcome = if remarks.is_empty() { Outcome::Complete } else { Outcome::NotAllowed };
        let bill = self.settled(flight, outcome).await.ok_or_else(unsettled)?;
        Ok(Recorded { bill, remarks })
    }

    /// Waits until a request of this process has ended and is settled.
    pub async fn landed(&self, id: RequestId) {
        self.shared().flights.landed(id).await;
    }
}

impl Errand {
    /// Its id.
    pub fn id(&self) -> RequestId {
        self.flight.id()
    }

    /// What is held on each account.
    pub const fn amount(&self) -> Credits {
        self.amount
    }

    /// The output tokens for each choice that the hold covers, if the policy bounds them.
    pub const fn output_tokens(&self) -> Option<u64> {
        self.output_tokens
    }

    /// Notes what was produced since the last time, and what the provider reported in all.
    pub fn note(&mut self, produced: &str, usage: Option<Usage>) {
        self.flight.note(produced, usage.map(Reported::Final), None);
    }

    /// Ends it, at what was noted.
    ///
    /// # Errors
    /// [`MeterError::Unavailable`] if the charge is not committed yet; it will be.
    pub async fn settle(self, meter: &Meter, outcome: Outcome) -> Result<Bill, MeterError> {
        meter.settled(self.flight, outcome).await.ok_or_else(unsettled)
    }

    /// Ends it for nothing: nothing was produced.
    pub async fn release(self) {
        self.flight.release().await;
    }
}

fn unsettled() -> MeterError {
    MeterError::Unavailable { what: "the charge is not written yet; it will be".into() }
}
