//! `init`: tables, prices, settings. What an administrator has changed stays as it is.

use std::path::PathBuf;
use std::process::ExitCode;

use accounting::Clock;
use anyhow::{Context, bail};
use serde::Deserialize;
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::settings;
use storage::original::{Absorbed, Imported};
use storage::{Database, DatabaseUrl, Settings, SystemClock, migrate};

use crate::connect::{self, CreateArguments, DatabaseArguments, whoever_runs_this};
use crate::original::{self, ImportBar};
use crate::{models, output};

/// Set up a database: tables, prices, settings. Safe to repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  DATABASE_URL=sqlite:////app/backend/data/webui.db owui-token-tracking init\n  \
                  owui-token-tracking init --dry-run --database-url postgresql://webui@db/webui\n\n\
                  On a database of openwebui-token-tracking 0.1, its prices and its usage are taken over; its rows stay as they are."
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
    #[command(flatten)]
    create: CreateArguments,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
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
    if arguments.dry_run {
        return preview(&url, &models, source, &begin).await;
    }
    let database = arguments.create.open(&url).await?;
    let database = database.acting_as(&whoever_runs_this());
    let mut bar = ImportBar::new(&database).await?;
    let mut done = initialise(&database, &models, source, &begin).await?;
    let synced = storage::original::sync(&database, &SystemClock, &mut |rows| bar.at(rows)).await;
    done.usage = synced.context("taking over the usage of an earlier installation")?.usage;
    bar.finish();
    output::line(format!("Database  {url}"))?;
    let beside = match (done.migrated.original_found, done.migrated.user_table) {
        _ if done.migrated.from == done.migrated.to => "as they were",
        (true, _) => "with the tables of an earlier installation, whose rows stay as they are",
        (false, true) => "beside Open WebUI's tables",
        (false, false) => "standalone: users are those that the gateway sees",
    };
    output::line(format!("Tables    version {} ({beside})", done.migrated.to))?;
    let adopted = original::prices(&done.absorbed).map(|what| format!("{what}, ")).unwrap_or_default();
    let prices = match done.has_own_list {
        true => OWN_LIST.to_owned(),
        false => format!("{} added, {} there already and left as they are", done.added, done.kept),
    };
    output::line(format!("Prices    {adopted}{prices}"))?;
    for line in original::usage(&done.usage) {
        output::line(format!("Usage     {line}"))?;
    }
    output::line("Settings  ready (owui-token-tracking settings list)")?;
    if done.nothing_changed() {
        output::line("\nNothing has changed: all of it was there already.")?;
    }
    output::line("\nNext: start the gateway with `owui-token-tracking serve`.")?;
    Ok(ExitCode::SUCCESS)
}

/// What becomes of the list that comes with this program where an administrator began with another one.
const OWN_LIST: &str = "a list of your own, left as it is (`owui-token-tracking pricing import` adds to it)";

/// What `init` did.
pub(crate) struct Initialised {
    pub migrated: migrate::Migrated,
    pub absorbed: Absorbed,
    pub added: usize,
    pub kept: usize,
    /// Whether an administrator's list is there, to which nothing is added unasked.
    pub has_own_list: bool,
    pub settings: usize,
    pub usage: Imported,
}

impl Initialised {
    fn nothing_changed(&self) -> bool {
        let same_tables = self.migrated.from == self.migrated.to;
        let same_usage = self.usage == Imported::default();
        same_tables && same_usage && self.absorbed.is_empty() && self.added == 0 && self.settings == 0
    }
}

/// The same for other commands that make databases, but for the usage of an earlier installation.
pub(crate) async fn initialise(
    database: &Database,
    models: &[NewPrice],
    source: Source,
    begin: &[(String, String, String)],
) -> anyhow::Result<Initialised> {
    let migrated = migrate::migrate(database).await.context("migrating the database")?;
    let now = SystemClock.now();
    let absorbed = storage::original::sync_prices(database, now)
        .await
        .context("taking over the prices of an earlier installation")?;
    let has_own_list = source == Source::BuiltIn && prices::has_own_list(database).await?;
    let models = if has_own_list { &[] } else { models };
    let added =
        prices::write(database, models, Write::OnlyNew, source, now).await.context("writing prices")?;
    let missing = missing_settings(database, begin).await?;
    settings::init(database, begin, false).await.context("writing settings")?;
    let (kept, settings) = (models.len() - added, missing.len());
    Ok(Initialised { migrated, absorbed, added, kept, has_own_list, settings, usage: Imported::default() })
}

/// The settings among these that nobody has set.
async fn missing_settings(
    database: &Database,
    begin: &[(String, String, String)],
) -> anyhow::Result<Vec<String>> {
    let table = database.has_table("token_tracking_base_settings").await?;
    let there = if table { settings::list(database).await? } else { Vec::new() };
    let is_set = |key: &str| there.iter().any(|setting| setting.key == key && setting.value.is_some());
    Ok(begin.iter().map(|(key, ..)| key.clone()).filter(|key| !is_set(key)).collect())
}

/// Says what would be done.
async fn preview(
    url: &DatabaseUrl,
    models: &[NewPrice],
    source: Source,
    begin: &[(String, String, String)],
) -> anyhow::Result<ExitCode> {
    if let Some(path) = url.path().filter(|path| !path.exists()) {
        output::line(format!(
            "There is no SQLite file {}: with --create it would be made, with all tables, {} prices and {} settings.",
            path.display(),
            models.len(),
            begin.len()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let database = connect::connect(url).await.with_context(|| format!("opening {url}"))?;
    let status = storage::original::status(&database).await?;
    output::line(format!("Database  {url}: this is what `init` would do; nothing was changed."))?;
    let schema = status.schema;
    if schema.found > 0 && schema.found < schema.known {
        let (found, known) = (schema.found, schema.known);
        output::line(format!("Tables    would be brought from version {found} to {known}"))?;
    } else if status.missing.is_empty() {
        output::line("Tables    nothing to add")?;
    } else {
        output::line(format!("Tables    would be added: {}", status.missing.join(", ")))?;
    }
    let has_own_list = source == Source::BuiltIn && prices::has_own_list(&database).await?;
    let models = if has_own_list { &[] } else { models };
    let prices = storage::original::preview_prices(&database, models, SystemClock.now()).await?;
    let adopted = original::prices(&prices.absorbed).map(|what| format!("{what}, ")).unwrap_or_default();
    let listed = match has_own_list {
        true => OWN_LIST.to_owned(),
        false => {
            let kept = models.len() - prices.added;
            format!("{} added, {kept} there already and left as they are", prices.added)
        }
    };
    output::line(format!("Prices    {adopted}{listed}"))?;
    let missing = missing_settings(&database, begin).await?;
    let mut read = Settings::defaults();
    for (key, value, _) in begin.iter().filter(|(key, ..)| missing.contains(key)) {
        // Keys that only others know are kept for them.
        let _ = read.set(key, value);
    }
    if database.has_table("token_tracking_base_settings").await? {
        for setting in settings::list(&database).await? {
            let _ = setting.value.map(|value| read.set(&setting.key, &value));
        }
    }
    let usage = storage::original::preview(&database, &read.timezone, &prices.prices).await?;
    for line in original::usage(&usage) {
        output::line(format!("Usage     {line}"))?;
    }
    match missing.as_slice() {
        [] => output::line("Settings  nothing to add")?,
        missing => output::line(format!("Settings  would be added: {}", missing.join(", ")))?,
    }
    Ok(ExitCode::SUCCESS)
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
