//! `verify`: every account against its ledger rows and open holds.

use std::process::ExitCode;

use serde_json::{Value, json};
use storage::Database;
use storage::reports::verify::{self, Verification};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, credits, number, text};

/// Check every account against the ledger; exit code 1 if one differs. Also while the gateway serves.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    show(&database, arguments.format.format).await
}

/// Verifies and shows the result.
pub(crate) async fn show(database: &Database, format: Format) -> anyhow::Result<ExitCode> {
    let Verification { accounts, entries, holds, over_hold, differences } = verify::verify(database).await?;
    let clean = differences.is_empty();
    let rows: Vec<Vec<Value>> = differences
        .into_iter()
        .map(|one| vec![one.account.into(), one.what.into(), credits(one.recorded), credits(one.computed)])
        .collect();
    let columns = [
        text("account", "Account"),
        text("what", "What"),
        number("recorded", "Recorded (credits)"),
        number("computed", "Computed (credits)"),
    ];
    match format {
        Format::Json => output::json(&json!({
            "clean": clean, "accounts": accounts, "entries": entries, "holds": holds, "over_hold": over_hold,
            "differences": output::objects(&columns, rows),
        }))?,
        Format::Csv => output::rows(format, &columns, rows)?,
        Format::Table => {
            output::line(format!(
                "Compared {accounts} accounts with {entries} ledger rows and {holds} open holds; {over_hold} requests \
                 cost more than their strict hold."
            ))?;
            if clean {
                output::line("Clean: every account is the sum of its rows, to the microcredit.")?;
            } else {
                output::rows(Format::Table, &columns, rows)?;
            }
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
