//! Who was refused what: noted in memory when it happens, and written every few seconds, so that no answer waits for it.
//!
//! What is noted is lost if the process is killed; no money depends on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounting::{AccountKey, Label, ProviderName, UserId};
use jiff::Timestamp;
use providers::safe_words;
use storage::refusals::{self, Reason, Refusal, Times};
use storage::{Database, Snapshot, unknown_usage};
use tokio::time::{MissedTickBehavior, interval};

use crate::MeterError;
use crate::shared::Shared;

/// How often they are written.
const EVERY: Duration = Duration::from_secs(2);
/// So many different ones are noted between two writings; more are not kept.
const MOST: usize = 4096;
/// So many are written in one transaction.
const PORTION: usize = 256;
/// Bytes of a model's name that a client made up.
const LONGEST_MODEL: usize = 255;

/// Those that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Refusal, Times>>);

impl Refusals {
    /// Notes that a request was refused, if it was: a request that is wrong in itself, or that nobody could have served, was not.
    pub(crate) fn note(
        &self,
        snapshot: &Snapshot,
        now: Timestamp,
        user: &UserId,
        provider: Option<&ProviderName>,
        model: &str,
        error: &MeterError,
    ) {
        let (reason, account) = match error {
            MeterError::LimitReached(limit) if limit.needs.is_some() => {
                (Reason::TooLarge, Some(&limit.account))
            }
            MeterError::LimitReached(limit) => (Reason::Limit, Some(&limit.account)),
            MeterError::Busy => (Reason::Busy, None),
            MeterError::TooManyRequests => (Reason::TooManyRequests, None),
            MeterError::NotSponsored { .. } => (Reason::NotSponsored, None),
            MeterError::NoAllowance => (Reason::NoAllowance, None),
            MeterError::Unpriced { .. } => (Reason::NotPriced, None),
            MeterError::UnknownModel { .. } => (Reason::UnknownModel, None),
            _ => return,
        };
        let provider = match (provider, error) {
            (Some(provider), _) => provider.to_string(),
            (None, MeterError::Unpriced { provider, .. }) => provider.clone(),
            (None, _) => String::new(),
        };
        let (begin, _) = model.split_at(model.floor_char_boundary(LONGEST_MODEL));
        // What is no model may be a secret in the wrong place.
        let name = if reason == Reason::UnknownModel { safe_words(begin) } else { begin.to_owned() };
        let refusal = Refusal {
            day: snapshot.settings().timezone.day(now),
            user: user.clone(),
            provider,
            model: Label::new(&name).to_string(),
            reason,
            limited_by: account.map(AccountKey::kind).unwrap_or_default(),
            sponsored: account.and_then(AccountKey::sponsored),
        };
        self.add(refusal, Times { count: 1, first: now, last: now });
    }

    fn add(&self, mut refusal: Refusal, times: Times) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusal.reason == Reason::UnknownModel && noted.len() >= MOST / 2 && !noted.contains_key(&refusal)
        {
            // Made-up names leave room for what others are refused.
            refusal.model = String::new();
        }
        if let Some(before) = noted.get_mut(&refusal) {
            before.count = before.count.saturating_add(times.count);
            before.first = before.first.min(times.first);
            before.last = before.last.max(times.last);
        } else if noted.len() < MOST {
            noted.insert(refusal, times);
        }
    }

    async fn write(&self, database: &Database) {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut noted: Vec<(Refusal, Times)> = noted.into_iter().collect();
        // Two processes lock rows in the same order.
        noted.sort_by(|(a, _), (b, _)| a.cmp(b));
        while !noted.is_empty() {
            let rest = noted.split_off(noted.len().min(PORTION));
            if let Err(error) = refusals::add(database, &noted).await {
                tracing::debug!(%error, "refusals could not be written; trying again");
                for (refusal, times) in noted.into_iter().chain(rest) {
                    self.add(refusal, times);
                }
                return;
            }
            noted = rest;
        }
    }
}

/// Writes down which numbers in the usage of providers nobody knows, if there are new ones.
async fn write_unknown_numbers(shared: &Shared) {
    let taken = providers::take_unknown_numbers();
    if taken.is_empty() {
        return;
    }
    let numbers: Vec<_> =
        taken.iter().map(|number| (number.provider.to_string(), number.field.clone())).collect();
    if let Err(error) = unknown_usage::add(shared.catalogue.database(), &numbers, shared.clock.now()).await {
        tracing::debug!(%error, "unknown numbers in usage could not be written; trying again");
        providers::keep_unknown_numbers(taken);
    }
}

/// Writes them until the process closes, and then once more.
pub(crate) async fn keep_writing(shared: Arc<Shared>) {
    let mut turns = interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_closing = tokio::select! {
            biased;
            () = shared.closing.cancelled() => true,
            _ = turns.tick() => false,
        };
        shared.refusals.write(shared.catalogue.database()).await;
        write_unknown_numbers(&shared).await;
        if is_closing {
            return;
        }
    }
}
