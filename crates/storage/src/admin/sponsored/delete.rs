//! The end of an allowance. What was charged to it stays, and history goes on naming it.

use accounting::{AccountKey, Clock, SponsoredId};
use sqlx::AssertSqlSafe;

use super::terms::Resolved;
use super::{Which, unlink};
use crate::admin::audit::{Change as Noted, note};
use crate::database::in_transaction;
use crate::names::folded;
use crate::sponsored::rows;
use crate::{Database, Error, Snapshot, SponsoredAllowance};

/// Deletes an allowance; its name is free again. The original's row goes too, unless its usage log, or a request of ours that
/// will be written there, refers to it: then the row stays under another name and pays for nothing.
///
/// # Errors
/// [`Error::NotFound`] if there is none such.
pub async fn delete(database: &Database, which: &Which, clock: &dyn Clock) -> Result<(), Error> {
    let now = clock.now();
    let day = Snapshot::of(database, clock).await?.settings().zone()?.day(now);
    let original = database.table("token_tracking_sponsored_allowance");
    let by_id = format!("id = {}", database.uuid("$1"));
    let used = format!(
        "SELECT (SELECT COUNT(*) FROM {} WHERE sponsored_allowance_id = {}) + \
         (SELECT COUNT(*) FROM {} WHERE key = $2)",
        database.table("token_tracking_usage_log"),
        database.uuid("$1"),
        database.table("token_tracking_account")
    );
    let keep_name = format!(
        "INSERT INTO {} (kind, id, name, kept_at) VALUES ('sponsored_allowance', $1, $2, $3) \
         ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, kept_at = excluded.kept_at",
        database.table("token_tracking_name")
    );
    let retire = format!("UPDATE {original} SET name = $2, total_credit_limit = 0 WHERE {by_id}");
    let mark = format!(
        "INSERT INTO {} (id, deleted_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET deleted_at = excluded.deleted_at",
        database.table("token_tracking_sponsored")
    );
    let remove = [
        format!("DELETE FROM {} WHERE id = $1", database.table("token_tracking_sponsored")),
        format!("DELETE FROM {original} WHERE {by_id}"),
    ];
    let unregister = format!(
        "DELETE FROM {} WHERE sponsored_id = $1",
        database.table("token_tracking_sponsored_workspace_model")
    );
    in_transaction!(database, transaction => {
        let rows = rows!(database, transaction);
        let names: Vec<String> = rows.names().map(|(_, name)| folded(name)).collect();
        let allowance = which.of(rows.allowances().0)?;
        let id = allowance.id.to_string();
        let used: i64 = sqlx::query_scalar(AssertSqlSafe(used))
            .bind(&id)
            .bind(total_of(allowance.id))
            .fetch_one(&mut *transaction)
            .await?;
        let query = sqlx::query(AssertSqlSafe(keep_name)).bind(&id).bind(&allowance.name);
        query.bind(now.as_microsecond()).execute(&mut *transaction).await?;
        for sql in unlink(database).into_iter().chain([unregister]) {
            sqlx::query(AssertSqlSafe(sql)).bind(&id).execute(&mut *transaction).await?;
        }
        if used > 0 {
            let name = retired(&allowance, &day.to_string(), &names);
            sqlx::query(AssertSqlSafe(retire)).bind(&id).bind(name).execute(&mut *transaction).await?;
            let query = sqlx::query(AssertSqlSafe(mark)).bind(&id).bind(now.as_microsecond());
            query.execute(&mut *transaction).await?;
        } else {
            for sql in remove {
                sqlx::query(AssertSqlSafe(sql)).bind(&id).execute(&mut *transaction).await?;
            }
        }
        let before = Some(Resolved::from(&allowance).shown());
        note!(transaction, database, Noted { action: "sponsored delete", subject: &allowance.name, before, after: None });
    });
    Ok(())
}

/// The account that each request of the allowance draws on, from its first hold on.
fn total_of(sponsored: SponsoredId) -> String {
    AccountKey::SponsoredTotal { sponsored }.to_string()
}

/// The name under which the row of a deleted allowance stays: `NAME (deleted 2026-11-24)`.
fn retired(allowance: &SponsoredAllowance, day: &str, taken: &[String]) -> String {
    let plain = format!("{} (deleted {day})", allowance.name);
    let numbered = (2..).map(|number: u64| format!("{} (deleted {day}, {number})", allowance.name));
    let mut candidates = std::iter::once(plain.clone()).chain(numbered);
    candidates.find(|name| !taken.contains(&folded(name))).unwrap_or(plain)
}
