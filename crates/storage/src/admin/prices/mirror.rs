//! The original's price table, kept as a mirror of ours, so that the original can read and charge after us.
//!
//! It has one row for each model id, whichever providers have that model. The row belongs to the provider that it names, as
//! long as that one has a price; then to the provider that was the first to have one. A row of a provider that never had a
//! price here was written by somebody else: it is left alone until it is taken over. Rates are in whole credits: exact where
//! the original's integers can hold them, else rounded up. A price from a later date is shown when its time has come.

use accounting::{ProviderName, Rate};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::versions::{Version, holding};
use crate::database::in_transaction;
use crate::{Database, Error, PricedModel, on_pool};

/// The original keeps names of at most so many characters.
const MOST_NAME: usize = 255;

/// A row of the original's price table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrored {
    pub id: String,
    pub provider: String,
    pub name: String,
    /// Credits, for so many tokens.
    pub input: (i32, i32),
    pub output: (i32, i32),
}

/// A price as the original's table shows it.
pub(crate) fn mirrored(priced: &PricedModel) -> Mirrored {
    Mirrored {
        id: priced.model.to_string(),
        provider: priced.provider.to_string(),
        name: priced.name.chars().take(MOST_NAME).collect(),
        input: whole(priced.price.input),
        output: whole(priced.price.output),
    }
}

/// What becomes of a model's row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// It is written so.
    Write(Mirrored),
    /// It goes.
    Delete,
    /// It is somebody else's.
    Leave,
}

/// What becomes of a model's row, which names the provider `owner`, if all versions of the model's price are these.
pub(crate) fn row(versions: &[Version], owner: Option<&str>, now: Timestamp) -> Row {
    let of = |provider: &ProviderName| -> Vec<Version> {
        versions.iter().filter(|version| version.priced.provider == *provider).cloned().collect()
    };
    let owner = owner.map(str::to_lowercase);
    let mut providers: Vec<&ProviderName> = Vec::new();
    // The oldest version first, so the providers are in the order in which they came.
    let mut oldest_first: Vec<&Version> = versions.iter().collect();
    oldest_first.sort_by_key(|version| version.priced.version);
    for version in oldest_first {
        let provider = &version.priced.provider;
        if provider.as_str() != super::ANY && !providers.contains(&provider) {
            providers.push(provider);
        }
    }
    if let Some(owner) = &owner {
        if !providers.iter().any(|provider| provider.as_str() == owner) {
            return Row::Leave;
        }
        providers.sort_by_key(|provider| provider.as_str() != owner);
    }
    let first = providers
        .into_iter()
        .find_map(|provider| holding(&of(provider), now).map(|held| mirrored(&held.priced)));
    match (first, owner) {
        (Some(mirrored), _) => Row::Write(mirrored),
        (None, Some(_)) => Row::Delete,
        (None, None) => Row::Leave,
    }
}

/// Brings the row of a model up to date (its provider keeps its spelling), in the transaction that has changed its price.
macro_rules! mirror {
    ($transaction:expr, $database:expr, $model:expr, $now:expr) => {{
        let table = $database.table("token_tracking_model_pricing");
        let sql = format!("{} WHERE model = $1", $crate::admin::prices::versions::select($database));
        let rows: Vec<$crate::admin::prices::versions::VersionRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind($model).fetch_all(&mut *$transaction).await?;
        // A bad row is no price; whoever lists prices is told of it.
        let versions: Vec<_> = rows.into_iter().filter_map(|row| row.read().ok()).collect();
        let select = format!("SELECT CAST(provider AS TEXT) FROM {table} WHERE id = $1");
        let owner: Option<Option<String>> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(select)).bind($model).fetch_optional(&mut *$transaction).await?;
        let owner = owner.map(Option::unwrap_or_default);
        match $crate::admin::prices::mirror::row(&versions, owner.as_deref(), $now) {
            $crate::admin::prices::mirror::Row::Leave => {}
            $crate::admin::prices::mirror::Row::Delete => {
                let delete = format!("DELETE FROM {table} WHERE id = $1");
                sqlx::query(sqlx::AssertSqlSafe(delete)).bind($model).execute(&mut *$transaction).await?;
            }
            $crate::admin::prices::mirror::Row::Write(row) => {
                let upsert = format!(
                    "INSERT INTO {table} (id, provider, name, input_cost_credits, per_input_tokens, output_cost_credits, \
                       per_output_tokens) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                     ON CONFLICT (id) DO UPDATE SET provider = CASE WHEN lower({table}.provider) = excluded.provider \
                         THEN {table}.provider ELSE excluded.provider END, name = excluded.name, \
                       input_cost_credits = excluded.input_cost_credits, per_input_tokens = excluded.per_input_tokens, \
                       output_cost_credits = excluded.output_cost_credits, per_output_tokens = excluded.per_output_tokens"
                );
                sqlx::query(sqlx::AssertSqlSafe(upsert))
                    .bind(row.id)
                    .bind(row.provider)
                    .bind(row.name)
                    .bind(row.input.0)
                    .bind(row.input.1)
                    .bind(row.output.0)
                    .bind(row.output.1)
                    .execute(&mut *$transaction)
                    .await?;
            }
        }
    }};
}
pub(crate) use mirror;

/// Shows those prices from a later date whose time has come. Returns of how many models. To be called before the table is
/// searched for what others have written into it: what it shows until then is the price of before.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn mirror_due(database: &Database, now: Timestamp) -> Result<usize, Error> {
    let table = database.table("token_tracking_price");
    let sql = format!("SELECT DISTINCT model FROM {table} WHERE mirrored = 0 AND valid_from <= $1");
    let due: Vec<String> = on_pool!(database, pool => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.clone())).bind(now.as_microsecond());
        query.fetch_all(pool).await?
    });
    if due.is_empty() {
        return Ok(0);
    }
    let done =
        format!("UPDATE {table} SET mirrored = 1 WHERE mirrored = 0 AND model = $1 AND valid_from <= $2");
    in_transaction!(database, transaction => {
        for model in &due {
            let query = sqlx::query(AssertSqlSafe(done.clone())).bind(model).bind(now.as_microsecond());
            query.execute(&mut *transaction).await?;
            mirror!(transaction, database, model.as_str(), now);
        }
    });
    Ok(due.len())
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
            let for_tokens = |tokens: i32| {
                let credits = divided_up(micro * i128::from(tokens), i128::from(rate.per) * million);
                Some((i32::try_from(credits).ok()?, tokens))
            };
            [1_000_000, 1000, 1].into_iter().find_map(for_tokens).unwrap_or((i32::MAX, 1))
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
        // More for a million than the original's integers can hold.
        assert_eq!(rate(3_000_000_000_000_001, 1_000_000), (3_000_001, 1000));
    }
}
