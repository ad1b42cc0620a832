//! Putting right what `verify` found: accounts become the sums of their rows, wrong days leave the roll-up and are summed anew.

use accounting::{AccountKey, Credits, UserId};
use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;

use crate::admin::audit::{Change, note};
use crate::database::in_transaction;
use crate::reports::verify::{Difference, Verification, by_account, compare};
use crate::rollup::reopen;
use crate::{Database, Error, Kind};

/// Repairs, and says which accounts were changed. Nobody can hold or settle meanwhile; everything is computed again first,
/// because what was found may have changed.
///
/// # Errors
/// [`Error::Inconsistency`] for an account that is no account, [`Error::Unavailable`] if the database is away or busy.
pub async fn repair(database: &Database, found: &Verification) -> Result<Vec<Difference>, Error> {
    let table = |name: &str| database.table(&format!("token_tracking_{name}"));
    let account = table("account");
    let lock = match database.kind() {
        Kind::Sqlite => None,
        Kind::Postgres => Some(format!("LOCK TABLE {account} IN EXCLUSIVE MODE")),
    };
    let recorded = format!("SELECT key, spent, held FROM {account}");
    let spent =
        format!("SELECT accounts, CAST(SUM(charge) AS BIGINT) FROM {} GROUP BY accounts", table("ledger"));
    let held = format!("SELECT accounts, amount FROM {}", table("hold"));
    let make = format!(
        "INSERT INTO {account} (key, kind, user_id, sponsored_id, day) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (key) DO NOTHING"
    );
    let reopen = reopen(&table("rollup_day"));
    Ok(in_transaction!(database, transaction => {
        if let Some(lock) = lock {
            sqlx::query(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
        }
        let recorded: Vec<(String, i64, i64)> =
            sqlx::query_as(AssertSqlSafe(recorded)).fetch_all(&mut *transaction).await?;
        let spent: Vec<(String, i64)> =
            sqlx::query_as(AssertSqlSafe(spent)).fetch_all(&mut *transaction).await?;
        let held: Vec<(String, i64)> =
            sqlx::query_as(AssertSqlSafe(held)).fetch_all(&mut *transaction).await?;
        let differences = differences(recorded, &spent, &held)?;
        for Difference { account: key, what, computed, .. } in &differences {
            let parsed: AccountKey = key.parse()?;
            sqlx::query(AssertSqlSafe(make.clone()))
                .bind(key)
                .bind(parsed.kind())
                .bind(parsed.user().map(UserId::as_str))
                .bind(parsed.sponsored().map(|id| id.to_string()))
                .bind(parsed.day().map(|day| day.to_string()))
                .execute(&mut *transaction)
                .await?;
            let set = format!("UPDATE {account} SET {what} = $1 WHERE key = $2");
            let query = sqlx::query(AssertSqlSafe(set)).bind(computed.micro()).bind(key);
            query.execute(&mut *transaction).await?;
        }
        for wrong in &found.wrong_days {
            let query = sqlx::query(AssertSqlSafe(reopen.clone())).bind(wrong.day.to_string());
            query.execute(&mut *transaction).await?;
        }
        if !(differences.is_empty() && found.wrong_days.is_empty()) {
            let days: Vec<String> = found.wrong_days.iter().map(|wrong| wrong.day.to_string()).collect();
            let before = Some(noted(&differences, |difference| difference.recorded));
            let after = Some(json!({
                "accounts": noted(&differences, |difference| difference.computed), "days summed anew": days,
            }));
            note!(transaction, database, Change { action: "verify --repair", subject: "books", before, after });
        }
        differences
    }))
}

fn differences(
    recorded: Vec<(String, i64, i64)>,
    spent: &[(String, i64)],
    held: &[(String, i64)],
) -> Result<Vec<Difference>, Error> {
    let rows = |rows: &[(String, i64)], table| {
        let amounts = rows.iter().map(|(accounts, amount)| (accounts.as_str(), Credits::from_micro(*amount)));
        by_account(table, amounts)
    };
    let (spent, held) = (rows(spent, "token_tracking_ledger")?, rows(held, "token_tracking_hold")?);
    let recorded = recorded
        .into_iter()
        .map(|(key, spent, held)| (key, (Credits::from_micro(spent), Credits::from_micro(held))));
    Ok(compare(recorded.collect(), &spent, &held).1)
}

/// Each account's amount, for the audit.
fn noted(differences: &[Difference], amount: impl Fn(&Difference) -> Credits) -> Value {
    let one = |difference: &Difference| {
        (format!("{} {}", difference.account, difference.what), amount(difference).to_string().into())
    };
    Value::Object(differences.iter().map(one).collect::<Map<String, Value>>())
}
