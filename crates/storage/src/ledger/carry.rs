//! What weeks and months owe to their days.
//!
//! A user has an account for the week or the month only while a limit asks for one. Requests that were admitted before, by
//! this process or by one that does not know the limit yet, and rows that the original wrote, have drawn on the day alone.
//! So before something is held on such an account, whatever its days have and it has not is booked on it, as one entry of
//! the kind `carried`.
//!
//! The rule it protects: adjustments aside, a week has spent what its days have spent, and so has a month.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use accounting::{AccountKey, Bid, Credits, Day, Period, UserId};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::EntryKind;
use super::booking::{Booking, accounts, book, lock_account};
use super::turn::Turn;
use crate::{Database, Error, Pool, on_pool};

/// For so long an account is taken to have what its days have.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// So many accounts are remembered before the memory is cleared.
const MOST: usize = 50_000;
/// Looks at different accounts seldom wait for each other.
const LANES: usize = 16;

/// Which accounts a process has looked at.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    looked: RwLock<HashMap<AccountKey, Instant>>,
    lanes: [Mutex<()>; LANES],
}

impl Carrier {
    /// Brings the weeks and months of a bid up to their days, unless that was done just now.
    pub(super) async fn carry(
        &self,
        database: &Database,
        bid: &Bid,
        day: Day,
        at: Timestamp,
    ) -> Result<(), Error> {
        for account in bid.accounts.iter().map(|limit| &limit.account).filter(|key| is_longer(key)) {
            if self.is_fresh(account) {
                continue;
            }
            let lane = BuildHasherDefault::<DefaultHasher>::default().hash_one(account);
            let lane = usize::try_from(lane).unwrap_or_default() % LANES;
            // Of many requests at once one looks, and the others wait for it.
            let _looking = self.lanes[lane].lock().await;
            if self.is_fresh(account) {
                continue;
            }
            let began = Instant::now();
            // Seldom: a request that has none of this should not have room for it.
            Box::pin(carry(database, account, day, at)).await?;
            let mut looked = self.looked.write().unwrap_or_else(PoisonError::into_inner);
            if looked.len() >= MOST {
                looked.clear();
            }
            looked.insert(account.clone(), began);
        }
        Ok(())
    }

    fn is_fresh(&self, account: &AccountKey) -> bool {
        let looked = self.looked.read().unwrap_or_else(PoisonError::into_inner);
        looked.get(account).is_some_and(|at| at.elapsed() < LOOK_AGAIN)
    }
}

const fn is_longer(key: &AccountKey) -> bool {
    matches!(key, AccountKey::UserWeek { .. } | AccountKey::UserMonth { .. })
}

/// Books what the days of a user's week or month have and it has not; `day`: of the entry. Returns the amount, mostly nothing.
///
/// # Errors
/// [`Error::Unavailable`] if the database could not be read or written.
pub(crate) async fn carry(
    database: &Database,
    account: &AccountKey,
    day: Day,
    at: Timestamp,
) -> Result<Credits, Error> {
    let Some(owed) = Owed::of(database, account)? else { return Ok(Credits::ZERO) };
    // Without a lock first: mostly there is nothing to do.
    if on_pool!(database, pool => owed.read(pool).await?) == 0 {
        return Ok(Credits::ZERO);
    }
    let _turn = Turn::take(database).await;
    macro_rules! booked {
        ($transaction:ident) => {{
            let before = lock_account!($transaction, database, account);
            // Whoever books on this account waits for its lock, so this is still so when it is booked.
            let charge = Credits::from_micro(owed.read(&mut *$transaction).await?);
            if charge != Credits::ZERO {
                let booking = Booking { kind: EntryKind::Carried, account, day, charge, reason: None, at };
                book!($transaction, database, before, booking);
            }
            $transaction.commit().await?;
            charge
        }};
    }
    // Not behind the lock of administrative changes, which may take long: requests wait for this.
    Ok(match database.pool() {
        Pool::Sqlite(pool) => {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
            booked!(transaction)
        }
        Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            booked!(transaction)
        }
    })
}

/// The question what an account owes to its days: one statement, so that all is read at one moment.
struct Owed {
    sql: String,
    user: UserId,
    account: String,
    list: String,
    days: Vec<String>,
    first: Day,
    last: Day,
}

impl Owed {
    /// `None` for an account that has no days below it.
    fn of(database: &Database, account: &AccountKey) -> Result<Option<Self>, Error> {
        let (Some((period, first)), Some(user), true) =
            (account.period(), account.user(), is_longer(account))
        else {
            return Ok(None);
        };
        let days = period.days(first)?;
        let last = days.last().copied().unwrap_or(first);
        let (table, ledger) =
            (database.table("token_tracking_account"), database.table("token_tracking_ledger"));
        let places: Vec<String> = (6..6 + days.len()).map(|place| format!("${place}")).collect();
        // That the kind is none of a request's says that the small index serves.
        let sql = format!(
            "SELECT CAST( \
               (SELECT COALESCE(SUM(spent), 0) FROM {table} WHERE key IN ({})) \
               - (SELECT COALESCE(SUM(spent), 0) FROM {table} WHERE key = $1) \
               + (SELECT COALESCE(SUM(CASE WHEN accounts = $2 THEN charge ELSE -charge END), 0) FROM {ledger} \
                  WHERE kind <> 'request' AND kind = 'adjustment' AND user_id = $3 AND day >= $4 AND day <= $5 \
                    AND (accounts = $2 OR accounts LIKE '[\"user-day:%')) \
             AS BIGINT)",
            places.join(", ")
        );
        let key = |day: Day| AccountKey::of_user(Period::Day, day, user.clone()).to_string();
        let days = days.into_iter().map(key).collect();
        let (list, account) = (accounts(account)?, account.to_string());
        Ok(Some(Self { sql, user: user.clone(), account, list, days, first, last }))
    }

    /// In microcredits.
    async fn read<'e, D, E>(&'e self, executor: E) -> Result<i64, Error>
    where
        D: sqlx::Database,
        E: sqlx::Executor<'e, Database = D>,
        D::Arguments: sqlx::IntoArguments<D>,
        String: sqlx::Type<D> + for<'q> sqlx::Encode<'q, D>,
        i64: sqlx::Type<D> + for<'r> sqlx::Decode<'r, D>,
        usize: sqlx::ColumnIndex<D::Row>,
    {
        let mut query = sqlx::query_scalar::<D, i64>(AssertSqlSafe(self.sql.clone()))
            .bind(self.account.clone())
            .bind(self.list.clone())
            .bind(self.user.to_string())
            .bind(self.first.to_string())
            .bind(self.last.to_string());
        for day in &self.days {
            query = query.bind(day.clone());
        }
        Ok(query.fetch_one(executor).await?)
    }
}
