//! `init`: tables, prices, settings. What an administrator has changed stays as it is.

use std::path::PathBuf;
use std::process::ExitCode;

use accounting::Clock;
use anyhow::{Context, bail};
use serde::Deserialize;
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::settings;
use storage::{Database, SystemClock, migrate};

use crate::connect::DatabaseArguments;
use crate::{models, output};

/// Set up a database: tables, prices, settings. Safe to repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  DATABASE_URL=sqlite:////app/backend/data/webui.db owui-token-tracking init"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// Prices to begin with, instead of the list that comes with this program (a JSON list of models).
    #[arg(long, alias = "json", value_name = "FILE")]
    model_json: Option<PathBuf>,
    /// Settings to begin with (a JSON list of setting_key, setting_value, description).
    #[arg(long, value_name = "FILE")]
    settings_json: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingEntry {
    setting_key: String,
    setting_value: serde_json::Value,
    #[serde(default)]
    description: String,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Everything is read before anything is written.
    let (models, source) = match &arguments.model_json {
        Some(path) => (models::read_file(path)?, Source::Administrator),
        None => (models::built_in(SystemClock.now())?, Source::BuiltIn),
    };
    let mut begin = match &arguments.settings_json {
        Some(path) => read_settings(path)?,
        None => Vec::new(),
    };
    for setting in settings::initial() {
        if !begin.iter().any(|(key, ..)| *key == setting.0) {
            begin.push(setting);
        }
    }
    let url = arguments.database.url()?;
    let database = Database::create(&url).await.with_context(|| format!("opening {url}"))?;
    let done = initialise(&database, &models, source, &begin).await?;
    output::line(format!("Database  {url}"))?;
    let beside = match (done.migrated.original_found, done.migrated.user_table) {
        (true, _) => "with the tables of an earlier installation, which were kept",
        (false, true) => "beside Open WebUI's tables",
        (false, false) => "standalone: users are those that the gateway sees",
    };
    output::line(format!("Tables    version {} ({beside})", done.migrated.to))?;
    let adopted = if done.adopted > 0 { format!("{} taken over, ", done.adopted) } else { String::new() };
    output::line(format!(
        "Prices    {adopted}{} added, {} there already and left as they are",
        done.added, done.kept
    ))?;
    output::line("Settings  ready (owui-token-tracking settings list)")?;
    output::line("\nNext: start the gateway with `owui-token-tracking serve`.")?;
    Ok(ExitCode::SUCCESS)
}

/// What `init` did.
pub(crate) struct Initialised {
    pub migrated: migrate::Migrated,
    pub adopted: usize,
    pub added: usize,
    pub kept: usize,
}

/// The same for other commands that make databases.
pub(crate) async fn initialise(
    database: &Database,
    models: &[NewPrice],
    source: Source,
    begin: &[(String, String, String)],
) -> anyhow::Result<Initialised> {
    let migrated = migrate::migrate(database).await.context("migrating the database")?;
    let now = SystemClock.now();
    let adopted =
        prices::adopt(database, now).await.context("taking over the prices of an earlier installation")?;
    let added =
        prices::write(database, models, Write::OnlyNew, source, now).await.context("writing prices")?;
    settings::init(database, begin, false).await.context("writing settings")?;
    Ok(Initialised { migrated, adopted, added, kept: models.len() - added })
}

fn read_settings(path: &std::path::Path) -> anyhow::Result<Vec<(String, String, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let entries: Vec<SettingEntry> =
        serde_json::from_str(&text).with_context(|| format!("{} is no list of settings", path.display()))?;
    let mut settings = Vec::new();
    for entry in entries {
        let value = match entry.setting_value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => bail!("{}: setting_value of {} must be a text", path.display(), entry.setting_key),
        };
        settings.push((entry.setting_key, value, entry.description));
    }
    Ok(settings)
}
