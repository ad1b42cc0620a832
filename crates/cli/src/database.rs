//! `database migrate|status`.

use std::process::ExitCode;

use accounting::Clock;
use serde_json::json;
use storage::admin::prices;
use storage::{Database, SystemClock, migrate};

use crate::connect::LastDatabase;
use crate::output::{self, Format, FormatArguments};

/// Migrate the database, or show its state.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Bring the tables to the version that this program needs.
    Migrate {
        #[command(flatten)]
        database: LastDatabase,
    },
    /// Show which version the tables have, and which this program needs. Exit code 1 if they differ.
    Status {
        #[command(flatten)]
        database: LastDatabase,
        #[command(flatten)]
        format: FormatArguments,
    },
}

pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Migrate { database } => {
            let database = Database::create(&database.chosen().url()?).await?;
            let done = migrate::migrate(&database).await?;
            let adopted = prices::adopt(&database, SystemClock.now()).await?;
            if done.from == done.to {
                output::line(format!("The tables have version {} already.", done.to))?;
            } else {
                output::line(format!("The tables were brought from version {} to {}.", done.from, done.to))?;
            }
            if adopted > 0 {
                output::line(format!("{adopted} prices of an earlier installation were taken over."))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Status { database, format } => {
            let database = Database::open(&database.chosen().url()?).await?;
            let status = migrate::status(&database).await?;
            let current = status.found == status.known;
            match format.format {
                Format::Json | Format::Csv => {
                    let state = json!({"found": status.found, "needed": status.known, "current": current});
                    output::data(format.format, &state)?;
                }
                Format::Table => {
                    let advice = match status.found.cmp(&status.known) {
                        std::cmp::Ordering::Less => ": run `owui-token-tracking init`",
                        std::cmp::Ordering::Equal => "",
                        std::cmp::Ordering::Greater => ": install the newer version of this program",
                    };
                    let (found, known) = (status.found, status.known);
                    output::line(format!(
                        "The tables have version {found}, this program needs {known}{advice}"
                    ))?;
                }
            }
            Ok(if current { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
