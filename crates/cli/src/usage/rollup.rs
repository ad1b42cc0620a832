//! `usage rollup`.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use storage::{SystemClock, rollup};

use crate::connect::DatabaseArguments;
use crate::output;

/// Sum the days that are over, so that reports are quick. Running gateways do it by themselves; this does all at once, as after
/// an upgrade.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  owui-token-tracking usage rollup")]
pub(super) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let days = rollup::due(&database, &SystemClock).await?.len();
    let bar = progress(u64::try_from(days)?, "days");
    let done = rollup::roll_up(&database, &SystemClock, None, |day, _| {
        bar.set_message(day.to_string());
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();
    output::line(format!("{done} day(s) summed."))?;
    Ok(ExitCode::SUCCESS)
}

/// A bar on a terminal; nothing elsewhere.
pub(crate) fn progress(length: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {what} {{eta}} left  {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
