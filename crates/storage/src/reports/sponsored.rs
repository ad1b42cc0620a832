//! What was used of sponsored allowances, what is left, and how long it will last.

use std::collections::HashMap;

use accounting::{Account, AccountKey, Clock, Credits, Day, SponsoredId};
use sqlx::AssertSqlSafe;

use super::balance::account;
use crate::{Database, Error, Snapshot, SponsoredAllowance, on_pool};

/// The present rate is that of so many days, today included.
const DAYS: i64 = 7;

/// The state of one allowance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsoredReport {
    /// Its id.
    pub id: SponsoredId,
    /// Its name; of a deleted one, that which it had.
    pub name: String,
    /// The allowance, if it is not deleted.
    pub allowance: Option<SponsoredAllowance>,
    /// What is spent and held of it.
    pub account: Account,
    /// What is left: total − spent − held; `None` of a deleted one.
    pub left: Option<Credits>,
    /// What was spent in the last seven days, today included.
    pub last_week: Credits,
    /// When it will be used up, if it is used as in the last seven days.
    pub lasts: Lasts,
}

/// How long an allowance lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// It is deleted.
    Deleted,
    /// Nothing is left.
    UsedUp,
    /// Its last day is over.
    Ended,
    /// Nobody used it lately.
    NotUsed,
    /// So many whole days more, today not counted; used up on that day, if there is such a day.
    Days {
        /// Whole days.
        days: i64,
        /// The day on which it is used up.
        until: Option<Day>,
        /// Whether its last day comes before.
        ends_before: bool,
    },
}

/// How a report is broken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// For each user.
    User,
    /// For each provider's model.
    Model,
    /// For each local day.
    Day,
}

/// A part of what was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsoredUse {
    /// The user, `provider/model`, or day.
    pub key: String,
    /// Requests.
    pub requests: i64,
    /// Input tokens, all classes.
    pub input: i64,
    /// Output tokens, all classes.
    pub output: i64,
    /// What was charged.
    pub credits: Credits,
}

/// One allowance, or all: those that are not deleted by name, then the deleted ones that were used.
///
/// # Errors
/// [`Error::NotFound`] if there is and was none of that name.
pub async fn sponsored(
    database: &Database,
    clock: &dyn Clock,
    name: Option<&str>,
) -> Result<Vec<SponsoredReport>, Error> {
    let snapshot = Snapshot::of(database, clock).await?;
    let today = snapshot.settings().timezone.day(clock.now());
    let recent = recent(database, today).await?;
    let wanted = |kept: &str| name.is_none_or(|name| name.to_lowercase() == kept.to_lowercase());
    let mut reports = Vec::new();
    for allowance in snapshot.all_sponsored().iter().filter(|allowance| wanted(&allowance.name)) {
        let account = account(database, &AccountKey::SponsoredTotal { sponsored: allowance.id }).await?;
        let left = account.free(allowance.total)?;
        let last_week = recent.get(&allowance.id).copied().unwrap_or_default();
        reports.push(SponsoredReport {
            id: allowance.id,
            name: allowance.name.clone(),
            account,
            left: Some(left),
            last_week,
            lasts: lasts(left, last_week, today, allowance.ends_on),
            allowance: Some(allowance.clone()),
        });
    }
    for (id, kept) in deleted(database).await? {
        let account = account(database, &AccountKey::SponsoredTotal { sponsored: id }).await?;
        if snapshot.sponsored(id).is_some() || !wanted(&kept) || account == Account::default() {
            continue;
        }
        let last_week = recent.get(&id).copied().unwrap_or_default();
        let lasts = Lasts::Deleted;
        reports.push(SponsoredReport {
            id,
            name: kept,
            allowance: None,
            account,
            left: None,
            last_week,
            lasts,
        });
    }
    match name {
        Some(name) if reports.is_empty() => Err(Error::NotFound {
            what: "sponsored allowance",
            name: name.to_owned(),
            hint: "; `owui-token-tracking sponsored report` shows all".into(),
        }),
        _ => Ok(reports),
    }
}

/// What was used of an allowance, in parts: largest charge first; days in their order.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn sponsored_use(database: &Database, id: SponsoredId, by: By) -> Result<Vec<SponsoredUse>, Error> {
    let (column, order) = match by {
        By::User => ("user_id", "5 DESC, 1"),
        By::Model => ("provider || '/' || model", "5 DESC, 1"),
        By::Day => ("day", "1"),
    };
    let sum = |what: &str| format!("CAST(COALESCE(SUM({what}), 0) AS BIGINT)");
    let sql = format!(
        "SELECT {column}, {}, {}, {}, {} FROM {} WHERE sponsored_id = $1 GROUP BY 1 ORDER BY {order}",
        sum("CASE WHEN kind = 'request' THEN 1 ELSE 0 END"),
        sum("input_tokens"),
        sum("output_tokens"),
        sum("charge"),
        database.table("token_tracking_ledger")
    );
    let rows: Vec<(String, i64, i64, i64, i64)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(id.to_string()).fetch_all(pool).await?
    });
    let part = |(key, requests, input, output, charge)| SponsoredUse {
        key,
        requests,
        input,
        output,
        credits: Credits::from_micro(charge),
    };
    Ok(rows.into_iter().map(part).collect())
}

/// What was spent of each allowance in the last days: each user's day of it is an account.
async fn recent(database: &Database, today: Day) -> Result<HashMap<SponsoredId, Credits>, Error> {
    let first = Day::new(today.date().saturating_sub(jiff::Span::new().days(DAYS - 1)));
    let sql = format!(
        "SELECT sponsored_id, CAST(SUM(spent) AS BIGINT) FROM {} \
         WHERE kind = 'sponsored-user-day' AND day >= $1 AND day <= $2 GROUP BY sponsored_id",
        database.table("token_tracking_account")
    );
    let rows: Vec<(String, i64)> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(first.to_string()).bind(today.to_string());
        query.fetch_all(pool).await?
    });
    rows.into_iter().map(|(id, spent)| Ok((id.parse()?, Credits::from_micro(spent)))).collect()
}

async fn deleted(database: &Database) -> Result<Vec<(SponsoredId, String)>, Error> {
    let sql = format!(
        "SELECT id, name FROM {} WHERE kind = 'sponsored_allowance' ORDER BY lower(name), kept_at",
        database.table("token_tracking_name")
    );
    let rows: Vec<(String, String)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    rows.into_iter().map(|(id, name)| Ok((id.parse()?, name))).collect()
}

fn lasts(left: Credits, last_week: Credits, today: Day, ends_on: Option<Day>) -> Lasts {
    if ends_on.is_some_and(|last| last < today) {
        return Lasts::Ended;
    }
    let (left, rate) = (i128::from(left.micro()), i128::from(last_week.micro()));
    if left <= 0 {
        return Lasts::UsedUp;
    }
    if rate <= 0 {
        return Lasts::NotUsed;
    }
    // left ÷ (rate ÷ 7), whole days.
    let days = i64::try_from(left.saturating_mul(i128::from(DAYS)) / rate).unwrap_or(i64::MAX);
    let span = jiff::Span::new().try_days(days);
    let until = span.and_then(|span| today.date().checked_add(span)).ok().map(Day::new);
    let ends_before = ends_on.is_some_and(|last| until.is_none_or(|until| last < until));
    Lasts::Days { days, until, ends_before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seven_days_say_how_long_it_lasts() {
        let today: Day = "2026-11-24".parse().unwrap();
        let last = |left: i64, week: i64, ends: Option<&str>| {
            let ends = ends.map(|day| day.parse().unwrap());
            lasts(Credits::from_micro(left), Credits::from_micro(week), today, ends)
        };
        let days = |days, until: &str, ends_before| Lasts::Days {
            days,
            until: Some(until.parse().unwrap()),
            ends_before,
        };
        assert_eq!(last(100, 70, None), days(10, "2026-12-04", false));
        assert_eq!(last(99, 70, Some("2026-12-03")), days(9, "2026-12-03", false));
        assert_eq!(last(100, 70, Some("2026-12-03")), days(10, "2026-12-04", true));
        assert_eq!(last(1, 70, None), days(0, "2026-11-24", false));
        assert_eq!(last(0, 70, None), Lasts::UsedUp);
        assert_eq!(last(-1, 0, None), Lasts::UsedUp);
        assert_eq!(last(1, 0, None), Lasts::NotUsed);
        assert_eq!(last(1, 1, Some("2026-11-23")), Lasts::Ended);
        let endless = Lasts::Days { days: i64::MAX, until: None, ends_before: false };
        assert_eq!(last(i64::MAX, 1, None), endless);
    }
}
