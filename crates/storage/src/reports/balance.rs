//! What users have left today.

use std::collections::BTreeMap;

use accounting::{Account, AccountKey, Clock, Credits, UserId};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::admin::users;
use crate::{Database, Error, Snapshot, SponsoredAllowance, on_pool};

/// A user's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The user.
    pub user: UserId,
    /// The name, if known.
    pub name: String,
    /// The limit of the day.
    pub limit: Credits,
    /// What is spent of it.
    pub spent: Credits,
    /// What is held for running requests.
    pub held: Credits,
    /// limit − spent − held.
    pub free: Credits,
    /// When the next day begins.
    pub resets_at: Timestamp,
}

/// The balance of one user, or of all that are known or have used something today.
///
/// # Errors
/// [`Error::NotFound`] if the user named is unknown.
pub async fn balances(
    database: &Database,
    clock: &dyn Clock,
    which: Option<&str>,
) -> Result<Vec<Balance>, Error> {
    let snapshot = Snapshot::of(database, clock).await?;
    let zone = &snapshot.settings().timezone;
    let day = zone.day(clock.now());
    let resets_at = zone.end_of(day)?;
    let mut known: BTreeMap<UserId, String> = BTreeMap::new();
    match which {
        Some(which) => {
            let user = users::one(database, which).await?;
            known.insert(user.id, user.name);
        }
        None => {
            let all = users::find(database, &users::Wanted::default()).await?;
            known.extend(all.into_iter().map(|user| (user.id, user.name)));
        }
    }
    let sql = format!(
        "SELECT user_id, spent, held FROM {} WHERE kind = 'user-day' AND day = $1",
        database.table("token_tracking_account")
    );
    let rows: Vec<(String, i64, i64)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(day.to_string()).fetch_all(pool).await?
    });
    let mut accounts: BTreeMap<UserId, Account> = BTreeMap::new();
    for (user, spent, held) in rows {
        let account = Account { spent: Credits::from_micro(spent), held: Credits::from_micro(held) };
        accounts.insert(UserId::new(user)?, account);
    }
    if which.is_none() {
        for user in accounts.keys() {
            known.entry(user.clone()).or_default();
        }
    }
    let balance = |(user, name): (UserId, String)| {
        let Account { spent, held } = accounts.get(&user).copied().unwrap_or_default();
        let limit = snapshot.allowance(&user)?;
        let free = Account { spent, held }.free(limit)?;
        Ok(Balance { user, name, limit, spent, held, free, resets_at })
    };
    known.into_iter().map(balance).collect()
}

/// What is left of a sponsored allowance for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsoredBalance {
    /// The allowance, with its limits.
    pub allowance: SponsoredAllowance,
    /// What the user draws on it today.
    pub today: Account,
    /// What all users have drawn on it, ever.
    pub total: Account,
}

/// What is left of each sponsored allowance that the user may use.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn sponsored(
    database: &Database,
    clock: &dyn Clock,
    user: &UserId,
) -> Result<Vec<SponsoredBalance>, Error> {
    let snapshot = Snapshot::of(database, clock).await?;
    let day = snapshot.settings().timezone.day(clock.now());
    let mut balances = Vec::new();
    let may_use = |allowance: &&SponsoredAllowance| {
        allowance.public || allowance.members.is_empty() || snapshot.is_member(allowance, user)
    };
    for allowance in snapshot.all_sponsored().iter().filter(may_use) {
        let sponsored = allowance.id;
        let today = AccountKey::SponsoredUser { day, sponsored, user: user.clone() };
        balances.push(SponsoredBalance {
            allowance: allowance.clone(),
            today: account(database, &today).await?,
            total: account(database, &AccountKey::SponsoredTotal { sponsored }).await?,
        });
    }
    Ok(balances)
}

/// One account as it is.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn account(database: &Database, key: &AccountKey) -> Result<Account, Error> {
    let sql = format!("SELECT spent, held FROM {} WHERE key = $1", database.table("token_tracking_account"));
    let row: Option<(i64, i64)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(key.to_string()).fetch_optional(pool).await?
    });
    let account = row
        .map(|(spent, held)| Account { spent: Credits::from_micro(spent), held: Credits::from_micro(held) });
    Ok(account.unwrap_or_default())
}
