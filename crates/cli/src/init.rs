//! `init`: tables, prices, settings, and what files name. What an administrator has changed since stays as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use accounting::Clock;
use anyhow::{Context, bail};
use serde::Deserialize;
use storage::admin::files::{self, Done, FromFile, Given, NewSetting};
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::settings;
use storage::original::{Absorbed, Imported, PricesPreview};
use storage::{Database, DatabaseUrl, SystemClock, migrate};

use crate::connect::{self, CreateArguments, DatabaseArguments, whoever_runs_this};
use crate::original::{self, ImportBar};
use crate::{models, output};

mod said;

/// Set up a database: tables, prices, settings. Safe to repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  DATABASE_URL=sqlite:////app/backend/data/webui.db owui-token-tracking init\n  \
                  owui-token-tracking init --dry-run --database-url postgresql://webui@db/webui\n  \
                  owui-token-tracking init --model-json models.json --settings-json settings.json\n\n\
                  Without a file of prices, a new installation begins with a list of current models. With one, the file is the list. \
                  What files name is set at each start, if it is new or has changed in the file; what somebody has changed since \
                  stays, and is reported.\n\n\
                  On a database of openwebui-token-tracking 0.1, its prices and its usage are taken over; its rows stay as they are, \
                  and no price is added to its list.\n\n\
                  Exit code 1 if a setting can't be used, or something else has failed."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// Prices to set, instead of the list that comes with this program (a JSON list of models).
    #[arg(long, alias = "json", value_name = "FILE")]
    model_json: Option<PathBuf>,
    /// Settings to set (a JSON list of setting_key, setting_value, description).
    #[arg(long, value_name = "FILE")]
    settings_json: Option<PathBuf>,
    /// A setting to set, with its description; may be repeated.
    #[arg(long, num_args = 3, value_names = ["KEY", "VALUE", "DESCRIPTION"])]
    setting: Vec<String>,
    /// Set all that the files name, also where somebody has changed it since.
    #[arg(long)]
    overwrite: bool,
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

/// What `init` sets.
#[derive(Debug, Default)]
pub(crate) struct Begin {
    /// The list of a new installation whose prices no file has.
    pub built_in: Vec<NewPrice>,
    /// What files name.
    pub given: Given,
}

impl Begin {
    /// What a new installation begins with.
    pub(crate) fn built_in() -> anyhow::Result<Self> {
        Ok(Self { built_in: models::built_in(SystemClock.now())?, given: Given::default() })
    }

    /// Everything is read before anything is written.
    fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut begin = Self::default();
        begin.given.overwrite = arguments.overwrite;
        match &arguments.model_json {
            Some(path) => {
                begin.given.prices = Some(FromFile { file: named(path), entries: models::read_file(path)? });
            }
            None => begin.built_in = models::built_in(SystemClock.now())?,
        }
        let options: Vec<NewSetting> = arguments
            .setting
            .chunks_exact(3)
            .map(|three| (three[0].clone(), three[1].clone(), three[2].clone()))
            .collect();
        for (key, value, description) in &options {
            settings::check(key, value, description).with_context(|| format!("in --setting {key}"))?;
        }
        if let Some(path) = &arguments.settings_json {
            // What an option names is not the file's to set.
            let mut entries = read_settings(path)?;
            entries.retain(|(key, ..)| !options.iter().any(|(named, ..)| named == key));
            begin.given.settings.push(FromFile { file: named(path), entries });
        }
        if !options.is_empty() {
            begin.given.settings.push(FromFile { file: "--setting".into(), entries: options });
        }
        Ok(begin)
    }
}

fn named(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let begin = Begin::read(&arguments)?;
    let url = arguments.database.url()?;
    if arguments.dry_run {
        return preview(&url, &begin).await;
    }
    let database = arguments.create.open(&url).await?;
    let database = database.acting_as(&whoever_runs_this());
    let mut bar = ImportBar::new(&database).await?;
    let mut done = initialise(&database, &begin).await?;
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
    said::prices(&done.absorbed, done.list, &begin, &done.files)?;
    for line in original::usage(&done.usage) {
        output::line(format!("Usage     {line}"))?;
    }
    let read = settings::read(&database).await?;
    said::beside(&database, &done.usage, &read, false).await?;
    said::settings(&begin, &done.files, &[])?;
    // All of it is in the accounts now.
    said::stricter(&storage::original::stricter(&database, &BTreeMap::new()).await?)?;
    let unusable = settings::unusable(&database).await?;
    if said::problems(&unusable, &read)? {
        return Ok(ExitCode::FAILURE);
    }
    if done.nothing_changed() {
        let has_kept =
            done.files.settings.has_kept() || done.files.prices.as_ref().is_some_and(files::Tally::has_kept);
        let why = if has_kept { "what differs was kept" } else { "all of it was there already" };
        output::line(format!("\nNothing has changed: {why}."))?;
    }
    output::line("\nNext: start the gateway with `owui-token-tracking serve`.")?;
    Ok(ExitCode::SUCCESS)
}

/// What becomes of the list of prices, where no file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// The site has its own, to which nothing is added unasked.
    Own,
    /// The one that comes with this program: so many were added, and so many were there.
    BuiltIn { added: usize, kept: usize },
}

/// What `init` did.
pub(crate) struct Initialised {
    pub migrated: migrate::Migrated,
    pub absorbed: Absorbed,
    pub list: List,
    pub files: Done,
    pub settings: usize,
    pub usage: Imported,
}

impl Initialised {
    fn nothing_changed(&self) -> bool {
        let same_tables = self.migrated.from == self.migrated.to;
        let same_usage = self.usage == Imported::default();
        let same_list = !matches!(self.list, List::BuiltIn { added: 1.., .. });
        let same_files = self.files.settings.is_unchanged()
            && self.files.prices.as_ref().is_none_or(files::Tally::is_unchanged);
        same_tables && same_usage && same_list && same_files && self.absorbed.is_empty() && self.settings == 0
    }
}

/// The same for other commands that make databases, but for the usage of an earlier installation.
pub(crate) async fn initialise(database: &Database, begin: &Begin) -> anyhow::Result<Initialised> {
    let migrated = migrate::migrate(database).await.context("migrating the database")?;
    let now = SystemClock.now();
    let absorbed = storage::original::sync_prices(database, now)
        .await
        .context("taking over the prices of an earlier installation")?;
    let files = files::set(database, &begin.given, now).await.context("setting what the files name")?;
    let list = if begin.given.prices.is_some() || prices::has_own_list(database).await? {
        List::Own
    } else {
        let models = &begin.built_in;
        let added = prices::write(database, models, Write::OnlyNew, Source::BuiltIn, now).await;
        let added = added.context("writing prices")?;
        List::BuiltIn { added, kept: models.len() - added }
    };
    let initial = settings::initial();
    let missing = missing_settings(database, &initial).await?;
    settings::init(database, &initial, false).await.context("writing settings")?;
    let (settings, usage) = (missing.len(), Imported::default());
    Ok(Initialised { migrated, absorbed, list, files, settings, usage })
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
async fn preview(url: &DatabaseUrl, begin: &Begin) -> anyhow::Result<ExitCode> {
    if let Some(path) = url.path().filter(|path| !path.exists()) {
        let prices = begin.given.prices.as_ref().map_or(begin.built_in.len(), |list| list.entries.len());
        output::line(format!(
            "There is no SQLite file {}: with --create it would be made, with all tables, {prices} prices and the settings.",
            path.display(),
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let database = connect::connect(url).await.with_context(|| format!("opening {url}"))?;
    let database = database.acting_as(&whoever_runs_this());
    // What stops the run stops this.
    let status = storage::original::status(&database).await?;
    if status.schema.found == 0 {
        storage::original::require_usable(&database).await?;
        storage::original::require_rights(&database).await?;
    }
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
    let (list, prices) = preview_prices(&database, begin).await?;
    let files = files::preview(&database, &begin.given, &prices.prices).await?;
    said::prices(&prices.absorbed, list, begin, &files)?;
    let initial = settings::initial();
    let mut missing = missing_settings(&database, &initial).await?;
    let given = || begin.given.settings.iter().flat_map(|file| &file.entries);
    missing.retain(|key| !given().any(|(named, ..)| named == key));
    let is_kept = |key: &str| files.settings.kept.iter().any(|kept| kept.name == key);
    let set: Vec<&NewSetting> = given().filter(|(key, ..)| !is_kept(key)).collect();
    let mut read = settings::read(&database).await?;
    for (key, value, _) in initial.iter().filter(|(key, ..)| missing.contains(key)).chain(set.iter().copied())
    {
        // Keys that only others know are kept for them.
        let _ = read.set(key, value);
    }
    let mut unusable = settings::unusable(&database).await?;
    unusable.retain(|(key, _)| !set.iter().any(|(named, ..)| named == key));
    let mut priced = prices.prices;
    for new in begin.given.prices.iter().flat_map(|list| &list.entries) {
        let is_kept = |kept: &files::Kept| kept.name == format!("{}/{}", new.provider, new.model);
        if !files.prices.iter().flat_map(|tally| &tally.kept).any(is_kept) {
            priced.retain(|there| (&there.provider, &there.model) != (&new.provider, &new.model));
            priced.push(storage::original::priced(new.clone()));
        }
    }
    let usage = storage::original::preview(&database, &read.timezone, &priced).await?;
    for line in original::usage(&usage) {
        output::line(format!("Usage     {line}"))?;
    }
    said::beside(&database, &usage, &read, true).await?;
    said::settings(begin, &files, &missing)?;
    said::stricter(&storage::original::stricter(&database, &usage.sponsored).await?)?;
    let fails = said::problems(&unusable, &read)?;
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What would become of the list of prices, and what would hold before files are set.
async fn preview_prices(database: &Database, begin: &Begin) -> anyhow::Result<(List, PricesPreview)> {
    let now = SystemClock.now();
    let without = storage::original::preview_prices(database, &[], now).await?;
    let is_first = !prices::is_there(database).await?;
    let is_own = begin.given.prices.is_some()
        || prices::has_own_list(database).await?
        || (is_first && without.absorbed.adopted > 0);
    if is_own {
        return Ok((List::Own, without));
    }
    let with = storage::original::preview_prices(database, &begin.built_in, now).await?;
    Ok((List::BuiltIn { added: with.added, kept: begin.built_in.len() - with.added }, with))
}

fn read_settings(path: &Path) -> anyhow::Result<Vec<NewSetting>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let entries: Vec<SettingEntry> =
        serde_json::from_str(&text).with_context(|| format!("{} is no list of settings", path.display()))?;
    let mut settings = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let SettingEntry { setting_key: key, setting_value, description } = entry;
        let of = || format!("in {}: setting {} ({key})", path.display(), index + 1);
        let value = match setting_value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => bail!("{}: setting_value must be a text", of()),
        };
        settings::check(&key, &value, &description).with_context(of)?;
        settings.push((key, value, description));
    }
    Ok(settings)
}
