//! `verify`: every account against its ledger rows and open holds, every day of the roll-up against the ledger.

use std::process::ExitCode;

use serde_json::{Value, json};
use storage::Database;
use storage::admin::repair;
use storage::reports::recovered::{Recovered, Tally};
use storage::reports::verify::{self, Verification};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, credits, number, text};
use crate::usage::progress;

/// So many rows of the ledger take long enough to show how far it is.
const MANY: i64 = 200_000;

/// Check every account and every summed day against the ledger; exit code 1 if one differs. Also while the gateway serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking verify\n  owui-token-tracking verify --repair")]
pub(crate) struct Arguments {
    /// Set accounts that differ to what their rows add up to, and have days that differ summed anew. Says first what it will
    /// change, and asks. Requests wait meanwhile.
    #[arg(long)]
    repair: bool,
    /// Don't ask.
    #[arg(long, short = 'y', requires = "repair")]
    yes: bool,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let format = arguments.format.format;
    let found = verified(&database).await?;
    shown(&found, format)?;
    if found.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.repair || found.adds_up() {
        return Ok(ExitCode::FAILURE);
    }
    let question = format!(
        "Set {} account(s) to what their rows add up to, and sum {} day(s) anew?",
        found.differences.len(),
        found.wrong_days.len()
    );
    if !arguments.yes && !output::confirmed(&question)? {
        return Ok(ExitCode::FAILURE);
    }
    let changed = repair::repair(&database, &found).await?;
    if format == Format::Table {
        let days = found.wrong_days.len();
        output::line(format!("{} amount(s) set, {days} day(s) taken out to be summed anew.", changed.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Verifies and shows the result.
pub(crate) async fn show(database: &Database, format: Format) -> anyhow::Result<ExitCode> {
    let found = verified(database).await?;
    shown(&found, format)?;
    Ok(if found.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verified(database: &Database) -> anyhow::Result<Verification> {
    let bar = progress(0, "rows");
    let shown = bar.clone();
    let found = verify::verify_with(database, move |read, rows| {
        if rows >= MANY {
            shown.set_length(rows.unsigned_abs());
            shown.set_position(read.unsigned_abs());
        }
    })
    .await?;
    bar.finish_and_clear();
    Ok(found)
}

fn tally(tally: &Tally) -> Value {
    json!({"count": tally.count, "credits": credits(tally.credits)})
}

fn shown(found: &Verification, format: Format) -> anyhow::Result<()> {
    let accounts = found.differences.iter().map(|one| {
        vec![one.account.clone().into(), one.what.into(), credits(one.recorded), credits(one.computed)]
    });
    let days = found.wrong_days.iter().map(|one| {
        let (recorded, computed) = (one.recorded.credits, one.computed.credits);
        vec![one.day.to_string().into(), "day".into(), credits(recorded), credits(computed)]
    });
    let rows: Vec<Vec<Value>> = accounts.chain(days).collect();
    let columns = [
        text("account", "Account or day"),
        text("what", "What"),
        number("recorded", "Recorded (credits)"),
        number("computed", "Computed (credits)"),
    ];
    let Verification { accounts, entries, holds, over_hold, texts_removed, stuck, recovered, days, .. } =
        found;
    let Recovered { requests, corrected_by_owner, changed_by_recovery } = recovered;
    match format {
        Format::Json => output::json(&json!({
            "clean": found.is_clean(), "accounts": accounts, "entries": entries, "holds": holds,
            "over_hold": over_hold, "texts_removed": texts_removed, "stuck": stuck, "recovered": tally(requests),
            "corrected_by_owner": tally(corrected_by_owner), "changed_by_recovery": tally(changed_by_recovery),
            "days": days, "differences": output::objects(&columns, rows),
        }))?,
        Format::Csv => output::rows(format, &columns, rows)?,
        Format::Table => {
            output::line(format!(
                "Compared {accounts} accounts with {entries} ledger rows and {holds} open holds, and {days} summed days \
                 with their rows; {over_hold} requests cost more than their strict hold."
            ))?;
            if *texts_removed > 0 {
                output::line(format!(
                    "{texts_removed} entries are without their labels, because the database refused those; amounts are right."
                ))?;
            }
            if *stuck > 0 {
                output::line(format!(
                    "{stuck} of the open holds can't be settled: the log of the running process says why. It tries again, at \
                     most once an hour."
                ))?;
            }
            if requests.count > 0 {
                output::line(format!(
                    "{} requests of processes that died or were away were charged by others, {} credits; their owners corrected \
                     {} of them, by {} credits.",
                    requests.count, requests.credits, corrected_by_owner.count, corrected_by_owner.credits
                ))?;
            }
            if changed_by_recovery.count > 0 {
                output::line(format!(
                    "{} charges were changed at a guess after their owners had made them, by {} credits: a fault of version 0.2.0. \
                     `ledger show` has what each was before; `credits revoke` and `credits grant` can make up for it.",
                    changed_by_recovery.count, changed_by_recovery.credits
                ))?;
            }
            if found.is_clean() {
                output::line("Clean: every account is the sum of its rows, to the microcredit.")?;
            } else if !found.adds_up() {
                output::rows(Format::Table, &columns, rows)?;
            }
        }
    }
    Ok(())
}
