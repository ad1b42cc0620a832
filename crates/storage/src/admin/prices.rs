//! Prices. A change makes a new version; no version is ever edited, so history keeps what was charged.
//!
//! The original's price table is kept as a mirror: one row for each model id (the first provider keeps it), in whole
//! credits.

use accounting::{ModelId, Price, ProviderName, Rate};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::catalogue::{PriceRow, PricedModel, select_prices};
use crate::database::in_transaction;
use crate::{Database, Error, on_pool, sponsored};

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
}

impl Source {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::BuiltIn => "built-in",
            Self::Original => "original",
        }
    }
}

/// How to write where a price may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It must be new.
    Add,
    /// New or changed.
    Upsert,
    /// Only where the model never had one, deleted ones included.
    OnlyNew,
}

/// Inserts a version; with `ends`, the model has no price from now on.
macro_rules! insert {
    ($transaction:expr, $database:expr, $new:expr, $source:expr, $now:expr, $ends:expr) => {{
        let new: &$crate::admin::prices::NewPrice = $new;
        let table = $database.table("token_tracking_price");
        let insert = format!(
            "INSERT INTO {table} (version, provider, model, name, price, max_output_tokens, context_tokens, source, \
               valid_from, deleted) \
             SELECT COALESCE(MAX(version), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9 FROM {table}"
        );
        let tokens = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(new.provider.as_str())
            .bind(new.model.as_str())
            .bind(&new.name)
            .bind($crate::admin::prices::json(&new.price)?)
            .bind(tokens(new.max_output_tokens))
            .bind(tokens(new.context_tokens))
            .bind($source.as_str())
            .bind($now.as_microsecond())
            .bind(i64::from($ends))
            .execute(&mut *$transaction)
            .await?;
    }};
}
pub(crate) use insert;

/// Shows a price in the original's table, or that there is none any more.
macro_rules! mirror {
    ($transaction:expr, $database:expr, $new:expr, $holds:expr) => {{
        let new: &$crate::admin::prices::NewPrice = $new;
        let mirror = $database.table("token_tracking_model_pricing");
        let delete = format!("DELETE FROM {mirror} WHERE id = $1 AND lower(provider) = $2");
        let upsert = format!(
            "INSERT INTO {mirror} (id, provider, name, input_cost_credits, per_input_tokens, output_cost_credits, \
               per_output_tokens) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, input_cost_credits = excluded.input_cost_credits, \
               per_input_tokens = excluded.per_input_tokens, output_cost_credits = excluded.output_cost_credits, \
               per_output_tokens = excluded.per_output_tokens \
             WHERE lower({mirror}.provider) = excluded.provider"
        );
        if $holds {
            let price = &new.price;
            let ((input, per_input), (output, per_output)) =
                ($crate::admin::prices::whole(price.input), $crate::admin::prices::whole(price.output));
            sqlx::query(sqlx::AssertSqlSafe(upsert))
                .bind(new.model.as_str())
                .bind(new.provider.as_str())
                .bind($crate::original::prices::shown_name(&new.name))
                .bind(input)
                .bind(per_input)
                .bind(output)
                .bind(per_output)
                .execute(&mut *$transaction)
                .await?;
        } else {
            let query = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(new.model.as_str()).bind(new.provider.as_str());
            query.execute(&mut *$transaction).await?;
        }
    }};
}
pub(crate) use mirror;

/// Writes prices, all or none, and returns how many have changed.
///
/// # Errors
/// [`Error::Conflict`] if one to be added is there already, [`Error::Accounting`] if one can't be computed with.
pub async fn write(
    database: &Database,
    prices: &[NewPrice],
    how: Write,
    source: Source,
    now: Timestamp,
) -> Result<usize, Error> {
    let mut checked = Vec::with_capacity(prices.len());
    for price in prices {
        checked.push((price, price.price.clone().checked()?));
    }
    in_transaction!(database, transaction => {
        let mut changed = 0;
        for (new, price) in checked {
            let select = format!("{} WHERE provider = $1 AND model = $2 ORDER BY version DESC LIMIT 1", select_prices(database));
            let row: Option<PriceRow> = sqlx::query_as(AssertSqlSafe(select))
                .bind(new.provider.as_str())
                .bind(new.model.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
            let there = row.as_ref().is_some_and(|row| row.deleted == 0);
            match how {
                Write::Add if there => return Err(exists(new)),
                Write::OnlyNew if row.is_some() => continue,
                Write::Upsert if row.is_some_and(|row| same(row, new)) => continue,
                _ => {}
            }
            let new = NewPrice { price, ..new.clone() };
            insert!(transaction, database, &new, source, now, false);
            mirror!(transaction, database, &new, true);
            changed += 1;
        }
        Ok(changed)
    })
}

/// Ends a model's price; without a provider, at all providers. Returns how many had one.
///
/// # Errors
/// [`Error::NotFound`] if there is none, [`Error::Conflict`] while a sponsored allowance covers the model.
pub async fn delete(
    database: &Database,
    model: &ModelId,
    provider: Option<&ProviderName>,
    now: Timestamp,
) -> Result<usize, Error> {
    let found = get(database, model, provider, now).await?;
    if found.is_empty() {
        return Err(missing(model));
    }
    if let Some(sponsored) = sponsored::read(database).await?.iter().find(|allowance| allowance.covers(model))
    {
        let name = &sponsored.name;
        let what = format!(
            "the sponsored allowance `{name}` covers {model}; take it out first: owui-token-tracking sponsored update \
             --name \"{name}\" -m …"
        );
        return Err(Error::Conflict { what });
    }
    let count = found.len();
    in_transaction!(database, transaction => {
        for priced in found {
            let new = NewPrice::from(priced);
            insert!(transaction, database, &new, Source::Administrator, now, true);
            mirror!(transaction, database, &new, false);
        }
    });
    Ok(count)
}

/// All prices that hold now, by provider and model.
///
/// # Errors
/// [`Error::Inconsistency`] if a row is bad.
pub async fn list(
    database: &Database,
    provider: Option<&ProviderName>,
    now: Timestamp,
) -> Result<Vec<PricedModel>, Error> {
    let sql = format!(
        "{} WHERE version IN (SELECT MAX(version) FROM {} WHERE valid_from <= $1 GROUP BY provider, model) \
         AND deleted = 0 AND ($2 IS NULL OR provider = $2) ORDER BY provider, model",
        select_prices(database),
        database.table("token_tracking_price")
    );
    let rows: Vec<PriceRow> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(now.as_microsecond());
        query.bind(provider.map(ProviderName::as_str)).fetch_all(pool).await?
    });
    rows.into_iter().map(PriceRow::read).collect()
}

/// The prices of a model that hold now, at one provider or at all.
///
/// # Errors
/// [`Error::Inconsistency`] if a row is bad.
pub async fn get(
    database: &Database,
    model: &ModelId,
    provider: Option<&ProviderName>,
    now: Timestamp,
) -> Result<Vec<PricedModel>, Error> {
    let mut found = list(database, provider, now).await?;
    found.retain(|priced| priced.model == *model);
    Ok(found)
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

fn same(row: PriceRow, new: &NewPrice) -> bool {
    row.deleted == 0 && row.read().is_ok_and(|there| NewPrice::from(there) == *new)
}

pub(crate) fn json(price: &Price) -> Result<String, Error> {
    serde_json::to_string(price).map_err(|error| Error::Invalid { what: error.to_string() })
}

/// A rate in the original's whole credits: exact where its integers can hold it, else rounded up.
pub(crate) fn whole(rate: Rate) -> (i32, i32) {
    let (micro, million) = (i128::from(rate.credits.micro()), 1_000_000_i128);
    if micro % million == 0
        && let (Ok(credits), Ok(per)) = (i32::try_from(micro / million), i32::try_from(rate.per))
    {
        // As the administrator wrote it.
        return (credits, per);
    }
    let (mut credits, mut per) = (micro, i128::from(rate.per) * million);
    let divisor = greatest_divisor(credits, per).max(1);
    (credits, per) = (credits / divisor, per / divisor);
    // The original's prices are for a million tokens: keep that, where it stays exact.
    if million % per == 0 {
        (credits, per) = (credits * (million / per), million);
    }
    match (i32::try_from(credits), i32::try_from(per)) {
        (Ok(credits), Ok(per)) => (credits, per),
        _ => {
            let for_a_million = divided_up(micro, i128::from(rate.per));
            (i32::try_from(for_a_million).unwrap_or(i32::MAX), 1_000_000)
        }
    }
}

fn divided_up(number: i128, by: i128) -> i128 {
    number.div_euclid(by) + i128::from(number.rem_euclid(by) != 0)
}

fn greatest_divisor(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use accounting::Credits;

    use super::*;

    #[test]
    fn mirrored_rates_are_exact_or_rounded_up() {
        let rate = |micro, per| whole(Rate::new(Credits::from_micro(micro), per));
        assert_eq!(rate(3_000_000_000, 1_000_000), (3000, 1_000_000));
        assert_eq!(rate(0, 1), (0, 1));
        assert_eq!(rate(1_000_000, 1000), (1, 1000));
        // 2.5 credits for 1000 tokens.
        assert_eq!(rate(2_500_000, 1000), (2500, 1_000_000));
        // About a third of a credit for 7 tokens can't be written for a million.
        assert_eq!(rate(333_334, 7), (166_667, 3_500_000));
        assert_eq!(rate(1, 999_983_000_000), (1, 1_000_000));
    }
}
