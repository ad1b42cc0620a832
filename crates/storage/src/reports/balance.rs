//! What users have left: today, and in the week and the month where there are limits for them.

use std::collections::{BTreeMap, HashMap};

use accounting::{Account, AccountKey, Clock, Credits, Day, Period, UserId};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::admin::users;
use crate::database::in_snapshot;
use crate::{Database, Error, Limits, Settings, Snapshot, SponsoredAllowance, on_pool};

/// What a user has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The user.
    pub user: UserId,
    /// The name, if known.
    pub name: String,
    /// Of the day.
    pub day: PeriodBalance,
    /// Of the week, if there is a weekly limit.
    pub week: Option<PeriodBalance>,
    /// Of the month, if there is a monthly limit.
    pub month: Option<PeriodBalance>,
}

/// What is left of one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodBalance {
    /// The period.
    pub period: Period,
    /// Its limit.
    pub limit: Credits,
    /// What is spent of it.
    pub spent: Credits,
    /// What is held for running requests.
    pub held: Credits,
    /// limit − spent − held.
    pub free: Credits,
    /// When the next one begins.
    pub resets_at: Timestamp,
}

impl Balance {
    /// The periods that have a limit, shortest first.
    pub fn periods(&self) -> impl Iterator<Item = &PeriodBalance> {
        std::iter::once(&self.day).chain(&self.week).chain(&self.month)
    }

    /// What the next request meets first: the least that is free. Of equals, the one that lasts longest.
    pub fn tightest(&self) -> &PeriodBalance {
        let others = self.week.iter().chain(&self.month);
        others.fold(&self.day, |least, other| if other.free <= least.free { other } else { least })
    }
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
    let known: BTreeMap<UserId, String> = match which {
        Some(which) => {
            let user = users::one(database, which).await?;
            BTreeMap::from([(user.id, user.name.into())])
        }
        None => {
            let all = users::find(database, &users::Wanted::default()).await?;
            all.into_iter().map(|user| (user.id, user.name.into())).collect()
        }
    };
    balances_of(database, clock, known, which.is_some()).await
}

/// The balance of a user whom nobody may know: what the ledger has of them, and the limits of all.
///
/// # Errors
/// As for any reading of the database.
pub async fn balance_of_anybody(
    database: &Database,
    clock: &dyn Clock,
    user: UserId,
) -> Result<Option<Balance>, Error> {
    let found = balances_of(database, clock, BTreeMap::from([(user, String::new())]), true).await?;
    Ok(found.into_iter().next())
}

/// The balances of these users, and of all others that have used something today unless it is one who was asked for.
async fn balances_of(
    database: &Database,
    clock: &dyn Clock,
    mut known: BTreeMap<UserId, String>,
    is_one: bool,
) -> Result<Vec<Balance>, Error> {
    let snapshot = Snapshot::of(database, clock).await?;
    let now = Now::of(snapshot.settings(), clock);
    let only = known.keys().next().filter(|_| is_one);
    let counters = Counters::read(database, &now, only).await?;
    if !is_one {
        for user in counters.users(now.day) {
            known.entry(user.clone()).or_default();
        }
    }
    let balance = |(user, name): (UserId, String)| {
        let limits = snapshot.limits(&user);
        let of = |period| counters.balance(&now, &user, &limits, period);
        let day = of(Period::Day)?.ok_or(accounting::Error::Overflow)?;
        Ok(Balance { day, week: of(Period::Week)?, month: of(Period::Month)?, user, name })
    };
    known.into_iter().map(balance).collect()
}

/// The present day, where days begin and end.
pub(super) struct Now<'a> {
    pub settings: &'a Settings,
    pub day: Day,
}

impl<'a> Now<'a> {
    pub(super) fn of(settings: &'a Settings, clock: &dyn Clock) -> Self {
        Self { settings, day: settings.timezone.day(clock.now()) }
    }

    /// The first day of the earliest of the present periods.
    pub(super) fn earliest(&self) -> Day {
        let first = |period: Period| period.first(self.day);
        first(Period::Week).min(first(Period::Month))
    }
}

/// The accounts of the present periods, as they are for the next request: what weeks and months still owe to their days is
/// counted (see the ledger's `carry`).
#[derive(Debug, Default)]
pub(super) struct Counters {
    days: HashMap<(UserId, Day), Account>,
    held: HashMap<(UserId, Period), Credits>,
    /// What administrators granted (less than nothing) or revoked, by the first day of the period concerned.
    adjusted: HashMap<(UserId, Period, Day), Credits>,
}

type AccountRow = (String, i64, i64);

impl Counters {
    pub(super) async fn read(
        database: &Database,
        now: &Now<'_>,
        only: Option<&UserId>,
    ) -> Result<Self, Error> {
        let accounts = format!(
            "SELECT key, spent, held FROM {} WHERE kind IN ('user-day', 'user-week', 'user-month') \
             AND day >= $1 AND day <= $2 AND ($3 IS NULL OR user_id = $3)",
            database.table("token_tracking_account")
        );
        let adjustments = format!(
            "SELECT accounts, CAST(SUM(charge) AS BIGINT) FROM {} \
             WHERE kind <> 'request' AND kind = 'adjustment' AND day >= $1 AND day <= $2 AND sponsored_id IS NULL \
               AND ($3 IS NULL OR user_id = $3) GROUP BY accounts",
            database.table("token_tracking_ledger")
        );
        let (first, last, user) = (now.earliest().to_string(), now.day.to_string(), only.map(UserId::as_str));
        let (accounts, adjustments): (Vec<AccountRow>, Vec<(String, i64)>) = in_snapshot!(database, transaction => {
            let query = sqlx::query_as(AssertSqlSafe(accounts)).bind(&first).bind(&last).bind(user);
            let accounts = query.fetch_all(&mut *transaction).await?;
            let query = sqlx::query_as(AssertSqlSafe(adjustments)).bind(&first).bind(&last).bind(user);
            (accounts, query.fetch_all(&mut *transaction).await?)
        });
        let mut counters = Self::default();
        for (key, spent, held) in accounts {
            let key: AccountKey = key.parse()?;
            let (Some(user), Some((period, first))) = (key.user(), key.period()) else { continue };
            let account = Account { spent: Credits::from_micro(spent), held: Credits::from_micro(held) };
            match period {
                Period::Day => {
                    counters.days.insert((user.clone(), first), account);
                }
                _ if first == period.first(now.day) => {
                    counters.held.insert((user.clone(), period), account.held);
                }
                _ => {}
            }
        }
        for (accounts, charge) in adjustments {
            let wrong = || Error::Inconsistency {
                table: "token_tracking_ledger".into(),
                column: "accounts".into(),
                row: accounts.clone(),
            };
            let keys: Vec<String> = serde_json::from_str(&accounts).map_err(|_| wrong())?;
            for key in keys {
                let key: AccountKey = key.parse().map_err(|_| wrong())?;
                let (Some(user), Some((period, first))) = (key.user(), key.period()) else { continue };
                let sum = counters.adjusted.entry((user.clone(), period, first)).or_default();
                *sum = sum.plus(Credits::from_micro(charge))?;
            }
        }
        Ok(counters)
    }

    /// Who has an account of that day.
    fn users(&self, day: Day) -> impl Iterator<Item = &UserId> {
        self.days.keys().filter(move |(_, of)| *of == day).map(|(user, _)| user)
    }

    /// What administrators have changed in the present period.
    pub(super) fn adjusted(&self, now: &Now<'_>, user: &UserId, period: Period) -> Credits {
        self.adjusted.get(&(user.clone(), period, period.first(now.day))).copied().unwrap_or_default()
    }

    /// What is left of the present period; `None` if it has no limit.
    pub(super) fn balance(
        &self,
        now: &Now<'_>,
        user: &UserId,
        limits: &Limits,
        period: Period,
    ) -> Result<Option<PeriodBalance>, Error> {
        let Some(limit) = limits.of(period) else { return Ok(None) };
        let of_day = |day| self.days.get(&(user.clone(), day)).copied().unwrap_or_default();
        let account = match period {
            Period::Day => of_day(now.day),
            _ => {
                let mut spent = self.adjusted(now, user, period);
                for day in period.days(now.day)? {
                    let adjusted = self.adjusted.get(&(user.clone(), Period::Day, day));
                    spent = spent.plus(of_day(day).spent)?.minus(adjusted.copied().unwrap_or_default())?;
                }
                Account { spent, held: self.held.get(&(user.clone(), period)).copied().unwrap_or_default() }
            }
        };
        let Account { spent, held } = account;
        let resets_at = now.settings.timezone.end_of_period(period, now.day)?;
        Ok(Some(PeriodBalance { period, limit, spent, held, free: account.free(limit)?, resets_at }))
    }
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
    let day = snapshot.settings().zone()?.day(clock.now());
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
