//! Entries that no request makes: an administrator's adjustments, and what is carried over from other accounts.
//!
//! They are booked in a transaction of their own, on one account: locked first, so that requests wait for them and they for
//! requests, and changed together with its entry.

use accounting::{AccountKey, Credits, Day};
use jiff::Timestamp;

use super::EntryKind;
use crate::{Database, Error};

/// An entry on one account.
#[derive(Debug, Clone)]
pub(crate) struct Booking<'a> {
    pub kind: EntryKind,
    pub account: &'a AccountKey,
    /// The local day of the entry.
    pub day: Day,
    /// What is added to the account's spending; less than nothing for a grant.
    pub charge: Credits,
    pub reason: Option<&'a str>,
    pub at: Timestamp,
}

/// Locks an account until the end of the transaction, and makes it if it is not there. Evaluates to its state.
macro_rules! lock_account {
    ($transaction:expr, $database:expr, $key:expr) => {{
        let key: &accounting::AccountKey = $key;
        let [make, lock, _] = $crate::ledger::booking::account_statements($database);
        sqlx::query(sqlx::AssertSqlSafe(make))
            .bind(key.to_string())
            .bind(key.kind())
            .bind(key.user().map(accounting::UserId::as_str))
            .bind(key.sponsored().map(|id| id.to_string()))
            .bind(key.day().map(|day| day.to_string()))
            .execute(&mut *$transaction)
            .await?;
        let (spent, held): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(lock))
            .bind(key.to_string())
            .fetch_one(&mut *$transaction)
            .await?;
        let (spent, held) = (accounting::Credits::from_micro(spent), accounting::Credits::from_micro(held));
        accounting::Account { spent, held }
    }};
}
pub(crate) use lock_account;

/// Writes an entry and changes its locked account. Evaluates to the account's new state.
macro_rules! book {
    ($transaction:expr, $database:expr, $before:expr, $booking:expr) => {{
        let booking: $crate::ledger::booking::Booking<'_> = $booking;
        let before: accounting::Account = $before;
        let after = accounting::Account { spent: before.spent.plus(booking.charge)?, ..before };
        let [_, _, spend] = $crate::ledger::booking::account_statements($database);
        sqlx::query(sqlx::AssertSqlSafe(spend))
            .bind(booking.account.to_string())
            .bind(after.spent.micro())
            .execute(&mut *$transaction)
            .await?;
        sqlx::query(sqlx::AssertSqlSafe($crate::ledger::booking::entry_statement($database)))
            .bind($crate::new_id().simple().to_string())
            .bind(booking.kind.as_str())
            .bind(booking.account.user().map_or("", accounting::UserId::as_str))
            .bind(booking.account.sponsored().map(|id| id.to_string()))
            .bind($crate::ledger::booking::accounts(booking.account)?)
            .bind(booking.day.to_string())
            .bind(booking.charge.micro())
            .bind(booking.at.as_microsecond())
            .bind(booking.reason)
            .execute(&mut *$transaction)
            .await?;
        after
    }};
}
pub(crate) use book;

/// Makes an account; locks it and reads it; sets what is spent on it.
pub(crate) fn account_statements(database: &Database) -> [String; 3] {
    let account = database.table("token_tracking_account");
    [
        format!(
            "INSERT INTO {account} (key, kind, user_id, sponsored_id, day) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (key) DO NOTHING"
        ),
        // A write that changes nothing locks the row on both databases.
        format!("UPDATE {account} SET held = held WHERE key = $1 RETURNING spent, held"),
        format!("UPDATE {account} SET spent = $2 WHERE key = $1"),
    ]
}

/// An entry without a request: no model, no tokens; '' stands for none.
pub(crate) fn entry_statement(database: &Database) -> String {
    format!(
        "INSERT INTO {} (id, kind, user_id, sponsored_id, accounts, day, charge, started_at, ended_at, reason, provider, \
           model, outcome, policy, way_in, over_hold, input_tokens, cached_input_tokens, cache_write_tokens, \
           cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, images, calls) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, '', '', '', '', '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
        database.table("token_tracking_ledger")
    )
}

/// The one account of an entry as the ledger keeps it.
pub(crate) fn accounts(account: &AccountKey) -> Result<String, Error> {
    super::entry::account_list([account])
}
