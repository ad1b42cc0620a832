//! How a database stands: our schema, the original's, what is in which table.

use sqlx::AssertSqlSafe;

use super::schema::{self, Revision, TABLES, USAGE_LOG};
use crate::migrate::{self, SchemaStatus};
use crate::{Database, Error, on_pool};

/// The state of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Our schema.
    pub schema: SchemaStatus,
    /// The original's.
    pub original: Revision,
    /// Whether Open WebUI's `user` table is there.
    pub user_table: bool,
    /// Rows of the original's usage log that are not in the ledger yet.
    pub not_imported: i64,
    /// Rows there that can't become entries.
    pub unusable: i64,
    /// The tables that are there, ours and the original's, with how many rows they have.
    pub tables: Vec<(String, i64)>,
    /// Tables, and columns as `table.column`, that a migration would add.
    pub missing: Vec<String>,
}

/// How the database stands.
///
/// # Errors
/// [`Error::Unavailable`] if it is away.
pub async fn status(database: &Database) -> Result<Status, Error> {
    let schema = migrate::status(database).await?;
    let original = schema::revision(database).await?;
    let mut tables = Vec::new();
    let mut missing = schema::missing(database).await?;
    for table in TABLES.into_iter().chain(migrate::tables()) {
        if database.has_table(table).await? {
            let sql = format!("SELECT COUNT(*) FROM {}", database.table(table));
            tables.push((table.to_owned(), count(database, sql).await?));
        } else if !TABLES.contains(&table) {
            missing.push(table.to_owned());
        }
    }
    let marked = original != Revision::None && database.has_column(USAGE_LOG, "tracking_id").await?;
    if !marked {
        missing.push(format!("{USAGE_LOG}.tracking_id"));
    }
    let unusable = if marked {
        let (log, mark) = (database.table(USAGE_LOG), crate::ledger::UNUSABLE);
        count(database, format!("SELECT COUNT(*) FROM {log} WHERE tracking_id = '{mark}'")).await?
    } else {
        0
    };
    let not_imported = not_imported(database).await?;
    let user_table = database.has_table("user").await?;
    Ok(Status { schema, original, user_table, not_imported, unusable, tables, missing })
}

/// Rows of the original's usage log that are not in the ledger yet.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn not_imported(database: &Database) -> Result<i64, Error> {
    if !database.has_table(USAGE_LOG).await? {
        return Ok(0);
    }
    let marked = database.has_column(USAGE_LOG, "tracking_id").await?;
    let which = if marked { "WHERE tracking_id IS NULL" } else { "" };
    count(database, format!("SELECT COUNT(*) FROM {} {which}", database.table(USAGE_LOG))).await
}

async fn count(database: &Database, sql: String) -> Result<i64, Error> {
    Ok(on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?))
}
