//! `doctor`: looks at everything that this program depends on, and says for each problem what to do.
//!
//! One file for each group of checks. A check never stops the others: what can't be looked at is a finding too. Keys are
//! looked for and used, and never shown.

mod books;
mod database;
mod models;
mod open_webui;
mod overrides;
pub(crate) mod servers;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;
use storage::reports::health::{self, Pipe};
use storage::{Database, Snapshot, SystemClock};

use crate::connect::DatabaseArguments;
use crate::output::{self, Format, FormatArguments, state, text};
use crate::serve;

/// Check everything that this program depends on, and say for each problem what to do. Exit code 1 if there is one.
///
/// Looks at the database, its tables, rights and clock, the time zone, the base allowance, prices, the Functions of Open
/// WebUI, the keys of model servers, and whether those can be reached from here. Changes nothing, and shows no keys.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  owui-token-tracking doctor\n  \
    owui-token-tracking doctor --offline --format json\n\n\
    Run it where the gateway or Open WebUI runs, with the same environment: it reads the same variables and files.")]
pub(crate) struct Arguments {
    /// Ask no model server.
    #[arg(long)]
    offline: bool,
    /// The configuration file of the gateway; by default owui-token-tracking.toml, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    check: String,
    outcome: Outcome,
    found: String,
    /// What to do; empty for nothing.
    advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    Warning,
    Problem,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), outcome: Outcome::Ok, found: found.into(), advice: String::new() }
    }

    fn warning(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (check, found, advice) = (check.into(), found.into(), advice.into());
        Self { check, outcome: Outcome::Warning, found, advice }
    }

    fn problem(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Problem, ..Self::warning(check, found, advice) }
    }

    /// A check that the database did not let happen.
    fn failed(check: impl Into<String>, error: &storage::Error) -> Self {
        let advice = match error {
            storage::Error::NoRights { .. } => "grant the database user rights to all tables in this schema",
            _ => "see what the database says; run doctor again when it answers",
        };
        Self::problem(check, error.to_string(), advice)
    }
}

/// What several checks look at.
struct Known {
    database: Database,
    snapshot: Snapshot,
    pipes: Vec<Pipe>,
    models_in_use: Vec<String>,
}

impl Known {
    async fn read(database: &Database) -> Result<Self, storage::Error> {
        Ok(Self {
            database: database.clone(),
            snapshot: Snapshot::of(database, &SystemClock).await?,
            pipes: health::pipes(database).await?,
            models_in_use: health::models_in_use(database).await?,
        })
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    let config = match serve::read(arguments.config.as_deref()) {
        Ok(config) => {
            findings.extend(config.warnings.iter().map(|warning| {
                Finding::warning("configuration", warning, "change it in the file or the environment")
            }));
            Some(config)
        }
        Err(error) => {
            let advice = "correct it: `owui-token-tracking serve --check` says when it is good";
            findings.push(Finding::problem("configuration", format!("{error:#}"), advice));
            None
        }
    };
    let configured = config.as_ref().and_then(|config| config.database.clone());
    let database = database::open(arguments.database.url_or(configured), &mut findings).await;
    let known = match &database {
        Some(database) => database::check(database, &mut findings).await,
        None => None,
    };
    let providers = config.as_ref().map_or(&[][..], |config| &config.providers);
    if let Some(known) = &known {
        books::check(known, &mut findings).await;
        models::check(known, providers, &mut findings);
        overrides::check(&known.pipes, &mut findings);
    }
    servers::check(providers, known.as_ref(), arguments.offline, &mut findings).await;
    open_webui::check(config.as_ref(), database.as_ref(), known.as_ref(), &mut findings).await;
    show(findings, arguments.format.format)
}

fn show(findings: Vec<Finding>, format: Format) -> anyhow::Result<ExitCode> {
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let (problems, warnings) = (count(Outcome::Problem), count(Outcome::Warning));
    let columns = [
        text("check", "Check"),
        state("result", "Result"),
        text("found", "Found"),
        text("advice", "What to do"),
    ];
    let row = |finding: Finding| -> Vec<Value> {
        let result = match finding.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Problem => "problem",
        };
        vec![finding.check.into(), result.into(), finding.found.into(), finding.advice.into()]
    };
    output::rows(format, &columns, findings.into_iter().map(row).collect())?;
    if format == Format::Table {
        output::line(format!("{problems} problem(s), {warnings} warning(s)."))?;
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Some names, and how many more there are.
fn named(names: &[String]) -> String {
    const MOST: usize = 5;
    match names.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..MOST].join(", ")),
        _ => names.join(", "),
    }
}
