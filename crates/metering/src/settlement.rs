//! The charge of a request, however it ended, and its settlement.
//!
//! What the provider reported counts, however the request ended; else the input is counted and the output is counted
//! from what passed, and the charge is marked as estimated.

use accounting::{Credits, Label, Price, PriceVersion, Usage, UserId, charge, with_unpriced_pictures};
use providers::Reported;
use serde_json::Number;
use storage::PricedModel;
use storage::ledger::{Abandoned, Estimated, Outcome, Progress, Settlement};

use crate::count::{self, Input};
use crate::flight::{Cargo, Seen};
use crate::output::Output;
use crate::quote::remaining;
use crate::shared::Shared;

/// A request's end as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// What was used.
    pub usage: Usage,
    /// What it costs.
    pub charge: Credits,
    /// Whether that rests on counted tokens.
    pub estimated: bool,
    /// What is left on the tightest of the user's accounts; `None` without a limit, or if not yet committed.
    pub remaining: Option<Credits>,
    /// Credits for one USD, if the settings name a rate.
    pub credits_per_usd: Option<Credits>,
}

impl Bill {
    /// The cost in USD to the billionth, rounded up; `None` without a rate.
    pub fn cost(&self) -> Option<Number> {
        self.credits_per_usd.and_then(|rate| usd(self.charge, rate))
    }
}

fn usd(charge: Credits, credits_per_usd: Credits) -> Option<Number> {
    const BILLION: i128 = 1_000_000_000;
    let (charge, rate) = (i128::from(charge.micro()), i128::from(credits_per_usd.micro()));
    if rate <= 0 {
        return None;
    }
    let billionths = (charge * BILLION + rate - 1) / rate;
    let text = format!("{}.{:09}", billionths / BILLION, billionths % BILLION);
    text.trim_end_matches('0').trim_end_matches('.').parse().ok()
}

/// No request has so many tokens: four hundred times what the longest contexts of today hold.
const IMPOSSIBLE: u64 = 1 << 32;

/// Counts, charges and settles. `None` if the settlement failed for good, which is logged; its hold then stands.
pub(crate) async fn settle(shared: &Shared, cargo: Cargo, outcome: Outcome) -> Option<Bill> {
    let Cargo { hold, record, limits, route, snapshot, input, seen } = cargo;
    let Seen { produced, usage, answered_model, provider_request_id, first_byte_at } = seen;
    let model = route.model.as_str();
    let told_itself = matches!(input, Input::Told);
    let (usage, estimated) = used(model, &record.user, usage, input, produced).await;
    let usage = as_charged(&route.price, usage, told_itself);
    let answered = answered_model.as_deref().and_then(|name| {
        let model = accounting::ModelId::new(name).ok().filter(|model| *model != route.model)?;
        snapshot.price(&route.provider, &model)
    });
    let (charge, price_version) = match dearer(&route.price, answered, &usage) {
        Ok(priced) => priced,
        Err(error) => {
            tracing::error!(%error, request = %hold.id(), "a request can't be charged; its hold stands");
            let id = hold.id();
            hold.keep();
            leave(shared, id).await;
            return None;
        }
    };
    let accounts = hold.accounts().to_vec();
    let settlement = Settlement {
        id: hold.id(),
        accounts,
        answered_model: answered_model.as_deref().and_then(Label::some),
        price_version,
        usage,
        charge,
        estimated,
        outcome,
        provider_request_id: provider_request_id.as_deref().and_then(Label::some),
        first_byte_at,
        ended_at: shared.clock.now(),
        record,
    };
    log(&settlement);
    let id = settlement.id;
    match hold.settle(settlement).await {
        Ok(settled) => {
            if settled.over_hold {
                tracing::warn!(request = %id, %charge, "a request cost more than its strict hold");
            }
            Some(Bill {
                usage,
                charge,
                estimated: estimated.is_some(),
                remaining: remaining(&limits, &settled.accounts),
                credits_per_usd: snapshot.settings().credits_per_usd,
            })
        }
        Err(error) => {
            tracing::error!(%error, request = %id, "a charge could not be written; its hold stands until it is recovered");
            leave(shared, id).await;
            None
        }
    }
}

/// Gives up a hold that can't be settled: it is tried again ever more rarely, by whichever process, and `doctor` shows it.
async fn leave(shared: &Shared, id: accounting::RequestId) {
    if let Err(error) = shared.ledger.leave(id).await {
        tracing::warn!(%error, request = %id, "a hold stands until its process ends");
    }
}

/// What a request used, and whether that is counted here.
///
/// There is no request without a prompt, and no text without output: servers that report 0 of either don't count what was
/// in their cache, or nothing at all, and such a count is a missing one.
async fn used(
    model: &str,
    user: &UserId,
    reported: Option<Reported>,
    input: Input,
    produced: Output,
) -> (Usage, Option<Estimated>) {
    let (told, goes_on) =
        match reported.filter(|(Reported::Final(usage) | Reported::SoFar(usage))| is_possible(usage)) {
            Some(Reported::Final(usage)) => (usage, false),
            Some(Reported::SoFar(usage)) => (usage, true),
            None => {
                let (input, output) = count::count(model.to_owned(), user, input, produced).await;
                return (Usage::tokens(input, output), Some(Estimated::Counted));
            }
        };
    if matches!(input, Input::Told) {
        return (told, None);
    }
    let more_output = goes_on || (told.output == 0 && produced.bytes() > 0);
    let (input, output) = match (told.input, more_output) {
        (0, _) => count::count(model.to_owned(), user, input, produced).await,
        (_, true) => {
            let (before, rest) = produced.finish().await;
            (0, count::produced(model.to_owned(), before, rest).await.unwrap_or_default())
        }
        (_, false) => return (told, None),
    };
    let output = if more_output { told.output.max(output) } else { told.output };
    (Usage { input: told.input.max(input), output, ..told }, Some(Estimated::Counted))
}

/// What is charged of a usage at that price: pictures without a rate of their own as the dearest output. `told_itself`: who
/// tells what it used itself has named its classes.
fn as_charged(price: &Price, usage: Usage, told_itself: bool) -> Usage {
    with_unpriced_pictures(price, &usage).filter(|_| !told_itself).unwrap_or(usage)
}

/// Whether a report can be right at all. One that can't is none: its charge could leave the range of credits, and never be
/// written.
fn is_possible(usage: &Usage) -> bool {
    [usage.input, usage.output, usage.images, usage.calls].into_iter().all(|count| count < IMPOSSIBLE)
}

/// The settlement of a request whose process is gone: what it reported last, else the input by length and the output by
/// the length that had passed.
pub(crate) fn recovered(
    abandoned: Abandoned,
    price: Option<&PricedModel>,
    shared: &Shared,
) -> Result<Settlement, accounting::Error> {
    let Abandoned { id, accounts, record, progress } = abandoned;
    let progress = progress.unwrap_or_default();
    let (usage, estimated) = used_so_far(record.input_tokens, &progress);
    let usage = price.map_or(usage, |priced| as_charged(&priced.price, usage, record.input_tokens == 0));
    let charge = match (record.price_version, price) {
        (None, _) => Credits::ZERO,
        (Some(_), Some(priced)) => charge(&priced.price, &usage)?,
        (Some(version), None) => {
            return Err(accounting::Error::BadPrice(format!(
                "its version {} is not there any more",
                version.0
            )));
        }
    };
    Ok(Settlement {
        id,
        record,
        accounts,
        answered_model: None,
        price_version: None,
        usage,
        charge,
        estimated,
        outcome: Outcome::Recovered,
        provider_request_id: None,
        first_byte_at: progress.first_byte_at.and_then(|at| jiff::Timestamp::from_microsecond(at).ok()),
        ended_at: shared.clock.now(),
    })
}

/// What a request had used when its progress was saved last, by the rules of [`used`], and whether that is guessed here.
fn used_so_far(guessed_input: u64, progress: &Progress) -> (Usage, Option<Estimated>) {
    let Some(told) = progress.usage.filter(is_possible) else {
        let usage = Usage::tokens(guessed_input, progress.output_tokens);
        return (usage, Some(Estimated::Length));
    };
    // Whoever tells what it used itself had no input to guess.
    let input = if told.input == 0 { guessed_input } else { told.input };
    let more_output = progress.growing || told.output == 0;
    let output = if more_output { told.output.max(progress.output_tokens) } else { told.output };
    let guessed = progress.growing || input != told.input || output != told.output;
    (Usage { input, output, ..told }, guessed.then_some(Estimated::Length))
}

/// The charge at the price of admission, or at the price of the model that answered if that is dearer.
fn dearer(
    price: &Price,
    answered: Option<&PricedModel>,
    usage: &Usage,
) -> Result<(Credits, Option<PriceVersion>), accounting::Error> {
    let asked = charge(price, usage)?;
    match answered {
        Some(other) => {
            let other_charge = charge(&other.price, usage)?;
            Ok(if other_charge > asked { (other_charge, Some(other.version)) } else { (asked, None) })
        }
        None => Ok((asked, None)),
    }
}

fn log(settlement: &Settlement) {
    let Settlement { record, usage, .. } = settlement;
    metrics::counter!("tracking_requests_total", "outcome" => settlement.outcome.as_str()).increment(1);
    metrics::counter!("tracking_input_tokens_total").increment(usage.input);
    metrics::counter!("tracking_output_tokens_total").increment(usage.output);
    metrics::counter!("tracking_microcredits_total").increment(settlement.charge.micro().unsigned_abs());
    tracing::info!(
        request = %settlement.id,
        user = %record.user,
        provider = %record.provider,
        model = %record.model,
        input_tokens = usage.input,
        output_tokens = usage.output,
        credits = %settlement.charge,
        estimated = settlement.estimated.map(|how| how.as_str()),
        adjusted = usage.adjusted,
        outcome = settlement.outcome.as_str(),
        task = record.task.as_deref(),
        "request"
    );
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use providers::Shape;

    use super::*;

    #[test]
    fn costs_are_exact() {
        let rate = Credits::from_whole(1000).unwrap();
        let cost = |charge| usd(charge, rate).unwrap().to_string();
        assert_eq!(cost(Credits::from_micro(1_234_567)), "0.001234567");
        assert_eq!(cost(Credits::from_whole(5000).unwrap()), "5");
        assert!(usd(Credits::ONE, Credits::ZERO).is_none());
    }

    #[tokio::test]
    async fn what_a_report_leaves_out_is_counted() {
        let body =
            Bytes::from_static(br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#);
        let input = || Input::Chat(Shape::Chat, body.clone());
        let user = UserId::new("ann").unwrap();
        // One word each: 1 token, for the prompt 7 more around it.
        for (reported, produced, expected, counted) in [
            (None, "word", (8, 1), true),
            (Some(Reported::Final(Usage::tokens(3, 4))), "word", (3, 4), false),
            (Some(Reported::Final(Usage::tokens(3, 0))), "", (3, 0), false),
            (Some(Reported::Final(Usage::tokens(3, 0))), "word", (3, 1), true),
            (Some(Reported::Final(Usage::tokens(0, 4))), "word", (8, 4), true),
            (Some(Reported::Final(Usage::tokens(0, 0))), "word", (8, 1), true),
            (Some(Reported::SoFar(Usage::tokens(3, 0))), "word", (3, 1), true),
            (Some(Reported::SoFar(Usage::tokens(3, 9))), "word", (3, 9), true),
            (Some(Reported::SoFar(Usage::tokens(0, 0))), "word", (8, 1), true),
            // No charge could be written of it.
            (Some(Reported::Final(Usage::tokens(u64::MAX, 4))), "word", (8, 1), true),
        ] {
            let (usage, estimated) = used("gpt-4o", &user, reported, input(), produced.into()).await;
            assert_eq!((usage.input, usage.output), expected, "{reported:?} {produced}");
            assert_eq!(estimated.is_some(), counted, "{reported:?} {produced}");
        }
        // What was adjusted stays so, whatever is counted beside it.
        let adjusted = Usage { adjusted: true, ..Usage::tokens(3, 0) };
        assert!(
            used("gpt-4o", &user, Some(Reported::SoFar(adjusted)), input(), "word".into()).await.0.adjusted
        );
        let told = Usage::tokens(0, 4);
        assert_eq!(
            used("gpt-4o", &user, Some(Reported::Final(told)), Input::Told, Output::default()).await,
            (told, None)
        );
    }

    #[test]
    fn pictures_without_a_rate_are_charged_alike_however_a_request_ends() {
        let rate = |credits| accounting::Rate::new(Credits::from_micro(credits), 1);
        let price = Price { reasoning: Some(rate(50)), ..Price::new(rate(1), rate(10)) };
        let told = Usage { images: 1, ..Usage::tokens(5, 1290) };
        let charged = as_charged(&price, told, false);
        assert!(charged.adjusted && charge(&price, &charged).unwrap() == Credits::from_micro(5 + 50 * 1290));
        assert_eq!(as_charged(&price, told, true), told);
        let priced = Price { images: Some(rate(7)), ..price };
        assert_eq!(as_charged(&priced, told, false), told);
    }

    #[test]
    fn a_recovery_takes_what_was_told_and_guesses_the_rest() {
        let told =
            |usage, growing| Progress { output_tokens: 9, usage: Some(usage), growing, first_byte_at: None };
        for (progress, expected, guessed) in [
            (Progress::default(), (7, 0), true),
            (Progress { output_tokens: 9, ..Progress::default() }, (7, 9), true),
            (told(Usage::tokens(100, 1), true), (100, 9), true),
            (told(Usage::tokens(100, 20), true), (100, 20), true),
            (told(Usage::tokens(100, 4), false), (100, 4), false),
            (told(Usage::tokens(100, 0), false), (100, 9), true),
            (told(Usage::tokens(0, 4), false), (7, 4), true),
        ] {
            let (usage, estimated) = used_so_far(7, &progress);
            assert_eq!((usage.input, usage.output), expected, "{progress:?}");
            assert_eq!(estimated.is_some(), guessed, "{progress:?}");
        }
        let adjusted = told(Usage { adjusted: true, ..Usage::tokens(100, 1) }, true);
        assert!(used_so_far(7, &adjusted).0.adjusted);
        // What foreign code says of itself is exact, also without a prompt.
        let usage = Usage::tokens(0, 4);
        assert_eq!(used_so_far(0, &told(usage, false)), (usage, None));
    }
}
