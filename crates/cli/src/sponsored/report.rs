//! `sponsored report`: what was used of allowances, what is left, and how long it will last.

use std::process::ExitCode;

use serde_json::Value;
use storage::SystemClock;
use storage::reports::sponsored::{self, By, Lasts, SponsoredReport};

use crate::connect::DatabaseArguments;
use crate::output::{self, FormatArguments, credits, number, text};

pub(super) const EXAMPLE: &str = "How long it will last is what is left, divided by what was used a day in the last seven days, \
    today included (of a younger one, since its first day). It is said from the third day of use on, and up to a year.\n\nExamples:\n  owui-token-tracking sponsored report\n  owui-token-tracking sponsored report research \
    --by user";

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One allowance, also one that was deleted; all without.
    name: Option<String>,
    /// Break down what was used.
    #[arg(long, value_enum)]
    by: Option<Part>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// How it is broken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// For each user.
    User,
    /// For each model.
    Model,
    /// For each day.
    Day,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let reports = sponsored::sponsored(&database, &SystemClock, arguments.name.as_deref()).await?;
    let format = arguments.format.format;
    let Some(part) = arguments.by else {
        let columns = [
            text("name", "Name"),
            number("total", "Total (credits)"),
            number("spent", "Spent"),
            number("held", "Held"),
            number("left", "Left"),
            number("daily", "Daily (credits per user)"),
            number("last_seven_days", "Last 7 days"),
            text("lasts", "Lasts"),
            number("days_left", "Days left"),
            text("used_up_on", "Used up on"),
        ];
        output::rows(format, &columns, reports.into_iter().map(row).collect())?;
        return Ok(ExitCode::SUCCESS);
    };
    let (by, key, head) = match part {
        Part::User => (By::User, "user_id", "User"),
        Part::Model => (By::Model, "model", "Model"),
        Part::Day => (By::Day, "day", "Day"),
    };
    let columns = [
        text("name", "Name"),
        text(key, head),
        number("requests", "Requests"),
        number("input_tokens", "Input tokens"),
        number("output_tokens", "Output tokens"),
        number("credits", "Credits"),
    ];
    let mut rows = Vec::new();
    for report in reports {
        for used in sponsored::sponsored_use(&database, report.id, by).await? {
            rows.push(vec![
                report.name.clone().into(),
                used.key.into(),
                used.requests.into(),
                used.input.into(),
                used.output.into(),
                credits(used.credits),
            ]);
        }
    }
    output::rows(format, &columns, rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(report: SponsoredReport) -> Vec<Value> {
    let (days, until) = match report.lasts {
        Lasts::Days { days, until, .. } => {
            (days.into(), until.map_or(Value::Null, |day| day.to_string().into()))
        }
        _ => (Value::Null, Value::Null),
    };
    let lasts = match report.lasts {
        Lasts::Deleted => "deleted".to_owned(),
        Lasts::UsedUp => "used up".into(),
        Lasts::Ended => "ended".into(),
        Lasts::NotUsed => "not used lately".into(),
        Lasts::TooEarly => "too early to say".into(),
        Lasts::OverAYear { ends_before: true } => "until it ends".into(),
        Lasts::OverAYear { ends_before: false } => "more than a year".into(),
        Lasts::Days { ends_before: true, .. } => "until it ends".into(),
        Lasts::Days { .. } => "until used up".into(),
    };
    let allowance = report.allowance.as_ref();
    vec![
        report.name.into(),
        allowance.map_or(Value::Null, |allowance| credits(allowance.total)),
        credits(report.account.spent),
        credits(report.account.held),
        report.left.map_or(Value::Null, credits),
        allowance.and_then(|allowance| allowance.daily).map_or(Value::Null, credits),
        credits(report.last_week),
        lasts.into(),
        days,
        until,
    ]
}
