//! `balance [USER] [--explain]`.

use std::process::ExitCode;

use accounting::{Credits, Period};
use serde_json::{Value, json};
use storage::SystemClock;
use storage::refusals::RefusedRow;
use storage::reports::balance::{self, Balance, PeriodBalance};
use storage::reports::explain::{Explanation, Parts, explain};
use storage::{Database, Limits, Snapshot};

use crate::connect::DatabaseArguments;
use crate::output::{self, Column, Format, FormatArguments, credits, number, text};
use crate::usage::refused::{limit_words, words};

/// Show what users have left today, and in the week and the month where there are limits for them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking balance\n  \
    owui-token-tracking balance ann@example.org --explain")]
pub(crate) struct Arguments {
    /// One user, by id, e-mail address or name; all without.
    user: Option<String>,
    /// Show what the limits and the spending of that user are made of.
    #[arg(long, requires = "user")]
    explain: bool,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    match arguments.user.as_deref().filter(|_| arguments.explain) {
        Some(user) => explained(&database, user, arguments.format.format).await?,
        None => {
            let balances = balance::balances(&database, &SystemClock, arguments.user.as_deref()).await?;
            show(&balances, arguments.format.format)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A part of a balance for each column behind the user.
type Part = fn(&PeriodBalance) -> Value;

fn limit(of: &PeriodBalance) -> Value {
    credits(of.limit)
}

fn spent(of: &PeriodBalance) -> Value {
    credits(of.spent)
}

fn held(of: &PeriodBalance) -> Value {
    credits(of.held)
}

fn free(of: &PeriodBalance) -> Value {
    credits(of.free)
}

fn resets_at(of: &PeriodBalance) -> Value {
    of.resets_at.to_string().into()
}

fn show(balances: &[Balance], format: Format) -> anyhow::Result<()> {
    let mut columns = vec![text("user_id", "User"), text("name", "Name")];
    let mut cells: Vec<(Period, Part)> = Vec::new();
    let mut add = |period: Period, new: Vec<(Column, Part)>| {
        for (column, part) in new {
            columns.push(column);
            cells.push((period, part));
        }
    };
    add(
        Period::Day,
        vec![
            (number("limit", "Limit (credits)"), limit),
            (number("spent", "Spent"), spent),
            (number("held", "Held"), held),
            (number("free", "Free"), free),
            (text("resets_at", "Resets at (UTC)"), resets_at),
        ],
    );
    // Only who has such limits sees columns for them.
    if balances.iter().any(|one| one.week.is_some()) {
        add(
            Period::Week,
            vec![
                (number("week_limit", "Week"), limit),
                (number("week_spent", "Spent"), spent),
                (number("week_free", "Free"), free),
                (text("week_resets_at", "Resets at (UTC)"), resets_at),
            ],
        );
    }
    if balances.iter().any(|one| one.month.is_some()) {
        add(
            Period::Month,
            vec![
                (number("month_limit", "Month"), limit),
                (number("month_spent", "Spent"), spent),
                (number("month_free", "Free"), free),
                (text("month_resets_at", "Resets at (UTC)"), resets_at),
            ],
        );
    }
    let rows = balances.iter().map(|one| {
        let cell = |(period, part): &(Period, Part)| {
            let of = one.periods().find(|of| of.period == *period);
            of.map_or(Value::Null, part)
        };
        [one.user.to_string().into(), one.name.clone().into()]
            .into_iter()
            .chain(cells.iter().map(cell))
            .collect()
    });
    Ok(output::rows(format, &columns, rows.collect())?)
}

async fn explained(database: &Database, user: &str, format: Format) -> anyhow::Result<()> {
    let explanation = explain(database, &SystemClock, user).await?;
    let (grants, periods) = (grants(&explanation), periods(&explanation.periods));
    match format {
        Format::Table => {
            let snapshot = Snapshot::of(database, &SystemClock).await?;
            let zone = snapshot.settings().zone()?;
            let shown = |mut row: Vec<Value>, one: &Parts| {
                if let Some(last) = row.last_mut() {
                    *last = zone.show(one.balance.resets_at).into();
                }
                row
            };
            let rows = periods.into_iter().zip(&explanation.periods).map(|(row, one)| shown(row, one));
            output::line("Granted, in credits:")?;
            output::rows(format, &GRANTS, grants)?;
            output::line("Spent of it:")?;
            output::rows(format, &PERIODS, rows.collect())?;
            for refused in &explanation.refused {
                let (reason, limit) = (words(&refused.reason), limit_words(&refused.limited_by));
                let limit = if limit.is_empty() { String::new() } else { format!(" ({limit})") };
                output::line(format!("Refused today: {} time(s), {reason}{limit}", refused.times.count))?;
            }
        }
        Format::Csv => output::rows(format, &PERIODS, periods)?,
        Format::Json => output::json(&json!({
            "user_id": explanation.user.id.as_str(),
            "name": explanation.user.name,
            "granted": output::objects(&GRANTS, grants),
            "periods": output::objects(&PERIODS, periods),
            "refused": explanation.refused.iter().map(refused).collect::<Vec<_>>(),
        }))?,
    }
    Ok(())
}

fn refused(row: &RefusedRow) -> Value {
    json!({"reason": row.reason, "limited_by": row.limited_by, "refused": row.times.count})
}

const GRANTS: [Column; 4] =
    [text("source", "By"), number("day", "A day"), number("week", "A week"), number("month", "A month")];

fn grants(explanation: &Explanation) -> Vec<Vec<Value>> {
    let row = |source: &str, limits: &Limits| {
        let limit = |limit: Option<Credits>| limit.map_or(Value::Null, credits);
        vec![source.into(), credits(limits.daily), limit(limits.weekly), limit(limits.monthly)]
    };
    let mut rows: Vec<_> = explanation
        .grants
        .iter()
        .map(|grant| match &grant.group {
            Some(group) => row(&format!("the group {group}"), &grant.limits),
            None => row("the base allowance", &grant.limits),
        })
        .collect();
    rows.push(row("all together", &explanation.limits));
    rows
}

const PERIODS: [Column; 9] = [
    text("period", "Period"),
    number("limit", "Limit"),
    number("used", "Used"),
    number("imported", "Imported"),
    number("adjusted", "Adjusted"),
    number("spent", "Spent"),
    number("held", "Held"),
    number("free", "Free"),
    text("resets_at", "Resets at"),
];

fn periods(periods: &[Parts]) -> Vec<Vec<Value>> {
    let row = |parts: &Parts| {
        let of = &parts.balance;
        vec![
            of.period.name().into(),
            limit(of),
            credits(parts.used),
            credits(parts.imported),
            credits(parts.adjusted),
            spent(of),
            held(of),
            free(of),
            resets_at(of),
        ]
    };
    periods.iter().map(row).collect()
}
