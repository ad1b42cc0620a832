//! `balance [USER]`.

use std::process::ExitCode;

use storage::SystemClock;
use storage::reports::balance;

use crate::connect::DatabaseArguments;
use crate::output::{self, FormatArguments, credits, number, text};

/// Show what users have left today.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One user, by id, e-mail address or name; all without.
    user: Option<String>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let balances = balance::balances(&database, &SystemClock, arguments.user.as_deref()).await?;
    let columns = [
        text("user_id", "User"),
        text("name", "Name"),
        number("limit", "Limit (credits)"),
        number("spent", "Spent"),
        number("held", "Held"),
        number("free", "Free"),
        text("resets_at", "Resets at (UTC)"),
    ];
    let rows = balances.into_iter().map(|one| {
        vec![
            one.user.to_string().into(),
            one.name.into(),
            credits(one.day.limit),
            credits(one.day.spent),
            credits(one.day.held),
            credits(one.day.free),
            one.day.resets_at.to_string().into(),
        ]
    });
    output::rows(arguments.format.format, &columns, rows.collect())?;
    Ok(ExitCode::SUCCESS)
}
