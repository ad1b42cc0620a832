//! `usage --by user|model|day`.

use std::process::ExitCode;

use accounting::Day;
use serde_json::Value;
use storage::reports::usage::{self, By, UsageRow};

use crate::connect::DatabaseArguments;
use crate::output::{self, Column, FormatArguments, credits, number, text};

/// How to sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sum {
    /// For each user.
    User,
    /// For each model.
    Model,
    /// For each local day.
    Day,
}

/// Show who used what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How to sum.
    #[arg(long, value_enum, default_value = "user")]
    by: Sum,
    /// From this day on (YYYY-MM-DD).
    #[arg(long)]
    from: Option<Day>,
    /// Up to and with this day (YYYY-MM-DD).
    #[arg(long)]
    to: Option<Day>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let (by, first) = match arguments.by {
        Sum::User => (By::User, text("user_id", "User")),
        Sum::Model => (By::Model, text("model", "Model")),
        Sum::Day => (By::Day, text("day", "Day")),
    };
    let rows = usage::usage(&database, by, arguments.from, arguments.to).await?;
    let columns: Vec<Column> = [first].into_iter().chain(sums()).collect();
    output::rows(arguments.format.format, &columns, rows.into_iter().map(row).collect())?;
    Ok(ExitCode::SUCCESS)
}

fn sums() -> [Column; 8] {
    [
        number("requests", "Requests"),
        number("input_tokens", "Input tokens"),
        number("cached_input_tokens", "Cached"),
        number("cache_write_tokens", "Cache writes"),
        number("output_tokens", "Output tokens"),
        number("reasoning_tokens", "Reasoning"),
        number("credits", "Credits"),
        number("estimated", "Estimated requests"),
    ]
}

fn row(row: UsageRow) -> Vec<Value> {
    let counts = [row.requests, row.input, row.cached_input, row.cache_write, row.output, row.reasoning];
    let mut values: Vec<Value> = vec![row.key.into()];
    values.extend(counts.map(Value::from));
    values.push(credits(row.credits));
    values.push(row.estimated.into());
    values
}
