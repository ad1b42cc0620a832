//! `audit`: who changed what, when.

use std::process::ExitCode;

use serde_json::Value;
use storage::admin::audit::{self, Noted, Wanted};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, text};
use crate::when::{When, when};

/// Show who changed what: prices, settings, groups, allowances, keys. The newest change is the last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking audit --last 20\n  \
    owui-token-tracking audit --since 2026-11-01 --action pricing\n  \
    owui-token-tracking audit --subject openai/gpt-4o --format json")]
pub(crate) struct Arguments {
    /// From this day on (YYYY-MM-DD, in the configured time zone), or from this moment (2026-11-24T12:00:00Z).
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
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

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let since = match arguments.since {
        Some(since) => Some(since.moment(&database).await?),
        None => None,
    };
    let wanted = Wanted { since, subject: arguments.subject, action: arguments.action, most: arguments.last };
    show(audit::list(&database, &wanted).await?, arguments.format.format)?;
    Ok(ExitCode::SUCCESS)
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
