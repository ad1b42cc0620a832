//! The names of users who may be deleted: Open WebUI tells nobody when it deletes one.

use accounting::Day;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::database::in_transaction;
use crate::{Database, Error};

/// Keeps the present names of those who used something on a day that is summed.
pub(super) async fn keep(database: &Database, day: Day, now: Timestamp) -> Result<(), Error> {
    if !database.has_table("user").await? {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} AS kept (kind, id, name, kept_at) \
         SELECT 'user', CAST(known.id AS TEXT), CAST(known.name AS TEXT), $2 FROM {} AS known \
         WHERE known.name IS NOT NULL AND known.id IN (SELECT user_id FROM {} WHERE day = $1) \
         ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, kept_at = excluded.kept_at \
         WHERE kept.name <> excluded.name",
        database.table("token_tracking_name"),
        database.table("user"),
        database.table("token_tracking_rollup")
    );
    in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(day.to_string()).bind(now.as_microsecond());
        query.execute(&mut *transaction).await?;
    });
    Ok(())
}
