//! Whether the books are right: every account against its ledger rows and its open holds, all read at one moment, also
//! while requests are served.

use std::collections::BTreeMap;

use accounting::Credits;
use sqlx::AssertSqlSafe;

use crate::database::in_snapshot;
use crate::{Database, Error};

/// What was compared, and where it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Accounts compared.
    pub accounts: usize,
    /// Rows of the ledger.
    pub entries: i64,
    /// Open holds.
    pub holds: usize,
    /// Requests that cost more than their strict hold.
    pub over_hold: i64,
    /// Where an account is not the sum of its rows.
    pub differences: Vec<Difference>,
}

/// An account that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The account's key.
    pub account: String,
    /// `spent` or `held`.
    pub what: &'static str,
    /// As the account says.
    pub recorded: Credits,
    /// As its rows add up.
    pub computed: Credits,
}

/// What is compared, as it was at one moment. Amounts in microcredits.
struct Rows {
    accounts: Vec<(String, i64, i64)>,
    spent: Vec<(String, i64)>,
    held: Vec<(String, i64)>,
    counts: (i64, i64),
}

/// Recomputes every account.
///
/// # Errors
/// [`Error::Inconsistency`] if a row can't be read.
pub async fn verify(database: &Database) -> Result<Verification, Error> {
    let accounts = format!("SELECT key, spent, held FROM {}", database.table("token_tracking_account"));
    let ledger = database.table("token_tracking_ledger");
    let spent = format!("SELECT accounts, CAST(SUM(charge) AS BIGINT) FROM {ledger} GROUP BY accounts");
    let held = format!("SELECT accounts, amount FROM {}", database.table("token_tracking_hold"));
    let counts = format!("SELECT COUNT(*), CAST(COALESCE(SUM(over_hold), 0) AS BIGINT) FROM {ledger}");
    let rows: Rows = in_snapshot!(database, transaction => Rows {
        accounts: sqlx::query_as(AssertSqlSafe(accounts)).fetch_all(&mut *transaction).await?,
        spent: sqlx::query_as(AssertSqlSafe(spent)).fetch_all(&mut *transaction).await?,
        held: sqlx::query_as(AssertSqlSafe(held)).fetch_all(&mut *transaction).await?,
        counts: sqlx::query_as(AssertSqlSafe(counts)).fetch_one(&mut *transaction).await?,
    });
    let Rows { accounts, spent, held, counts } = rows;
    let holds = held.len();
    let spent = by_account("token_tracking_ledger", spent)?;
    let held = by_account("token_tracking_hold", held)?;
    let mut recorded: BTreeMap<String, (Credits, Credits)> = BTreeMap::new();
    for (key, spent, held) in accounts {
        recorded.insert(key, (Credits::from_micro(spent), Credits::from_micro(held)));
    }
    for key in spent.keys().chain(held.keys()) {
        recorded.entry(key.clone()).or_default();
    }
    let mut differences = Vec::new();
    for (key, (was_spent, was_held)) in &recorded {
        for (what, recorded, sums) in [("spent", *was_spent, &spent), ("held", *was_held, &held)] {
            let computed = sums.get(key).copied().unwrap_or_default();
            if recorded != computed {
                differences.push(Difference { account: key.clone(), what, recorded, computed });
            }
        }
    }
    let (entries, over_hold) = counts;
    Ok(Verification { accounts: recorded.len(), entries, holds, over_hold, differences })
}

/// Sums for each account, from rows that name several.
fn by_account(table: &str, rows: Vec<(String, i64)>) -> Result<BTreeMap<String, Credits>, Error> {
    let mut sums: BTreeMap<String, Credits> = BTreeMap::new();
    for (accounts, amount) in rows {
        let keys: Vec<String> = serde_json::from_str(&accounts).map_err(|_| Error::Inconsistency {
            table: table.into(),
            column: "accounts".into(),
            row: accounts.clone(),
        })?;
        for key in keys {
            let sum = sums.entry(key).or_default();
            *sum = sum.plus(Credits::from_micro(amount))?;
        }
    }
    Ok(sums)
}
