//! Prices and settings that files name, as `init` sets them at each start.
//!
//! The rule it protects: an entry of a file is set when it is new or has changed. What somebody has changed since then stays,
//! and is reported. So what the files last set is remembered (`token_tracking_file_entry`).

use std::collections::HashMap;

use accounting::Clock;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::audit::{self, Change, Wanted, note};
use super::price_list::{describe, show};
use super::prices::{self, NewPrice, Source, holding, insert, kept_versions, mirror, not_before};
use super::settings::{check, write_default_price, write_one};
use crate::database::in_transaction;
use crate::{Database, Error, PricedModel, SystemClock, on_pool};

const TABLE: &str = "token_tracking_file_entry";
const ACTION: &str = "init";
/// The kinds of what is remembered.
const PRICE: &str = "price";
const SETTING: &str = "setting";
const LIST: &str = "list";

/// What a file names.
#[derive(Debug, Clone)]
pub struct FromFile<T> {
    /// Its name, for the audit.
    pub file: String,
    /// Its entries. Of several for the same thing the last one counts, as it did for the original.
    pub entries: Vec<T>,
}

/// A setting: key, value, description.
pub type NewSetting = (String, String, String);

/// What is to be set.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The list of prices, if a file has it.
    pub prices: Option<FromFile<NewPrice>>,
    /// Settings, in the order in which they are set.
    pub settings: Vec<FromFile<NewSetting>>,
    /// Whether to set what somebody has changed since, too.
    pub overwrite: bool,
}

/// What became of the entries of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Set where there was nothing.
    pub added: usize,
    /// Set in place of something else.
    pub changed: usize,
    /// As they were.
    pub unchanged: usize,
    /// Left as somebody has changed them.
    pub kept: Vec<Kept>,
}

/// What stays although a file has something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// `provider/model`, or the key of the setting.
    pub name: String,
    /// What is here, as JSON; `None` if it was deleted.
    pub here: Option<Value>,
    /// What the file has.
    pub file: Value,
    /// Who changed it, and when; `None` if nobody noted it.
    pub by: Option<(String, Timestamp)>,
}

/// What became of all entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Prices; `None` where no file has them.
    pub prices: Option<Tally>,
    /// Settings.
    pub settings: Tally,
}

/// What is to be done about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// It is so already, but not from the file.
    Remember,
    Set,
    Keep,
}

/// `is_so`: whether it is as the file has it; `last`: what the file set last.
fn step(is_so: bool, last: Option<&str>, now: &str, overwrite: bool) -> Step {
    match (is_so, last == Some(now)) {
        (true, true) => Step::Nothing,
        (true, false) => Step::Remember,
        (false, true) if !overwrite => Step::Keep,
        (false, _) => Step::Set,
    }
}

/// What the files have last set, by kind and name.
type Remembered = HashMap<(String, String), String>;

/// Remembers what a file has set, in the transaction that sets it.
macro_rules! remember {
    ($transaction:expr, $database:expr, $kind:expr, $name:expr, $value:expr) => {{
        let sql = format!(
            "INSERT INTO {} (kind, name, value, noted_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value, noted_at = excluded.noted_at",
            $database.table(TABLE)
        );
        let (name, value): (&str, &str) = ($name, $value);
        let query = sqlx::query(AssertSqlSafe(sql)).bind($kind).bind(name).bind(value);
        query.bind(SystemClock.now().as_microsecond()).execute(&mut *$transaction).await?;
    }};
}

/// Sets what files name, all or nothing.
///
/// # Errors
/// [`Error::Invalid`] for a setting that can't have its value, [`Error::Accounting`] for a price that can't be computed with.
pub async fn set(database: &Database, given: &Given, now: Timestamp) -> Result<Done, Error> {
    for (key, value, description) in given.settings.iter().flat_map(|file| &file.entries) {
        check(key, value, description)?;
    }
    // What others have written into the original's table until now was before this.
    crate::original::prices::sync(database, now).await?;
    let earlier = earlier(database).await?;
    let mut done = in_transaction!(database, transaction => {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as(AssertSqlSafe(select(database))).fetch_all(&mut *transaction).await?;
        let is_first = rows.is_empty();
        let last = if is_first { earlier } else { remembered(rows) };
        let mut done = Done::default();
        if let Some(list) = &given.prices {
            let database = &acting(database, &list.file);
            let mut tally = Tally::default();
            for new in last_of_each(&list.entries, |new| (&new.provider, &new.model)) {
                let (kept, sound) = kept_versions!(transaction, database, new.model.as_str(), Some(&new.provider));
                let from = not_before(&kept, now, now);
                let held = holding(&kept, from);
                let (name, value) = (format!("{}/{}", new.provider, new.model), describe(new));
                let new = &with_lengths(new, held.map(|held| &held.priced));
                let is_so = held.is_some_and(|held| NewPrice::from(held.priced.clone()) == *new);
                let mut step = step(is_so, last_value(&last, PRICE, &name), &value.to_string(), given.overwrite);
                // What only a newer version can read is not replaced by less.
                if !sound && !given.overwrite {
                    step = Step::Keep;
                }
                let here = held.map(|held| show(&held.priced));
                let unreadable = || Some(Value::from("a price that only a newer version can read"));
                tally.count(step, &name, if sound { here.clone() } else { unreadable() }, &value);
                if step == Step::Set {
                    let checked = NewPrice { price: new.price.clone().checked()?, ..new.clone() };
                    let source = Source::File.as_str();
                    insert!(transaction, database, &checked, source, None, from, true, false);
                    let after = Some(prices::noted(&checked, source, now, from));
                    note!(transaction, database, Change { action: ACTION, subject: &name, before: here, after });
                    mirror!(transaction, database, new.model.as_str(), from);
                }
                if is_first || matches!(step, Step::Set | Step::Remember) {
                    remember!(transaction, database, PRICE, &name, &value.to_string());
                }
            }
            if last_value(&last, LIST, "").is_none() {
                remember!(transaction, database, LIST, "", &Value::from(list.file.as_str()).to_string());
            }
            done.prices = Some(tally);
        }
        for file in &given.settings {
            let database = &acting(database, &file.file);
            let mut written: Vec<(&str, &str, &str)> = Vec::new();
            for (key, value, description) in last_of_each(&file.entries, |entry| &entry.0) {
                let sql = AssertSqlSafe(super::settings::select_value(database));
                let here: Option<Option<String>> =
                    sqlx::query_scalar(sql).bind(key).fetch_optional(&mut *transaction).await?;
                let here = here.flatten();
                let is_so = here.as_deref() == Some(value);
                let step = step(is_so, last_value(&last, SETTING, key), value, given.overwrite);
                done.settings.count(step, key, here.map(Into::into), &value.as_str().into());
                if step != Step::Keep {
                    // One that is so already may have another description.
                    write_one!(transaction, database, ACTION, (key.as_str(), value.as_str(), description.as_str()), true);
                }
                if is_first || matches!(step, Step::Set | Step::Remember) {
                    remember!(transaction, database, SETTING, key, value);
                }
                if step == Step::Set {
                    written.push((key, value, description));
                }
            }
            write_default_price!(transaction, database, &written);
        }
        done
    });
    done.find_who(database).await?;
    Ok(done)
}

/// What [`set`] would do where these prices hold; changes nothing, and does not need our tables.
///
/// # Errors
/// As [`set`].
pub async fn preview(database: &Database, given: &Given, held: &[PricedModel]) -> Result<Done, Error> {
    let mut last = Remembered::new();
    if database.has_table(TABLE).await? {
        let sql = select(database);
        last =
            remembered(on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?));
    }
    if last.is_empty() {
        last = earlier(database).await?;
    }
    let held: HashMap<_, _> = held.iter().map(|priced| ((&priced.provider, &priced.model), priced)).collect();
    let mut done = Done::default();
    if let Some(list) = &given.prices {
        let mut tally = Tally::default();
        for new in last_of_each(&list.entries, |new| (&new.provider, &new.model)) {
            let there = held.get(&(&new.provider, &new.model)).copied();
            let (name, value) = (format!("{}/{}", new.provider, new.model), describe(new));
            let new = with_lengths(new, there);
            let is_so = there.is_some_and(|there| NewPrice::from(there.clone()) == new);
            let step = step(is_so, last_value(&last, PRICE, &name), &value.to_string(), given.overwrite);
            tally.count(step, &name, there.map(show), &value);
        }
        done.prices = Some(tally);
    }
    let there = match database.has_table("token_tracking_base_settings").await? {
        true => super::settings::list(database).await?,
        false => Vec::new(),
    };
    for (key, value, description) in
        given.settings.iter().flat_map(|file| last_of_each(&file.entries, |entry| &entry.0))
    {
        check(key, value, description)?;
        let here = there.iter().find(|setting| setting.key == *key).and_then(|setting| setting.value.clone());
        let is_so = here.as_ref() == Some(value);
        let step = step(is_so, last_value(&last, SETTING, key), value, given.overwrite);
        done.settings.count(step, key, here.map(Into::into), &value.as_str().into());
    }
    done.find_who(database).await?;
    Ok(done)
}

/// Whether the list of prices is a file's.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub(crate) async fn is_list(database: &Database) -> Result<bool, Error> {
    if !database.has_table(TABLE).await? {
        return Ok(false);
    }
    let sql = format!("SELECT COUNT(*) FROM {} WHERE kind = '{LIST}'", database.table(TABLE));
    let found: i64 =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?);
    Ok(found > 0)
}

impl Tally {
    /// Whether something stays although a file has something else.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    fn count(&mut self, step: Step, name: &str, here: Option<Value>, file: &Value) {
        match step {
            Step::Nothing | Step::Remember => self.unchanged += 1,
            Step::Set if here.is_some() => self.changed += 1,
            Step::Set => self.added += 1,
            Step::Keep => {
                let (name, file) = (name.to_owned(), file.clone());
                self.kept.push(Kept { name, here, file, by: None });
            }
        }
    }

    /// Whether nothing was set.
    pub const fn is_unchanged(&self) -> bool {
        self.added == 0 && self.changed == 0
    }
}

impl Done {
    /// Finds out who has changed what was kept.
    async fn find_who(&mut self, database: &Database) -> Result<(), Error> {
        let is_price = |action: &str| action.starts_with("pricing ") || action == "database sync";
        for kept in self.prices.iter_mut().flat_map(|tally| &mut tally.kept) {
            kept.by = last_change(database, &kept.name, is_price).await?;
        }
        for kept in &mut self.settings.kept {
            kept.by = last_change(database, &kept.name, |action| action == "settings set").await?;
        }
        Ok(())
    }
}

async fn last_change(
    database: &Database,
    subject: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<Option<(String, Timestamp)>, Error> {
    let wanted = Wanted { subject: Some(subject.to_owned()), ..Wanted::default() };
    let noted = audit::list(database, &wanted).await?;
    let last = noted.into_iter().rfind(|noted| noted.action == ACTION || fits(&noted.action));
    // What changed after the file's own note is in no note.
    Ok(last.filter(|noted| noted.action != ACTION).map(|noted| (noted.who, noted.at)))
}

fn select(database: &Database) -> String {
    format!("SELECT kind, name, value FROM {}", database.table(TABLE))
}

fn remembered(rows: Vec<(String, String, String)>) -> Remembered {
    rows.into_iter().map(|(kind, name, value)| ((kind, name), value)).collect()
}

/// What files set before that was remembered: version 0.2.0 set only what was not there yet, and noted it.
async fn earlier(database: &Database) -> Result<Remembered, Error> {
    if !database.has_table("token_tracking_audit").await? {
        return Ok(Remembered::new());
    }
    let sql = format!(
        "SELECT action, subject, after FROM {} WHERE after IS NOT NULL AND before IS NULL \
         AND action IN ('{ACTION}', 'settings set') ORDER BY at, id",
        database.table("token_tracking_audit")
    );
    let rows: Vec<(String, String, String)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let read = |(action, name, after): (String, String, String)| {
        let mut value: Value = serde_json::from_str(&after).ok()?;
        if action != ACTION {
            return Some(((SETTING.to_owned(), name), value.as_str()?.to_owned()));
        }
        let source = value.as_object_mut()?.remove("source")?;
        (source == Source::Administrator.as_str()).then(|| ((PRICE.to_owned(), name), value.to_string()))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

fn last_value<'a>(last: &'a Remembered, kind: &str, name: &str) -> Option<&'a str> {
    last.get(&(kind.to_owned(), name.to_owned())).map(String::as_str)
}

/// In whose name a file is set.
fn acting(database: &Database, file: &str) -> Database {
    database.clone().acting_as(&format!("{}, {file}", database.actor()))
}

/// The last entry for each thing, in their order.
fn last_of_each<'a, T, K: PartialEq>(entries: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<&'a T> {
    let is_last =
        |(at, entry): &(usize, &'a T)| !entries[at + 1..].iter().any(|later| key(later) == key(entry));
    entries.iter().enumerate().filter(is_last).map(|(_, entry)| entry).collect()
}

/// A price of a file with the lengths that are known of its model, where the file does not name them.
fn with_lengths(new: &NewPrice, held: Option<&PricedModel>) -> NewPrice {
    NewPrice {
        max_output_tokens: new.max_output_tokens.or(held.and_then(|held| held.max_output_tokens)),
        context_tokens: new.context_tokens.or(held.and_then(|held| held.context_tokens)),
        ..new.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_what_it_changed_and_keeps_what_others_changed_since() {
        for (is_so, last, expected) in [
            (false, None, Step::Set),
            (true, None, Step::Remember),
            (true, Some("new"), Step::Nothing),
            (true, Some("old"), Step::Remember),
            (false, Some("new"), Step::Keep),
            (false, Some("old"), Step::Set),
        ] {
            assert_eq!(step(is_so, last, "new", false), expected, "{is_so} {last:?}");
        }
        assert_eq!(step(false, Some("new"), "new", true), Step::Set);
    }

    #[test]
    fn of_several_entries_the_last_one_counts() {
        assert_eq!(last_of_each(&[("a", 1), ("b", 2), ("a", 3)], |entry| entry.0), [&("b", 2), &("a", 3)]);
    }
}
