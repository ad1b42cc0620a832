//! `audit`: who changed what, when.

use std::process::ExitCode;

use accounting::{Day, Zone};
use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
use storage::admin::audit::{self, Noted, Wanted};
use storage::{Snapshot, SystemClock};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, text};

/// Show who changed what: prices, settings, groups, allowances, keys. The newest change is the last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking audit --last 20\n  \
    owui-token-tracking audit --since 2026-11-01 --action pricing\n  \
    owui-token-tracking audit --subject gpt-4o --format json")]
pub(crate) struct Arguments {
    /// From this day on (YYYY-MM-DD, in the configured time zone), or from this moment (2026-11-24T12:00:00Z).
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// Only what was done to this: a name or an id.
    #[arg(long)]
    subject: Option<String>,
    /// Only actions that begin so, such as `pricing` or `settings set`.
    #[arg(long)]
    action: Option<String>,
    /// Only the newest so many.
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// The beginning of what is shown.
#[derive(Debug, Clone, Copy)]
enum Since {
    Day(Day),
    Moment(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    let day = text.parse().map(Since::Day);
    day.or_else(|_| text.parse().map(Since::Moment))
        .map_err(|_| "write a day such as 2026-11-24, or a moment such as 2026-11-24T12:00:00Z".into())
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let since = match arguments.since {
        Some(Since::Moment(moment)) => Some(moment),
        Some(Since::Day(day)) => {
            let snapshot = Snapshot::of(&database, &SystemClock).await?;
            Some(start(day, &snapshot.settings().timezone)?)
        }
        None => None,
    };
    let wanted = Wanted { since, subject: arguments.subject, action: arguments.action, most: arguments.last };
    show(audit::list(&database, &wanted).await?, arguments.format.format)?;
    Ok(ExitCode::SUCCESS)
}

/// The first moment of a day: the end of the day before.
fn start(day: Day, zone: &Zone) -> anyhow::Result<Timestamp> {
    let before = day.date().yesterday().context("--since is too long ago")?;
    Ok(zone.end_of(Day::new(before))?)
}

fn show(changes: Vec<Noted>, format: Format) -> anyhow::Result<()> {
    let columns = [
        text("at", "When (UTC)"),
        text("who", "Who"),
        text("action", "Action"),
        text("subject", "Subject"),
        text("before", "Before"),
        text("after", "After"),
    ];
    let row = |change: Noted| {
        let at = match format {
            // People read seconds.
            Format::Table => change.at.round(jiff::Unit::Second).unwrap_or(change.at),
            Format::Json | Format::Csv => change.at,
        };
        vec![
            at.to_string().into(),
            change.who.into(),
            change.action.into(),
            change.subject.into(),
            change.before.unwrap_or(Value::Null),
            change.after.unwrap_or(Value::Null),
        ]
    };
    Ok(output::rows(format, &columns, changes.into_iter().map(row).collect())?)
}
