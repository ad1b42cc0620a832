//! Sponsored allowances that hold more strictly than with the original, told before anybody is refused.
//!
//! The original counted the total only until the end of the day on which an allowance was made, never looked at its models, and failed where
//! there was no daily limit. Here all of it holds. Reads the original's tables, and ours where they are.

use std::collections::{BTreeMap, BTreeSet};

use accounting::{Clock, Credits, SponsoredId};
use sqlx::AssertSqlSafe;

use crate::sponsored::handle;
use crate::{Database, Error, SystemClock, on_pool};

const ALLOWANCES: &str = "token_tracking_sponsored_allowance";
/// What ends the name of an allowance in the id of a workspace model.
const MARK: &str = "---";

/// What becomes stricter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stricter {
    /// The allowance.
    pub name: String,
    /// What holds from now on.
    pub what: String,
    /// The command that changes it.
    pub command: String,
}

/// An allowance as the original's table has it.
struct Allowance {
    id: String,
    name: String,
    total: Credits,
    has_daily: bool,
    models: BTreeSet<String>,
}

/// What becomes stricter, where so much more of each allowance was used than is in our accounts.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn stricter(
    database: &Database,
    not_entered: &BTreeMap<SponsoredId, Credits>,
) -> Result<Vec<Stricter>, Error> {
    let allowances = allowances(database).await?;
    if allowances.is_empty() {
        return Ok(Vec::new());
    }
    let (spent, made_here) = (spent(database).await?, made_here(database).await?);
    let mut found = same_names(&allowances);
    for allowance in &allowances {
        let Allowance { id, name, total, .. } = allowance;
        let mut add = |what: String, command: String| {
            let command = format!("owui-token-tracking sponsored {command}");
            found.push(Stricter { name: name.clone(), what, command });
        };
        let Ok(parsed) = id.parse::<SponsoredId>() else { continue };
        let used = [spent.get(&parsed), not_entered.get(&parsed)].into_iter().flatten().copied();
        let used = used.fold(Credits::ZERO, Credits::saturating_plus);
        if total.saturating_plus(Credits::from_micro(-used.micro())) < Credits::ONE {
            let more = used.whole().saturating_add(total.whole()).saturating_add(1);
            add(
                format!(
                    "{used} of its {total} credits in total are used: nobody is served by it any more. Version 0.1 counted the \
                     total only on the day on which the allowance was made"
                ),
                format!("update --id {id} -t {more}"),
            );
        }
        if !allowance.has_daily && !made_here.contains(name) {
            add(
                "it has no daily limit: version 0.1 failed at each request; now a user may use all that is left of the total in a day"
                    .into(),
                format!("update --id {id} -d CREDITS"),
            );
        }
    }
    found.extend(not_covered(database, &allowances).await?);
    Ok(found)
}

/// Allowances with the name of another. They come first: nothing else of either can be changed before.
fn same_names(allowances: &[Allowance]) -> Vec<Stricter> {
    let mut found = Vec::new();
    for (at, Allowance { id, name, .. }) in allowances.iter().enumerate() {
        let is_same = |other: &&Allowance| other.name.to_lowercase() == name.to_lowercase();
        let Some(first) = allowances[..at].iter().find(is_same) else { continue };
        let new_name = quoted(&format!("{name} {}", at + 1));
        found.push(Stricter {
            name: name.clone(),
            what: format!(
                "another one (id {}) has the same name, and workspace models open that one",
                first.id
            ),
            command: format!("owui-token-tracking sponsored update --id {id} --new-name {new_name}"),
        });
    }
    found
}

/// Workspace models made of a model that their allowance does not cover.
async fn not_covered(database: &Database, allowances: &[Allowance]) -> Result<Vec<Stricter>, Error> {
    if !database.has_table("model").await? {
        return Ok(Vec::new());
    }
    let model = database.table("model");
    let sql = format!(
        "SELECT CAST(id AS TEXT), CAST(base_model_id AS TEXT) FROM {model} \
         WHERE id LIKE '%{MARK}%' AND base_model_id IS NOT NULL AND base_model_id <> '' ORDER BY 1"
    );
    let rows: Vec<(String, String)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let sql = format!("SELECT CAST(id AS TEXT) FROM {}", database.table("token_tracking_model_pricing"));
    let priced: Vec<String> =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let mut found = Vec::new();
    for allowance in allowances {
        let is_its = |id: &str| {
            id.split_once(MARK).is_some_and(|(name, _)| {
                let (name, its) = (name.to_lowercase(), allowance.name.to_lowercase());
                name == its || handle(&name) == handle(&its)
            })
        };
        let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (id, base) in rows.iter().filter(|(id, _)| is_its(id)) {
            if allowance.models.iter().any(|model| is_made_of(base, model)) {
                continue;
            }
            let longest =
                priced.iter().filter(|model| is_made_of(base, model)).max_by_key(|model| model.len());
            let model = longest
                .cloned()
                .unwrap_or_else(|| base.split_once('.').map_or(base.as_str(), |(_, model)| model).to_owned());
            missing.entry(model).or_default().push(id);
        }
        if missing.is_empty() {
            continue;
        }
        let named: Vec<String> =
            missing.iter().map(|(model, of)| format!("{model} (of {})", of.join(", "))).collect();
        let options: Vec<String> = allowance
            .models
            .iter()
            .chain(missing.keys())
            .map(|model| format!(" -m {}", quoted(model)))
            .collect();
        found.push(Stricter {
            name: allowance.name.clone(),
            what: format!(
                "it does not cover {}: requests to these workspace models are refused. Version 0.1 never looked",
                named.join(", ")
            ),
            command: format!(
                "owui-token-tracking sponsored update --id {}{}",
                allowance.id,
                options.concat()
            ),
        });
    }
    Ok(found)
}

/// Open WebUI puts the id of a function, or of a connection, before the provider's own.
fn is_made_of(base: &str, model: &str) -> bool {
    base == model || base.strip_suffix(model).is_some_and(|prefix| prefix.ends_with(['.', '/']))
}

async fn allowances(database: &Database) -> Result<Vec<Allowance>, Error> {
    if !database.has_table(ALLOWANCES).await? {
        return Ok(Vec::new());
    }
    let table = database.table(ALLOWANCES);
    let mut which = String::from("name IS NOT NULL");
    if database.has_table("token_tracking_sponsored").await? {
        let settings = crate::admin::settings::read(database).await?;
        let today = settings.timezone.day(SystemClock.now());
        which.push_str(&format!(
            " AND NOT EXISTS (SELECT 1 FROM {} AS beside WHERE beside.id = {} \
             AND (beside.deleted_at IS NOT NULL OR beside.ends_on < '{today}'))",
            database.table("token_tracking_sponsored"),
            match database.kind() {
                crate::Kind::Sqlite => "CAST(kept.id AS TEXT)",
                crate::Kind::Postgres => "replace(CAST(kept.id AS TEXT), '-', '')",
            }
        ));
    }
    let sql = format!(
        "SELECT CAST(id AS TEXT), CAST(name AS TEXT), CAST(total_credit_limit AS BIGINT), \
           CAST(daily_credit_limit AS BIGINT) FROM {table} AS kept WHERE {which} ORDER BY lower(name), 1"
    );
    let rows: Vec<(String, String, Option<i64>, Option<i64>)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let covered = "token_tracking_sponsored_allowance_base_models";
    let mut models: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if database.has_table(covered).await? {
        let sql = format!(
            "SELECT CAST(sponsored_allowance_id AS TEXT), CAST(base_model_id AS TEXT) FROM {} \
             WHERE sponsored_allowance_id IS NOT NULL AND base_model_id IS NOT NULL",
            database.table(covered)
        );
        let rows: Vec<(String, String)> =
            on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
        for (id, model) in rows {
            models.entry(id).or_default().insert(model);
        }
    }
    let allowance = |(id, name, total, daily): (String, String, Option<i64>, Option<i64>)| Allowance {
        models: models.remove(&id).unwrap_or_default(),
        total: Credits::saturating_from_whole(total.unwrap_or_default()),
        has_daily: daily.is_some(),
        id,
        name,
    };
    Ok(rows.into_iter().map(allowance).collect())
}

/// What was spent of each allowance, by our accounts.
async fn spent(database: &Database) -> Result<BTreeMap<SponsoredId, Credits>, Error> {
    if !database.has_table("token_tracking_account").await? {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "SELECT sponsored_id, spent FROM {} WHERE kind = 'sponsored-total' AND sponsored_id IS NOT NULL",
        database.table("token_tracking_account")
    );
    let rows: Vec<(String, i64)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let spent = |(id, spent): (String, i64)| Some((id.parse().ok()?, Credits::from_micro(spent)));
    Ok(rows.into_iter().filter_map(spent).collect())
}

/// The names of allowances that were made or changed here, so that their terms are meant.
async fn made_here(database: &Database) -> Result<BTreeSet<String>, Error> {
    if !database.has_table("token_tracking_audit").await? {
        return Ok(BTreeSet::new());
    }
    let sql = format!(
        "SELECT DISTINCT subject FROM {} WHERE action IN ('sponsored create', 'sponsored update')",
        database.table("token_tracking_audit")
    );
    let names: Vec<String> =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await?);
    Ok(names.into_iter().collect())
}

/// As a shell needs it.
fn quoted(text: &str) -> String {
    let is_safe = |character: char| character.is_ascii_alphanumeric() || "._-/:@".contains(character);
    if !text.is_empty() && text.chars().all(is_safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
