//! `usage prune`.

use std::process::ExitCode;

use accounting::Day;
use storage::SystemClock;
use storage::admin::prune;

use super::rollup::progress;
use crate::connect::DatabaseArguments;
use crate::output;

/// Remove rows of the ledger, and of refusals, that are not to be kept any longer. Balances and reports stay: the sums of each day, and for each
/// account that still counts one row that carries its sum.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Rows of days before this one go (YYYY-MM-DD); it must be at least two days ago.
    #[arg(long, value_name = "DAY")]
    before: Day,
    /// Don't ask.
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    database: DatabaseArguments,
}

const EXAMPLES: &str = "\
Export them first, if they may be needed:
  owui-token-tracking usage export --to 2025-12-31 --output 2025.csv
  owui-token-tracking usage prune --before 2026-01-01";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let found = prune::find(&database, &SystemClock, arguments.before).await?;
    if found.entries == 0 && found.refusals == 0 {
        output::line(format!("There is nothing before {}.", arguments.before))?;
        return Ok(ExitCode::SUCCESS);
    }
    let question = format!(
        "Remove {} row(s) of the ledger and {} of refusals, those of days before {}, for good?",
        found.entries, found.refusals, arguments.before
    );
    if !arguments.yes && !output::confirmed(&question)? {
        return Ok(ExitCode::FAILURE);
    }
    let bar = progress(found.entries.unsigned_abs(), "rows");
    let gone =
        prune::prune(&database, &SystemClock, found, |gone| bar.set_position(gone.unsigned_abs())).await;
    bar.finish_and_clear();
    output::line(format!("{} row(s) removed.", gone?))?;
    Ok(ExitCode::SUCCESS)
}
