//! `usage --refused`: who was refused, at which limit.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;
use storage::Database;
use storage::refusals::{self, RefusedRow};
use storage::reports::usage::Question;

use super::{Side, heads, shown};
use crate::output::{self, Column, Format, number, text};

pub(super) async fn run(
    database: &Database,
    question: &Question,
    sides: &[Side],
    format: Format,
) -> anyhow::Result<ExitCode> {
    let found = refusals::refused(database, question).await?;
    let more = [
        text("reason", "Reason"),
        text("limited_by", "Limit"),
        number("refused", "Refused"),
        text("first_at", "First (UTC)"),
        text("last_at", "Last (UTC)"),
    ];
    let columns: Vec<Column> = sides.iter().flat_map(|side| heads(*side, format)).chain(more).collect();
    let row = |row: RefusedRow| -> Vec<Value> {
        let keys = sides.iter().zip(&row.keys).flat_map(|(side, key)| shown(*side, key, format));
        let RefusedRow { reason, limited_by, times, .. } = &row;
        let (reason, limit) = match format {
            Format::Table => (words(reason), limit_words(limited_by)),
            _ => (reason.as_str(), limited_by.as_str()),
        };
        let rest = [reason.into(), limit.into(), times.count.into(), second(times.first), second(times.last)];
        keys.chain(rest).collect()
    };
    output::rows(format, &columns, found.into_iter().map(row).collect())?;
    Ok(ExitCode::SUCCESS)
}

fn second(at: Timestamp) -> Value {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string().into()
}

/// A reason for people.
pub(crate) fn words(reason: &str) -> &str {
    match reason {
        "limit" => "limit reached",
        "too_large" => "more than is left",
        "busy" => "other requests held the rest",
        "too_many_requests" => "too many requests at a time",
        "not_sponsored" => "not sponsored",
        "no_allowance" => "no allowance",
        "model_not_priced" => "model without a price",
        "unknown_model" => "no such model",
        other => other,
    }
}

/// A limit for people.
pub(crate) fn limit_words(limit: &str) -> &str {
    match limit {
        "user-day" => "daily",
        "user-week" => "weekly",
        "user-month" => "monthly",
        "sponsored-user-day" => "sponsored, daily",
        "sponsored-total" => "sponsored, total",
        other => other,
    }
}
