//! Why a user has what they have: what each group grants, and what each period's account is made of.

use std::collections::HashMap;

use accounting::{Clock, Credits, Period, UserId};
use sqlx::AssertSqlSafe;

use crate::admin::groups;
use crate::admin::users;
use crate::refusals::{self, RefusedRow};
use crate::reports::balance::{Counters, Now, PeriodBalance};
use crate::reports::usage::Question;
use crate::{Database, Error, KnownUser, Limits, Snapshot, on_pool};

/// A user's limits and accounts, with all their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The user.
    pub user: KnownUser,
    /// What is granted, and by whom: the base first, then each group by name.
    pub grants: Vec<Grant>,
    /// What is granted in all.
    pub limits: Limits,
    /// The periods that have a limit, shortest first.
    pub periods: Vec<Parts>,
    /// What was refused today.
    pub refused: Vec<RefusedRow>,
}

/// What one source grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The group; `None` for the base.
    pub group: Option<String>,
    /// What it grants.
    pub limits: Limits,
}

/// What a period's account is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The account.
    pub balance: PeriodBalance,
    /// What requests were charged.
    pub used: Credits,
    /// What requests were charged that the original served.
    pub imported: Credits,
    /// What administrators have granted (less than nothing) or revoked.
    pub adjusted: Credits,
}

/// Explains one user's balance.
///
/// # Errors
/// [`Error::NotFound`] if the user is unknown.
pub async fn explain(database: &Database, clock: &dyn Clock, which: &str) -> Result<Explanation, Error> {
    let user = users::one(database, which).await?;
    let snapshot = Snapshot::of(database, clock).await?;
    let limits = snapshot.limits(&user.id);
    let mut grants = vec![Grant { group: None, limits: snapshot.settings().base() }];
    let groups = groups::memberships(database).await?.remove(user.id.as_str()).unwrap_or_default();
    for group in groups {
        let limits = Limits {
            daily: Credits::saturating_from_whole(group.allowance),
            weekly: group.weekly,
            monthly: group.monthly,
        };
        grants.push(Grant { group: Some(group.name), limits });
    }
    let now = Now::of(snapshot.settings(), clock);
    let counters = Counters::read(database, &now, Some(&user.id)).await?;
    let imported = imported(database, &now, &user.id).await?;
    let mut periods = Vec::new();
    for period in Period::ALL {
        let Some(balance) = counters.balance(&now, &user.id, &limits, period)? else { continue };
        let days = period.days(now.day)?;
        let of_days = days.iter().filter_map(|day| imported.get(&day.to_string()).copied());
        let imported = Credits::total(of_days)?;
        let adjusted = counters.adjusted(&now, &user.id, period);
        let used = balance.spent.minus(imported)?.minus(adjusted)?;
        periods.push(Parts { balance, used, imported, adjusted });
    }
    let question = Question {
        from: Some(now.day),
        to: Some(now.day),
        user: Some(user.id.to_string()),
        ..Question::default()
    };
    let refused = refusals::refused(database, &question).await?;
    Ok(Explanation { user, grants, limits, periods, refused })
}

/// What the original's requests cost on each day.
async fn imported(
    database: &Database,
    now: &Now<'_>,
    user: &UserId,
) -> Result<HashMap<String, Credits>, Error> {
    let sql = format!(
        "SELECT day, CAST(SUM(charge) AS BIGINT) FROM {} WHERE kind <> 'request' AND kind = 'import' AND user_id = $1 \
         AND day >= $2 AND day <= $3 AND accounts LIKE '[\"user-day:%' GROUP BY day",
        database.table("token_tracking_ledger")
    );
    let rows: Vec<(String, i64)> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(user.as_str());
        query.bind(now.earliest().to_string()).bind(now.day.to_string()).fetch_all(pool).await?
    });
    Ok(rows.into_iter().map(|(day, charge)| (day, Credits::from_micro(charge))).collect())
}
