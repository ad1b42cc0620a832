//! Numbers in the usage of providers that this program does not know, for `doctor`: they may stand for something that is charged.
//!
//! The rule it protects: what servers make up takes a bounded number of rows. Written off the way of requests; only a later
//! schema has the table: on an earlier one nothing is kept.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::ledger::Turn;
use crate::{Database, Error, on_pool};

/// The table.
const TABLE: &str = "token_tracking_unknown_usage";
/// So many rows are kept in all.
const MOST: i64 = 512;

/// Adds those that are not there yet, each as a provider and a field.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy.
pub async fn add(database: &Database, numbers: &[(String, String)], now: Timestamp) -> Result<(), Error> {
    if numbers.is_empty() || !database.has_table(TABLE).await? {
        return Ok(());
    }
    let table = database.table(TABLE);
    let sql = format!(
        "INSERT INTO {table} (provider, field, first_at) \
         SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT) WHERE (SELECT COUNT(*) FROM {table}) < {MOST} ON CONFLICT DO NOTHING"
    );
    let _turn = Turn::take(database).await;
    on_pool!(database, pool => {
        for (provider, field) in numbers {
            let insert = sqlx::query(AssertSqlSafe(sql.clone())).bind(provider).bind(field);
            insert.bind(now.as_microsecond()).execute(pool).await?;
        }
    });
    Ok(())
}

/// All of them, as provider and field.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn all(database: &Database) -> Result<Vec<(String, String)>, Error> {
    if !database.has_table(TABLE).await? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT provider, field FROM {} ORDER BY provider, field", database.table(TABLE));
    on_pool!(database, pool => Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?))
}
