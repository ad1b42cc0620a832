//! Settings, in the original's table.

use accounting::{check_name, check_text};
use sqlx::AssertSqlSafe;

use crate::admin::audit::{Change, note};
use crate::database::in_transaction;
use crate::settings::{KNOWN, Settings, unknown};
use crate::{Database, Error, on_pool};

/// The most characters of each: the original's columns.
const LONGEST: usize = 255;

/// A setting as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// What was set, if anything was.
    pub value: Option<String>,
    /// What holds where nothing was set; empty for none.
    pub default: &'static str,
    /// What it means.
    pub description: String,
}

/// All settings that this program knows, and those that others keep in the table.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn list(database: &Database) -> Result<Vec<Setting>, Error> {
    let sql = format!(
        "SELECT setting_key, setting_value, description FROM {} ORDER BY setting_key",
        database.table("token_tracking_base_settings")
    );
    let rows: Vec<(String, Option<String>, Option<String>)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?
    });
    let known = KNOWN.iter().map(|known| Setting {
        key: known.key.to_owned(),
        value: rows.iter().find(|(key, ..)| key == known.key).and_then(|(_, value, _)| value.clone()),
        default: known.default,
        description: known.description.to_owned(),
    });
    let mut all: Vec<Setting> = known.collect();
    let others = rows.iter().filter(|(key, ..)| !KNOWN.iter().any(|known| known.key == key));
    all.extend(others.map(|(key, value, description)| Setting {
        key: key.clone(),
        value: value.clone(),
        default: "",
        description: description.clone().unwrap_or_default(),
    }));
    Ok(all)
}

/// One setting.
///
/// # Errors
/// [`Error::NotFound`] if there is no such setting.
pub async fn get(database: &Database, key: &str) -> Result<Setting, Error> {
    list(database).await?.into_iter().find(|setting| setting.key == key).ok_or_else(|| unknown(key))
}

/// Sets one.
///
/// # Errors
/// [`Error::NotFound`] for an unknown key, [`Error::Invalid`] for a value that it can't have.
pub async fn set(database: &Database, key: &str, value: &str) -> Result<(), Error> {
    Settings::defaults().set(key, value)?;
    let description =
        KNOWN.iter().find(|known| known.key == key).map(|known| known.description).unwrap_or_default();
    write(database, &[(key, value, description)], true).await
}

/// Makes sure that a setting can be kept. Keys that this program does not know are kept for whoever reads them.
///
/// # Errors
/// [`Error::Invalid`] for a value that a known key can't have.
pub fn check(key: &str, value: &str, description: &str) -> Result<(), Error> {
    check_name(key, "the key of a setting", LONGEST)?;
    check_text(value, "the value of a setting", LONGEST)?;
    check_text(description, "the description of a setting", LONGEST)?;
    match Settings::defaults().set(key, value) {
        Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets those that nobody has set yet; or all, if `overwrite`. Keys that this program does not know are kept for whoever
/// reads them: the table is the original's. A description that is there stays, if none is given.
///
/// # Errors
/// [`Error::Invalid`] for a value that a known key can't have; then nothing is written.
pub async fn init(
    database: &Database,
    settings: &[(String, String, String)],
    overwrite: bool,
) -> Result<(), Error> {
    for (key, value, description) in settings {
        check(key, value, description)?;
    }
    let rows: Vec<_> =
        settings.iter().map(|(key, value, about)| (key.as_str(), value.as_str(), about.as_str())).collect();
    write(database, &rows, overwrite).await
}

/// What holds by the table, with defaults for what can't be used; also where there is no table yet.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn read(database: &Database) -> Result<Settings, Error> {
    let mut settings = Settings::defaults();
    if database.has_table("token_tracking_base_settings").await? {
        for Setting { key, value, .. } in list(database).await? {
            // Keys that only others know are kept for them.
            let _ = value.map(|value| settings.read(&key, &value));
        }
    }
    Ok(settings)
}

/// The settings that can't be used as the table has them; each with its error.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn unusable(database: &Database) -> Result<Vec<(String, Error)>, Error> {
    if !database.has_table("token_tracking_base_settings").await? {
        return Ok(Vec::new());
    }
    let read = |setting: Setting| {
        let value = setting.value?;
        match Settings::defaults().read(&setting.key, &value) {
            Ok(()) | Err(Error::NotFound { .. }) => None,
            Err(error) => Some((setting.key, error)),
        }
    };
    Ok(list(database).await?.into_iter().filter_map(read).collect())
}

/// What a new installation begins with, in the original's words.
pub fn initial() -> Vec<(String, String, String)> {
    let base = ("base_credit_allowance", "1000", "Baseline credit allowance for all users.");
    vec![(base.0.into(), base.1.into(), base.2.into())]
}

/// The statement that finds a setting's value by its key.
pub(super) fn select_value(database: &Database) -> String {
    let table = database.table("token_tracking_base_settings");
    format!("SELECT setting_value FROM {table} WHERE setting_key = $1")
}

/// Writes one setting (key, value, description) in a transaction, and notes it where its value changes.
macro_rules! write_one {
    ($transaction:expr, $database:expr, $action:expr, $row:expr, $overwrite:expr) => {{
        let (key, value, description): (&str, &str, &str) = $row;
        let select = $crate::admin::settings::select_value($database);
        let before: Option<Option<String>> = sqlx::query_scalar(sqlx::AssertSqlSafe(select))
            .bind(key)
            .fetch_optional(&mut *$transaction)
            .await?;
        let before = before.flatten();
        if before.as_deref() != Some(value) && ($overwrite || before.is_none()) {
            let (before, after) = (before.map(Into::into), Some(value.into()));
            note!($transaction, $database, Change { action: $action, subject: key, before, after });
        }
        let upsert = sqlx::AssertSqlSafe($crate::admin::settings::upsert($database, $overwrite));
        sqlx::query(upsert).bind(key).bind(value).bind(description).execute(&mut *$transaction).await?;
    }};
}
pub(crate) use write_one;

/// Writes the default price in a transaction that has written these settings, if they concern it.
macro_rules! write_default_price {
    ($transaction:expr, $database:expr, $rows:expr) => {{
        use $crate::settings::{DEFAULT_INPUT, DEFAULT_OUTPUT};
        let rows: &[(&str, &str, &str)] = $rows;
        let is_default = |row: &&(&str, &str, &str)| row.0 == "unpriced_models" && row.1 == "default";
        if rows.iter().any(|row| [DEFAULT_INPUT, DEFAULT_OUTPUT].contains(&row.0) || is_default(&row)) {
            let select = $crate::admin::settings::select_value($database);
            let set = $crate::admin::prices::default_price!($transaction, $database, select);
            if !set && rows.iter().any(|row| is_default(&row)) {
                let what =
                    format!("there is no default price yet: set {DEFAULT_INPUT} and {DEFAULT_OUTPUT} first");
                return Err(Error::Invalid { what });
            }
        }
    }};
}
pub(crate) use write_default_price;

/// The statement that writes one.
pub(super) fn upsert(database: &Database, overwrite: bool) -> String {
    let table = database.table("token_tracking_base_settings");
    let conflict = if overwrite {
        "DO UPDATE SET setting_value = excluded.setting_value, description = CASE excluded.description WHEN '' THEN kept.description ELSE excluded.description END"
    } else {
        "DO NOTHING"
    };
    format!(
        "INSERT INTO {table} AS kept (setting_key, setting_value, description) VALUES ($1, $2, $3) ON CONFLICT (setting_key) {conflict}"
    )
}

async fn write(database: &Database, rows: &[(&str, &str, &str)], overwrite: bool) -> Result<(), Error> {
    in_transaction!(database, transaction => {
        for row in rows {
            write_one!(transaction, database, "settings set", *row, overwrite);
        }
        write_default_price!(transaction, database, rows);
    });
    Ok(())
}
