//! Prices. A change makes a new version; no version is ever edited, so history keeps what was charged.
//!
//! Each change is noted, and mirrored into the original's price table (see [`mirror`]).

mod default_price;
pub(crate) mod mirror;
pub(crate) mod versions;

use accounting::{ModelId, Price, ProviderName, check_name};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::AssertSqlSafe;

pub(crate) use self::default_price::{default_price, of_settings};
pub use self::mirror::mirror_due;
pub(crate) use self::mirror::{mirror, mirrored, whole};
pub use self::versions::{Unreadable, Upstream, Version, Versions, history, present};
pub(crate) use self::versions::{holding, is_last};
use super::audit::{Change, note};
use super::{files, price_list};
use crate::PricedModel;
use crate::database::in_transaction;
use crate::{Database, Error, SponsoredAllowance, nearest, on_pool, sponsored};

/// The provider, and the model, of the price of models that have none of their own.
pub(crate) const ANY: &str = "*";

/// The clocks of several hosts may differ by so much. What was written at most so far ahead is not meant for later.
pub(crate) const CLOCKS: SignedDuration = SignedDuration::from_secs(60);

/// A price to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrice {
    /// The provider.
    pub provider: ProviderName,
    /// The model.
    pub model: ModelId,
    /// Its name for people.
    pub name: String,
    /// The price.
    pub price: Price,
    /// The longest answer that the model gives, in tokens.
    pub max_output_tokens: Option<u64>,
    /// The longest context that the model takes, in tokens.
    pub context_tokens: Option<u64>,
}

/// Where a price comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Written by an administrator.
    Administrator,
    /// From the list that comes with this program.
    BuiltIn,
    /// Taken over from the original's table.
    Original,
    /// From a file that was given to `init`.
    File,
}

impl Source {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::BuiltIn => BUILT_IN,
            Self::Original => "original",
            Self::File => "file",
        }
    }
}

/// The source of what is from a public list.
pub const LISTED: &str = "genai-prices";
/// The source of what a new installation begins with, from the same list.
pub const BUILT_IN: &str = "built-in";

/// The most characters of a model's name.
pub(super) const LONGEST_NAME: usize = 1000;

/// How to write where a price may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It must be new.
    Add,
    /// It must be there.
    Update,
    /// New or changed.
    Upsert,
    /// Only where the model never had one, deleted ones included.
    OnlyNew,
    /// Only where the one that is there is from a list: never over one's own.
    Refresh,
}

impl Write {
    const fn action(self) -> &'static str {
        match self {
            Self::Add => "pricing add",
            Self::Update => "pricing update",
            Self::Upsert => "pricing upsert",
            Self::OnlyNew => "init",
            Self::Refresh => "pricing sync",
        }
    }
}

/// A price to be written, with all that is kept about where it comes from.
struct Written<'a> {
    new: &'a NewPrice,
    price: Price,
    source: &'static str,
    upstream: Option<&'a Upstream>,
}

/// When, and as what.
#[derive(Clone, Copy)]
struct Writing {
    how: Write,
    action: &'static str,
    now: Timestamp,
    from: Timestamp,
}

/// Inserts one version, and notes it, in a transaction.
macro_rules! insert {
    ($transaction:expr, $database:expr, $new:expr, $source:expr, $upstream:expr, $from:expr, $mirrored:expr, $deleted:expr) => {{
        let new: &$crate::admin::prices::NewPrice = $new;
        let upstream: Option<&$crate::admin::prices::Upstream> = $upstream;
        let table = $database.table("token_tracking_price");
        let insert = format!(
            "INSERT INTO {table} (version, provider, model, name, price, max_output_tokens, context_tokens, source, \
               upstream, valid_from, mirrored, deleted) \
             SELECT COALESCE(MAX(version), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM {table}"
        );
        let tokens = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(new.provider.as_str())
            .bind(new.model.as_str())
            .bind(&new.name)
            .bind($crate::admin::prices::json(&new.price)?)
            .bind(tokens(new.max_output_tokens))
            .bind(tokens(new.context_tokens))
            .bind($source)
            .bind(upstream.map($crate::admin::prices::json).transpose()?)
            .bind($from.as_microsecond())
            .bind(i64::from($mirrored))
            .bind(i64::from($deleted))
            .execute(&mut *$transaction)
            .await?;
    }};
}

pub(crate) use insert;

/// The versions of a model's price, at one provider or at all, in a transaction, and whether every row could be read: a bad
/// one is no price, and can be replaced.
macro_rules! kept_versions {
    ($transaction:expr, $database:expr, $model:expr, $provider:expr) => {{
        let provider: Option<&accounting::ProviderName> = $provider;
        let sql = format!(
            "{} WHERE model = $1 AND ($2 IS NULL OR provider = $2) ORDER BY version",
            $crate::admin::prices::versions::select($database)
        );
        let rows: Vec<$crate::admin::prices::versions::VersionRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind($model)
            .bind(provider.map(accounting::ProviderName::as_str))
            .fetch_all(&mut *$transaction)
            .await?;
        let count = rows.len();
        let versions: Vec<$crate::admin::prices::Version> =
            rows.into_iter().filter_map(|row| row.read().ok()).collect();
        let sound = versions.len() == count;
        (versions, sound)
    }};
}
pub(crate) use kept_versions;

/// Writes prices, all or none, and returns how many have changed.
///
/// # Errors
/// [`Error::Conflict`] if one to be added is there already, [`Error::NotFound`] if one to be updated is not,
/// [`Error::Accounting`] if one can't be computed with.
pub async fn write(
    database: &Database,
    prices: &[NewPrice],
    how: Write,
    source: Source,
    now: Timestamp,
) -> Result<usize, Error> {
    write_from(database, prices, how, source, now, now).await
}

/// The same, from a later date on.
///
/// # Errors
/// As [`write`].
pub async fn write_from(
    database: &Database,
    prices: &[NewPrice],
    how: Write,
    source: Source,
    now: Timestamp,
    from: Timestamp,
) -> Result<usize, Error> {
    if source == Source::Administrator {
        prices.iter().try_for_each(|new| check_name(&new.name, "the name of a model", LONGEST_NAME))?;
    }
    let action = if source == Source::Original { "database sync" } else { how.action() };
    let written =
        |new| Ok::<_, Error>(Written { new, price: checked(new)?, source: source.as_str(), upstream: None });
    let written: Vec<Written<'_>> = prices.iter().map(written).collect::<Result<_, _>>()?;
    apply(database, written, Writing { how, action, now, from: from.max(now) }).await
}

/// Writes prices from a public list; `action` is what is done, such as `pricing sync`.
///
/// # Errors
/// As [`write`].
pub async fn write_listed(
    database: &Database,
    prices: &[(NewPrice, Upstream)],
    how: Write,
    action: &'static str,
    now: Timestamp,
) -> Result<usize, Error> {
    let written = |(new, upstream)| {
        Ok::<_, Error>(Written { new, price: checked(new)?, source: LISTED, upstream: Some(upstream) })
    };
    let written: Vec<Written<'_>> =
        prices.iter().map(|(new, upstream)| (new, upstream)).map(written).collect::<Result<_, _>>()?;
    apply(database, written, Writing { how, action, now, from: now }).await
}

/// Whether the list of prices is the site's own, to which nothing is added unasked: it began with a file, with prices of an
/// administrator, or with those of the original. A list without any price is nobody's, unless a file left it so.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn has_own_list(database: &Database) -> Result<bool, Error> {
    if files::is_list(database).await? {
        return Ok(true);
    }
    if !database.has_table("token_tracking_price").await? {
        return Ok(false);
    }
    let sql = format!(
        "SELECT source FROM {} WHERE provider <> $1 ORDER BY version LIMIT 1",
        database.table("token_tracking_price")
    );
    let first: Option<String> = on_pool!(database, pool => {
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(ANY).fetch_optional(pool).await?
    });
    Ok(first.is_some_and(|source| source != Source::BuiltIn.as_str()))
}

/// Whether any model has or had a price here; not, where our tables are missing.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn is_there(database: &Database) -> Result<bool, Error> {
    Ok(database.has_table("token_tracking_price").await? && count(database).await? > 0)
}

fn checked(new: &NewPrice) -> Result<Price, Error> {
    Ok(new.price.clone().checked()?)
}

async fn apply(database: &Database, prices: Vec<Written<'_>>, writing: Writing) -> Result<usize, Error> {
    let Writing { how, action, now, from } = writing;
    // What others have written there until now was before this.
    crate::original::prices::sync(database, now).await?;
    in_transaction!(database, transaction => {
        let mut changed = 0;
        for Written { new, price, source, upstream } in prices {
            let (kept, sound) = kept_versions!(transaction, database, new.model.as_str(), Some(&new.provider));
            let from = not_before(&kept, now, from);
            let before = holding(&kept, from);
            match how {
                Write::Add if before.is_some() => return Err(exists(new)),
                Write::Update if before.is_none() && sound => return Err(missing(&new.model)),
                Write::OnlyNew if !kept.is_empty() || !sound => continue,
                Write::Refresh if !before.is_some_and(|before| [LISTED, BUILT_IN].contains(&before.source.as_str())) => {
                    continue;
                }
                Write::Update | Write::Upsert
                    if sound && before.is_some_and(|before| same(before, new, source, upstream)) =>
                {
                    continue;
                }
                _ => {}
            }
            let (new, later) = (NewPrice { price, ..new.clone() }, is_later(now, from));
            insert!(transaction, database, &new, source, upstream, from, !later, false);
            let subject = format!("{}/{}", new.provider, new.model);
            let before = before.map(|before| price_list::show(&before.priced));
            let after = Some(noted(&new, source, now, from));
            note!(transaction, database, Change { action, subject: &subject, before, after });
            // What was read there is there.
            if !later && source != Source::Original.as_str() {
                mirror!(transaction, database, new.model.as_str(), from);
            }
            changed += 1;
        }
        Ok(changed)
    })
}

/// From when a price holds that is to hold from `from`: what is meant for now counts from now on, also if the clock of another
/// host was ahead when the last version was written.
pub(crate) fn not_before(kept: &[Version], now: Timestamp, from: Timestamp) -> Timestamp {
    if is_later(now, from) {
        return from;
    }
    let last = kept.iter().map(|version| version.valid_from).filter(|at| !is_later(now, *at)).max();
    last.map_or(now, |last| last.max(now))
}

/// Whether that is a date to come.
fn is_later(now: Timestamp, from: Timestamp) -> bool {
    now.saturating_add(CLOCKS).is_ok_and(|soon| from > soon)
}

/// What is noted of a price.
pub(super) fn noted(new: &NewPrice, source: &str, now: Timestamp, from: Timestamp) -> Value {
    let mut shown = price_list::describe(new);
    shown["source"] = source.into();
    if is_later(now, from) {
        shown["valid_from"] = from.to_string().into();
    }
    shown
}

/// Ends a model's price, and those that are to hold later; without a provider, at all providers. Returns how many had one.
///
/// # Errors
/// [`Error::NotFound`] if there is none, [`Error::Conflict`] while a sponsored allowance covers the model.
pub async fn delete(
    database: &Database,
    model: &ModelId,
    provider: Option<&ProviderName>,
    now: Timestamp,
) -> Result<usize, Error> {
    let there = history(database, model, provider).await?;
    let readable =
        there.readable.iter().filter(|version| !version.deleted).map(|version| &version.priced.provider);
    let unreadable: Vec<ProviderName> =
        there.unreadable.iter().filter_map(|version| ProviderName::new(&version.of.0).ok()).collect();
    let concerned: Vec<&ProviderName> = readable.chain(&unreadable).collect();
    if concerned.is_empty() {
        return Err(nearest::unknown_price(database, model, provider).await);
    }
    let pays = |allowance: &&SponsoredAllowance| {
        concerned.iter().any(|provider| allowance.pays_for(provider, model))
    };
    if let Some(sponsored) = sponsored::read(database).await?.iter().find(pays) {
        let name = &sponsored.name;
        let what = format!(
            "the sponsored allowance `{name}` covers {model}; take it out first: owui-token-tracking sponsored update \
             --name \"{name}\" -m …"
        );
        return Err(Error::Conflict { what });
    }
    let deleted = in_transaction!(database, transaction => {
        let (kept, _) = kept_versions!(transaction, database, model.as_str(), provider);
        let mut providers: Vec<&ProviderName> = kept.iter().map(|version| &version.priced.provider).collect();
        providers.sort_unstable();
        providers.dedup();
        let mut deleted = 0;
        for provider in providers {
            let mine: Vec<Version> =
                kept.iter().filter(|version| version.priced.provider == *provider).cloned().collect();
            let at = not_before(&mine, now, now);
            let mut ends: Vec<Timestamp> = mine.iter().map(|version| version.valid_from).filter(|from| *from > at).collect();
            ends.insert(0, at);
            ends.sort_unstable();
            ends.dedup();
            // A price that is to hold later would come back by itself.
            let ended: Vec<_> =
                ends.into_iter().filter_map(|at| Some((at, holding(&mine, at)?.priced.clone()))).collect();
            let Some((_, last)) = ended.last().cloned() else { continue };
            for (at, priced) in ended {
                let (new, source) = (NewPrice::from(priced), Source::Administrator.as_str());
                insert!(transaction, database, &new, source, None, at, true, true);
            }
            let subject = format!("{provider}/{model}");
            let before = holding(&mine, at).map_or(&last, |held| &held.priced);
            let before = Some(price_list::show(before));
            note!(transaction, database, Change { action: "pricing delete", subject: &subject, before, after: None });
            deleted += 1;
            mirror!(transaction, database, model.as_str(), at);
        }
        deleted
    });
    if deleted == 0 {
        return Err(nearest::unknown_price(database, model, provider).await);
    }
    Ok(deleted)
}

/// All prices that hold at a moment and can be read, by provider and model.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn list(
    database: &Database,
    provider: Option<&ProviderName>,
    now: Timestamp,
) -> Result<Vec<PricedModel>, Error> {
    let held = present(database, provider, now).await?;
    Ok(held.readable.into_iter().map(|version| version.priced).collect())
}

/// The prices of a model that hold at a moment, at one provider or at all.
///
/// # Errors
/// [`Error::Inconsistency`] if a row is bad.
pub async fn get(
    database: &Database,
    model: &ModelId,
    provider: Option<&ProviderName>,
    now: Timestamp,
) -> Result<Vec<PricedModel>, Error> {
    let held = present(database, provider, now).await?;
    if let Some(unreadable) = held.unreadable.into_iter().find(|unreadable| unreadable.of.1 == model.as_str())
    {
        return Err(unreadable.error);
    }
    let found = held.readable.into_iter().map(|version| version.priced);
    Ok(found.filter(|priced| priced.model == *model).collect())
}

/// Takes over what differs in the original's price table. Returns how many prices were not here.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn adopt(database: &Database, now: Timestamp) -> Result<usize, Error> {
    Ok(crate::original::prices::sync(database, now).await?.adopted)
}

/// How many models have or had a price.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn count(database: &Database) -> Result<i64, Error> {
    let sql = format!("SELECT COUNT(*) FROM {}", database.table("token_tracking_price"));
    Ok(on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?))
}

impl From<PricedModel> for NewPrice {
    fn from(priced: PricedModel) -> Self {
        let PricedModel { provider, model, name, price, max_output_tokens, context_tokens, .. } = priced;
        Self { provider, model, name, price, max_output_tokens, context_tokens }
    }
}

/// The error for a model without a price.
pub fn missing(model: &ModelId) -> Error {
    Error::NotFound {
        what: "price of",
        name: model.to_string(),
        hint: "; `owui-token-tracking pricing list` shows all, `pricing add` makes one".into(),
    }
}

fn exists(new: &NewPrice) -> Error {
    let what = format!(
        "there is a price of {} at {} already; change it with `pricing update` or `upsert`",
        new.model, new.provider
    );
    Error::Conflict { what }
}

fn same(there: &Version, new: &NewPrice, source: &str, upstream: Option<&Upstream>) -> bool {
    // Another version of the same list is no change.
    let entry = |upstream: Option<&Upstream>| {
        upstream.map(|entry| (entry.provider.clone(), entry.model.clone(), entry.credits_per_usd))
    };
    NewPrice::from(there.priced.clone()) == *new
        && there.source == source
        && entry(there.upstream.as_ref()) == entry(upstream)
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Invalid { what: error.to_string() })
}
