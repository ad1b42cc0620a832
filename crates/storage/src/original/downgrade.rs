//! The way back: our tables are written out, then everything of ours goes and the original's rows stay as they are.

use std::io::Write;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, raw_sql};

use super::schema::USAGE_LOG;
use crate::database::in_transaction;
use crate::ledger::{LiveOwner, live_owners};
use crate::settings::KNOWN;
use crate::{Database, Error, Kind, migrate, on_pool};

/// The one setting that the original knows too.
const SHARED_SETTING: &str = "base_credit_allowance";
const SETTINGS: &str = "token_tracking_base_settings";

/// What a downgrade removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Tables, with how many rows were written out of each.
    pub tables: Vec<(String, u64)>,
    /// Settings that only we know.
    pub settings: Vec<String>,
}

/// Writes all of ours to `out` as JSON Lines (`{"table": …, "row": {…}}`) and removes it, in one transaction: our tables, our
/// column of the original's usage log, our settings. `done` is called before the commit: what is written must be safe by then.
///
/// # Errors
/// [`Error::Conflict`] while processes of ours run, or holds are left that nobody has settled; [`Error::Invalid`] if it can't be
/// written out.
pub async fn downgrade(
    database: &Database,
    out: &mut (dyn Write + Send),
    done: impl FnOnce() -> std::io::Result<()>,
) -> Result<Removed, Error> {
    migrate::require_current(database).await?;
    let ours = migrate::tables();
    let settings: Vec<&str> =
        KNOWN.iter().map(|known| known.key).filter(|key| *key != SHARED_SETTING).collect();
    let list: Vec<String> = settings.iter().map(|key| format!("'{key}'")).collect();
    let list = format!("WHERE setting_key IN ({})", list.join(", "));
    let mut selects = Vec::new();
    for table in &ours {
        selects.push(((*table).to_owned(), rows_as_json(database, table, "").await?));
    }
    selects.push((
        USAGE_LOG.to_owned(),
        rows_as_json(database, USAGE_LOG, "WHERE tracking_id IS NOT NULL").await?,
    ));
    selects.push((SETTINGS.to_owned(), rows_as_json(database, SETTINGS, &list).await?));
    let set = format!("SELECT setting_key FROM {} {list} ORDER BY 1", database.table(SETTINGS));
    let remove = removal(database, &ours, &list);
    // No process may begin while we look whether one runs. SQLite has one writer anyway.
    let owner = database.table("token_tracking_owner");
    let lock =
        (database.kind() == Kind::Postgres).then(|| format!("LOCK TABLE {owner} IN ACCESS EXCLUSIVE MODE"));
    let holds = format!("SELECT COUNT(*) FROM {}", database.table("token_tracking_hold"));
    in_transaction!(database, transaction => {
        if let Some(lock) = &lock {
            raw_sql(AssertSqlSafe(lock.clone())).execute(&mut *transaction).await?;
        }
        let live = live_owners!(transaction, database, None);
        if !live.is_empty() {
            return Err(busy(&live));
        }
        let open: i64 = sqlx::query_scalar(AssertSqlSafe(holds)).fetch_one(&mut *transaction).await?;
        if open > 0 {
            return Err(unsettled(open));
        }
        let mut tables = Vec::new();
        for (table, select) in selects {
            let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(select)).fetch(&mut *transaction);
            let mut count = 0;
            while let Some(row) = rows.try_next().await? {
                writeln!(out, "{{\"table\":\"{table}\",\"row\":{row}}}").map_err(unwritten)?;
                count += 1;
            }
            tables.push((table, count));
        }
        tables.retain(|(table, _)| ours.contains(&table.as_str()));
        let settings: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(set)).fetch_all(&mut *transaction).await?;
        out.flush().and_then(|()| done()).map_err(unwritten)?;
        raw_sql(AssertSqlSafe(remove)).execute(&mut *transaction).await?;
        Ok(Removed { tables, settings })
    })
}

/// The rows of a table, each as one JSON object.
async fn rows_as_json(database: &Database, table: &str, which: &str) -> Result<String, Error> {
    let name = database.table(table);
    if database.kind() == Kind::Postgres {
        return Ok(format!("SELECT CAST(row_to_json(kept) AS TEXT) FROM {name} AS kept {which}"));
    }
    let columns: Vec<String> = on_pool!(database, pool => {
        let sql = "SELECT name FROM pragma_table_info($1) ORDER BY cid";
        sqlx::query_scalar(sql).bind(table).fetch_all(pool).await?
    });
    let pairs: Vec<String> = columns.iter().map(|column| format!("'{column}', \"{column}\"")).collect();
    Ok(format!("SELECT json_object({}) FROM {name} {which}", pairs.join(", ")))
}

fn removal(database: &Database, ours: &[&str], settings: &str) -> String {
    let log = database.table(USAGE_LOG);
    let mut sql = format!(
        "DROP INDEX {}; ALTER TABLE {log} DROP COLUMN tracking_id; DELETE FROM {} {settings};",
        database.table("token_tracking_usage_log_new"),
        database.table(SETTINGS)
    );
    for table in ours {
        sql.push_str(&format!(" DROP TABLE {};", database.table(table)));
    }
    sql
}

fn busy(live: &[LiveOwner]) -> Error {
    let live: Vec<String> = live.iter().map(ToString::to_string).collect();
    let what = format!(
        "processes of owui-token-tracking are running on this database ({}): stop Open WebUI and every gateway first",
        live.join(", ")
    );
    Error::Conflict { what }
}

fn unsettled(open: i64) -> Error {
    let what = format!(
        "{open} requests of processes that are gone are not settled yet: start `owui-token-tracking serve` once, and stop it again"
    );
    Error::Conflict { what }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::Invalid { what: format!("nothing was removed, because the export could not be written: {error}") }
}
