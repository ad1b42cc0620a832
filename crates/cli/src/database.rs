//! `database migrate|status|sync|downgrade`.

use std::cmp::Ordering;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};
use storage::original::{Revision, Status};
use storage::{Database, DatabaseUrl, SystemClock, migrate};

use crate::connect::{self, CreateArguments, DatabaseArguments, LastDatabase};
use crate::original::{self, ImportBar};
use crate::output::{self, Format, FormatArguments};
use crate::private_file;

/// Migrate the database, show its state, follow the original's tables, or go back to the original.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Bring the tables to the version that this program needs.
    #[command(after_help = "Example:\n  \
        owui-token-tracking database migrate")]
    Migrate {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        create: CreateArguments,
    },
    /// Show which version the tables have, which this program needs, and what is in them. Exit code 1 if they differ.
    #[command(after_help = "Example:\n  \
        owui-token-tracking database status")]
    Status {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Take over what the original has written: usage, and prices that were edited in its table. Every running gateway does so
    /// by itself.
    #[command(after_help = "Example:\n  owui-token-tracking database sync")]
    Sync {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Go back to the original: write everything of ours into a file, then remove it. The original's rows stay as they are.
    #[command(after_help = "Example:\n  owui-token-tracking database downgrade --export tracking.jsonl\n\n\
                      The file has one JSON object for each row: {\"table\": …, \"row\": {…}}. It holds names and the hashes of keys. \
                      Usage that was served meanwhile stays in the original's log, prices in its table. `init` leads here again.")]
    Downgrade {
        #[command(flatten)]
        database: DatabaseArguments,
        /// Where to write what is removed, as JSON Lines. The file must not exist yet.
        #[arg(long, value_name = "FILE")]
        export: PathBuf,
        /// Do not ask.
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Migrate { database, create } => migrate_tables(&database.chosen().url()?, create).await,
        Command::Status { database, format } => {
            let database = connect::connect(&database.chosen().url()?).await?;
            show(&storage::original::status(&database).await?, format.format)
        }
        Command::Sync { database, format } => sync(&database.chosen().open().await?, format.format).await,
        Command::Downgrade { database, export, yes } => downgrade(&database, &export, yes).await,
    }
}

async fn migrate_tables(url: &DatabaseUrl, create: CreateArguments) -> anyhow::Result<ExitCode> {
    let database = create.open(url).await?;
    let done = migrate::migrate(&database).await?;
    let mut bar = ImportBar::new(&database).await?;
    let synced = storage::original::sync(&database, &SystemClock, &mut |rows| bar.at(rows)).await?;
    bar.finish();
    if done.from == done.to {
        output::line(format!("The tables have version {} already.", done.to))?;
    } else {
        output::line(format!("The tables were brought from version {} to {}.", done.from, done.to))?;
    }
    if let Some(prices) = original::prices(&synced.prices) {
        output::line(format!("Prices: {prices}."))?;
    }
    for line in original::usage(&synced.usage) {
        output::line(format!("Usage: {line}."))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status, format: Format) -> anyhow::Result<ExitCode> {
    let (found, known) = (status.schema.found, status.schema.known);
    let (current, usable) = (found == known, status.schema.usable().is_ok());
    if format == Format::Table {
        let advice = match (found.cmp(&known), usable) {
            (Ordering::Less, false) => ": run `owui-token-tracking init`",
            (Ordering::Less, true) => " and runs with both: run `owui-token-tracking init`",
            (Ordering::Equal, _) => "",
            (Ordering::Greater, true) => " and runs with both: install the newer version of it when you can",
            (Ordering::Greater, false) => ": install the newer version of this program",
        };
        let wants = if usable && !current { "knows" } else { "needs" };
        output::line(format!("The tables have version {found}, this program {wants} {known}{advice}"))?;
        output::line(match &status.original {
            Revision::None => "The original's tables are not there yet.".to_owned(),
            Revision::Head => {
                format!("The original's tables are at its newest state ({}).", status.original.name())
            }
            Revision::Older(name) => {
                format!("The original's tables are at its state {name}; `init` brings them to the newest.")
            }
            Revision::Unknown(name) => {
                format!("The original's tables are at a state that this program does not know ({name}).")
            }
        })?;
        output::line(format!(
            "{} rows of its usage log are not in the ledger yet, {} can't be.",
            status.not_imported, status.unusable
        ))?;
        let rows = status.tables.iter().map(|(table, rows)| vec![table.as_str().into(), (*rows).into()]);
        output::rows(
            format,
            &[output::text("table", "Table"), output::number("rows", "Rows")],
            rows.collect(),
        )?;
        if !status.missing.is_empty() {
            output::line(format!("Missing: {}.", status.missing.join(", ")))?;
        }
    } else {
        let tables: serde_json::Map<String, Value> =
            status.tables.iter().map(|(table, rows)| (table.clone(), (*rows).into())).collect();
        output::data(
            format,
            &json!({
                "found": found, "needed": known, "current": current, "original": status.original.name(),
                "original_current": status.original == Revision::Head, "not_imported": status.not_imported,
                "unusable": status.unusable, "missing": status.missing, "tables": tables, "usable": usable,
                "usable_from": status.schema.usable_from,
            }),
        )?;
    }
    Ok(if current { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn sync(database: &Database, format: Format) -> anyhow::Result<ExitCode> {
    let mut bar = ImportBar::new(database).await?;
    let synced = storage::original::sync(database, &SystemClock, &mut |rows| bar.at(rows)).await?;
    bar.finish();
    let (prices, usage) = (&synced.prices, &synced.usage);
    if format != Format::Table {
        let unpriced: Vec<Value> = usage
            .unpriced
            .iter()
            .map(|((provider, model), rows)| json!({"provider": provider, "model": model, "rows": rows}))
            .collect();
        output::data(
            format,
            &json!({
                "rows": usage.rows, "credits": output::credits(usage.charge), "unusable": usage.unusable, "unpriced": unpriced,
                "prices_adopted": prices.adopted, "prices_changed": prices.changed, "prices_ended": prices.ended,
                "prices_restored": prices.restored,
            }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines = original::usage(usage);
    if let Some(prices) = original::prices(prices) {
        output::line(format!("Prices: {prices}."))?;
    } else if lines.is_empty() {
        output::line("Nothing new: all that the original wrote is here already.")?;
    }
    for line in lines {
        output::line(format!("Usage: {line}."))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn downgrade(database: &DatabaseArguments, export: &Path, yes: bool) -> anyhow::Result<ExitCode> {
    let database = database.open().await?;
    let question = format!(
        "Remove all tables and settings of owui-token-tracking from {}, after writing them to {}?",
        database.url(),
        export.display()
    );
    if !yes && !output::confirmed(&question)? {
        bail!("nothing was removed");
    }
    let file = private_file::create_new(export)?;
    let mut out = BufWriter::new(&file);
    match storage::original::downgrade(&database, &mut out, || file.sync_all()).await {
        Ok(removed) => {
            let rows: u64 = removed.tables.iter().map(|(_, rows)| rows).sum();
            output::line(format!(
                "{rows} rows of {} tables were written to {} and removed.",
                removed.tables.len(),
                export.display()
            ))?;
            if !removed.settings.is_empty() {
                output::line(format!("Settings removed: {}.", removed.settings.join(", ")))?;
            }
            output::line(
                "The original's tables are as its newest version leaves them, with all of its rows.",
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            drop(out);
            let _ = std::fs::remove_file(export);
            Err(error.into())
        }
    }
}
