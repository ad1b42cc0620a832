//! Who used what.

use accounting::{Credits, Day};
use sqlx::{AssertSqlSafe, Row};

use crate::{Database, Error, on_pool};

/// How usage is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// For each user.
    User,
    /// For each model.
    Model,
    /// For each local day.
    Day,
}

/// A sum of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The user, model or day.
    pub key: String,
    /// Requests.
    pub requests: i64,
    /// Input tokens, all classes.
    pub input: i64,
    /// Of which read from a cache.
    pub cached_input: i64,
    /// Of which written to a cache.
    pub cache_write: i64,
    /// Output tokens, all classes.
    pub output: i64,
    /// Of which reasoning.
    pub reasoning: i64,
    /// What was charged.
    pub credits: Credits,
    /// Requests whose charge is estimated.
    pub estimated: i64,
}

/// Sums of the ledger between two days (included), largest charge first; days in their order.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn usage(
    database: &Database,
    by: By,
    from: Option<Day>,
    to: Option<Day>,
) -> Result<Vec<UsageRow>, Error> {
    let (column, order) = match by {
        By::User => ("user_id", "SUM(charge) DESC, 1"),
        By::Model => ("model", "SUM(charge) DESC, 1"),
        By::Day => ("day", "1"),
    };
    let sum = |column: &str| format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)");
    let sql = format!(
        "SELECT {column}, {}, {}, {}, {}, {}, {}, {}, {} FROM {} \
         WHERE ($1 IS NULL OR day >= $1) AND ($2 IS NULL OR day <= $2) GROUP BY {column} ORDER BY {order}",
        sum("CASE WHEN kind = 'request' THEN 1 ELSE 0 END"),
        sum("input_tokens"),
        sum("cached_input_tokens"),
        sum("cache_write_tokens + cache_write_long_tokens"),
        sum("output_tokens"),
        sum("reasoning_tokens"),
        sum("charge"),
        sum("CASE WHEN kind = 'request' AND estimated IS NOT NULL THEN 1 ELSE 0 END"),
        database.table("token_tracking_ledger")
    );
    let text = |day: Option<Day>| day.map(|day| day.to_string());
    on_pool!(database, pool => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(text(from)).bind(text(to));
        let rows = query.fetch_all(pool).await?;
        rows.iter()
            .map(|row| {
                Ok(UsageRow {
                    key: row.try_get(0)?,
                    requests: row.try_get(1)?,
                    input: row.try_get(2)?,
                    cached_input: row.try_get(3)?,
                    cache_write: row.try_get(4)?,
                    output: row.try_get(5)?,
                    reasoning: row.try_get(6)?,
                    credits: Credits::from_micro(row.try_get(7)?),
                    estimated: row.try_get(8)?,
                })
            })
            .collect()
    })
}
