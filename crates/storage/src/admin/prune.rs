//! Pruning: rows of the ledger that are old enough go, in portions that keep nobody waiting. Sums stay: the roll-up of their
//! days, so that reports go on, and for each account that still counts one `carried` row, so that the books stay right.
//!
//! An account whose time is over counts no more and goes with its rows. After each portion the books are right.

use std::collections::BTreeSet;

use accounting::{AccountKey, Clock, Credits, Day, Period, UserId};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use crate::admin::audit::{Change, note};
use crate::database::in_transaction;
use crate::ledger::Turn;
use crate::reports::verify::by_account;
use crate::rollup::sums::{FIRST_ID, Grain, KEYS, SURER, corrections, ids, key_of_entry, previous};
use crate::{Database, Error, Kind, on_pool, refusals, rollup};

/// So many rows go at once.
const PORTION: i64 = 5000;
/// Of so many rows of the original's usage log, ours go at once.
const LOGGED: i64 = 20_000;
/// And so many accounts.
const ACCOUNTS: i64 = 1000;

/// Which rows are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prunable {
    /// Those of days before this one.
    pub before: Day,
    /// How many they are.
    pub entries: i64,
    /// How many rows of refusals there are before that day.
    pub refusals: i64,
}

/// A portion's row: id, day, accounts, charge.
type Row = (String, String, String, i64);

/// What there is to prune before a day.
///
/// # Errors
/// [`Error::Invalid`] for a day that is not at least two days ago.
pub async fn find(database: &Database, clock: &dyn Clock, before: Day) -> Result<Prunable, Error> {
    let open = rollup::first_open_day(clock.now());
    if previous(open).is_none_or(|latest| before > latest) {
        return Err(Error::Invalid {
            what: format!(
                "{before} is too late: only days that were over two days ago can be pruned; name an earlier day"
            ),
        });
    }
    let (_, end) = ids(None, previous(before));
    let table = database.table("token_tracking_ledger");
    let sql = format!(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM {table} \
         WHERE ((corrects IS NULL AND id > $1 AND id < $2) OR (corrects > $1 AND corrects < $2)) AND day < $3 \
           AND (kind <> 'adjustment' OR day < $4)"
    );
    let entries = on_pool!(database, pool => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(FIRST_ID).bind(&end).bind(before.to_string());
        query.bind(settled(before).to_string()).fetch_one(pool).await?
    });
    let refusals = match refused(database).await? {
        Some(table) => {
            let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table} WHERE day < $1");
            on_pool!(database, pool => {
                sqlx::query_scalar(AssertSqlSafe(sql)).bind(before.to_string()).fetch_one(pool).await?
            })
        }
        None => 0,
    };
    Ok(Prunable { before, entries, refusals })
}

/// Removes them; `each` is told how many are gone. Returns how many went.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy: what is gone stays gone, and the books are right; go on later.
pub async fn prune(
    database: &Database,
    clock: &dyn Clock,
    what: Prunable,
    mut each: impl FnMut(i64),
) -> Result<i64, Error> {
    let before = what.before.to_string();
    let begun = Some(json!({"before": before, "ledger rows": what.entries, "refusals": what.refusals}));
    in_transaction!(database, transaction => {
        let change = Change { action: "usage prune", subject: &before, before: None, after: begun };
        note!(transaction, database, change);
    });
    if let Some(table) = refused(database).await? {
        let delete = format!("DELETE FROM {table} WHERE day < $1");
        let _turn = Turn::take(database).await;
        on_pool!(database, pool => sqlx::query(AssertSqlSafe(delete)).bind(&before).execute(pool).await.map(|_| ())?);
    }
    unlog(database, what.before).await?;
    let mut gone = 0;
    loop {
        // Reports go on with the sums of these days.
        rollup::roll_up(database, clock, None, |_, _| {}).await?;
        match portion(database, what.before).await? {
            Portion::Empty => break,
            Portion::Removed(rows) => gone += rows,
            // A day was opened meanwhile; it is summed first.
            Portion::Open => {}
        }
        each(gone);
    }
    drop_accounts(database, what.before).await?;
    Ok(gone)
}

/// The table of refusals, which only a later schema has.
async fn refused(database: &Database) -> Result<Option<String>, Error> {
    Ok(database.has_table(refusals::TABLE).await?.then(|| database.table(refusals::TABLE)))
}

/// Takes our rows out of the original's usage log, before the ledger forgets which they are. Those that the original wrote stay.
async fn unlog(database: &Database, before: Day) -> Result<(), Error> {
    let (log, ledger) = (database.table("token_tracking_usage_log"), database.table("token_tracking_ledger"));
    let ours = format!(
        "EXISTS (SELECT 1 FROM {ledger} AS entry WHERE entry.id = log.tracking_id AND entry.kind <> 'import' \
           AND entry.day < $1)"
    );
    // It has no key. PostgreSQL makes nobody wait; on SQLite it goes in portions.
    let (last, delete) = match database.kind() {
        Kind::Postgres => (
            "SELECT CAST(0 AS BIGINT)".to_owned(),
            format!("DELETE FROM {log} AS log WHERE $2 = $3 AND {ours}"),
        ),
        Kind::Sqlite => (
            format!("SELECT COALESCE(MAX(rowid), 0) FROM {log}"),
            format!("DELETE FROM {log} AS log WHERE rowid > $2 AND rowid <= $3 AND {ours}"),
        ),
    };
    let last: i64 =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(last)).fetch_one(pool).await?);
    let step = if database.kind() == Kind::Postgres { 0 } else { LOGGED };
    let mut from = 0;
    loop {
        let to = from + step;
        let _turn = Turn::take(database).await;
        in_transaction!(database, transaction => {
            let query = sqlx::query(AssertSqlSafe(delete.clone())).bind(before.to_string()).bind(from);
            query.bind(to).execute(&mut *transaction).await?;
        });
        if to >= last {
            return Ok(());
        }
        from = to;
    }
}

/// A correction's keys, and what it changes of how sure their sums are.
type Surer = (String, String, String, String, String, String, i64, i64);

enum Portion {
    Empty,
    Removed(i64),
    Open,
}

async fn portion(database: &Database, before: Day) -> Result<Portion, Error> {
    let table = |name: &str| database.table(&format!("token_tracking_{name}"));
    let (ledger, account, days) = (table("ledger"), table("account"), table("rollup_day"));
    let (_, end) = ids(None, previous(before));
    let columns = "SELECT id, day, accounts, charge";
    // Corrections first: they are found by what they correct. Adjustments stay until weeks and months need them no more.
    let plain = format!(
        "{columns} FROM {ledger} WHERE corrects IS NULL AND id > $1 AND id < $2 AND day < $3 \
           AND (kind <> 'adjustment' OR day < $4) ORDER BY id LIMIT {PORTION}"
    );
    let corrected = format!(
        "{columns} FROM {ledger} WHERE corrects > $1 AND corrects < $2 AND day < $3 ORDER BY corrects, id LIMIT {PORTION}"
    );
    let listed = match database.kind() {
        Kind::Sqlite => "SELECT value FROM json_each($1)",
        Kind::Postgres => "SELECT json_array_elements_text(CAST($1 AS json))",
    };
    let delete = format!("DELETE FROM {ledger} WHERE id IN ({listed})");
    let mark = format!("UPDATE {days} SET pruned = 1 WHERE rolled_at IS NOT NULL AND day IN ({listed})");
    let surer = {
        let keys: Vec<String> = KEYS.iter().map(|key| key_of_entry(key)).collect();
        let [requests, charge] = SURER;
        let corrections = corrections(database);
        let keys = keys.join(", ");
        format!("SELECT {keys}, {requests}, {charge} FROM {corrections} AND entry.id IN ({listed})")
    };
    let conditions: Vec<String> =
        KEYS.iter().enumerate().map(|(index, key)| format!("{key} = ${}", index + 3)).collect();
    let resum = format!(
        "UPDATE {} SET estimated_requests = estimated_requests + $1, estimated_charge = estimated_charge + $2 WHERE {}",
        table("rollup"),
        conditions.join(" AND ")
    );
    let spend = format!("UPDATE {account} SET spent = spent - $1 WHERE key = $2");
    let carry = format!(
        "INSERT INTO {ledger} AS kept (id, kind, user_id, sponsored_id, accounts, day, provider, model, input_tokens, \
           cached_input_tokens, cache_write_tokens, cache_write_long_tokens, input_audio_tokens, output_tokens, \
           reasoning_tokens, output_audio_tokens, images, calls, charge, outcome, policy, over_hold, way_in, started_at, \
           ended_at) \
         VALUES ($1, 'carried', $2, $3, $4, $5, '', '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, $6, 'complete', 'one_credit', 0, \
           'gateway', $7, $7) \
         ON CONFLICT (id) DO UPDATE SET charge = kept.charge + excluded.charge, day = excluded.day, ended_at = excluded.ended_at"
    );
    let now = crate::SystemClock.now().as_microsecond();
    let _turn = Turn::take(database).await;
    let bound = before.to_string();
    Ok(in_transaction!(database, transaction => {
        let query = sqlx::query_as(AssertSqlSafe(corrected)).bind(FIRST_ID).bind(&end).bind(&bound);
        let mut rows: Vec<Row> = query.fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            let query = sqlx::query_as(AssertSqlSafe(plain)).bind(FIRST_ID).bind(&end).bind(&bound);
            rows = query.bind(settled(before).to_string()).fetch_all(&mut *transaction).await?;
        }
        if rows.is_empty() {
            return Ok(Portion::Empty);
        }
        let their_days: BTreeSet<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        let list = json!(their_days).to_string();
        let marked = sqlx::query(AssertSqlSafe(mark)).bind(list).execute(&mut *transaction).await?;
        if marked.rows_affected() != u64::try_from(their_days.len()).unwrap_or(u64::MAX) {
            return Ok(Portion::Open);
        }
        let charges = rows.iter().map(|row| (row.2.as_str(), Credits::from_micro(row.3)));
        for (key, sum) in by_account("token_tracking_ledger", charges)? {
            let parsed: AccountKey = key.parse()?;
            if is_over(&parsed, before)? {
                let query = sqlx::query(AssertSqlSafe(spend.clone())).bind(sum.micro()).bind(&key);
                query.execute(&mut *transaction).await?;
            } else if sum != Credits::ZERO {
                sqlx::query(AssertSqlSafe(carry.clone()))
                    .bind(carried_id(&key))
                    .bind(parsed.user().map_or("", UserId::as_str))
                    .bind(parsed.sponsored().map(|id| id.to_string()))
                    .bind(json!([key]).to_string())
                    .bind(rows.iter().map(|row| row.1.as_str()).max().unwrap_or_default())
                    .bind(sum.micro())
                    .bind(now)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        let all: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let all = json!(all).to_string();
        // From now on nobody can tell which guesses they have corrected.
        let surer: Vec<Surer> =
            sqlx::query_as(AssertSqlSafe(surer)).bind(&all).fetch_all(&mut *transaction).await?;
        for (day, user, provider, model, sponsored, task, requests, charge) in surer {
            let cell = [day, user, provider, model, sponsored, task];
            for grain in Grain::EACH {
                let sql = format!("{resum} AND grain = {}", grain.number());
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(requests).bind(charge);
                for (key, value) in KEYS.iter().zip(&cell) {
                    query = query.bind(if grain.has(key) { value.as_str() } else { "" });
                }
                query.execute(&mut *transaction).await?;
            }
        }
        sqlx::query(AssertSqlSafe(delete)).bind(all).execute(&mut *transaction).await?;
        Portion::Removed(i64::try_from(rows.len()).unwrap_or(i64::MAX))
    }))
}

/// Before this day, weeks and months are over too: they are what their days are, and are compared with them until then.
fn settled(before: Day) -> Day {
    Period::Week.first(before).min(Period::Month.first(before))
}

/// Whether an account counts no more: its time, and that of the week and month around it, ended before that day.
fn is_over(key: &AccountKey, before: Day) -> Result<bool, Error> {
    Ok(match (key, key.period()) {
        (AccountKey::User { day, .. }, _) => *day < settled(before),
        (_, Some((period, first))) => period.next(first)? <= before,
        (_, None) => false,
    })
}

/// The id of the row that carries an account's sum: before all requests, and always the same.
fn carried_id(key: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let digits: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("00000000{digits}")
}

/// Accounts that are over, with the rows that carried their sums as long as they counted.
async fn drop_accounts(database: &Database, before: Day) -> Result<(), Error> {
    let table = |name: &str| database.table(&format!("token_tracking_{name}"));
    let account = table("account");
    let over = format!(
        "SELECT key FROM {account} WHERE key > $1 AND day < $2 AND held = 0 ORDER BY key LIMIT {ACCOUNTS}"
    );
    let carried = format!("DELETE FROM {} WHERE id = $1 RETURNING charge", table("ledger"));
    let spend = format!("UPDATE {account} SET spent = spent - $1 WHERE key = $2");
    let drop = format!("DELETE FROM {account} WHERE key = $1 AND spent = 0 AND held = 0");
    let mut last = String::new();
    loop {
        let _turn = Turn::take(database).await;
        let keys = in_transaction!(database, transaction => {
            let query = sqlx::query_scalar(AssertSqlSafe(over.clone())).bind(&last).bind(before.to_string());
            let keys: Vec<String> = query.fetch_all(&mut *transaction).await?;
            for key in &keys {
                if !is_over(&key.parse()?, before)? {
                    continue;
                }
                let query = sqlx::query_scalar(AssertSqlSafe(carried.clone())).bind(carried_id(key));
                let charge: Option<i64> = query.fetch_optional(&mut *transaction).await?;
                if let Some(charge) = charge {
                    let query = sqlx::query(AssertSqlSafe(spend.clone())).bind(charge).bind(key);
                    query.execute(&mut *transaction).await?;
                }
                sqlx::query(AssertSqlSafe(drop.clone())).bind(key).execute(&mut *transaction).await?;
            }
            keys
        });
        match keys.into_iter().next_back() {
            Some(key) => last = key,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carried_rows_stand_before_all_requests() {
        let id = carried_id("sponsored-total:x");
        assert_eq!(id.len(), 32);
        assert!(id.as_str() < FIRST_ID);
        assert_eq!(id, carried_id("sponsored-total:x"));
    }
}
