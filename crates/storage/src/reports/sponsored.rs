//! What was used of sponsored allowances, what is left, and how long it will last.

use std::collections::HashMap;

use accounting::{Account, AccountKey, Clock, Credits, Day, SponsoredId};
use sqlx::AssertSqlSafe;

use super::balance::account;
use crate::names::is_same;
use crate::{Database, Error, Snapshot, SponsoredAllowance, nearest, on_pool};

/// The present rate is that of so many days, today included; of fewer while there have not been more since it was first used.
const DAYS: i64 = 7;
/// Used on fewer days than this, nothing can be said of how long it lasts.
const LEAST_DAYS: i64 = 3;
/// Beyond so many days the last week says nothing.
const YEAR: i64 = 365;

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
    /// It was used on too few days to say.
    TooEarly,
    /// More than a year, as it is used now.
    OverAYear {
        /// Whether its last day comes before that.
        ends_before: bool,
    },
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
    let today = snapshot.settings().zone()?.day(clock.now());
    let uses = uses(database, today).await?;
    let wanted = |kept: &str| name.is_none_or(|name| is_same(name, kept));
    let mut reports = Vec::new();
    for allowance in snapshot.all_sponsored().iter().filter(|allowance| wanted(&allowance.name)) {
        let account = account(database, &AccountKey::SponsoredTotal { sponsored: allowance.id }).await?;
        let left = account.free(allowance.total)?;
        let used = uses.get(&allowance.id).copied().unwrap_or_default();
        reports.push(SponsoredReport {
            id: allowance.id,
            name: allowance.name.clone(),
            account,
            left: Some(left),
            last_week: used.last_week,
            lasts: lasts(left, used, today, allowance.ends_on),
            allowance: Some(allowance.clone()),
        });
    }
    for (id, kept) in deleted(database).await? {
        let account = account(database, &AccountKey::SponsoredTotal { sponsored: id }).await?;
        if snapshot.sponsored(id).is_some() || !wanted(&kept) || account == Account::default() {
            continue;
        }
        let last_week = uses.get(&id).map(|used| used.last_week).unwrap_or_default();
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
            hint: nearest::hint(
                name,
                snapshot.all_sponsored().iter().map(|allowance| allowance.name.as_str()),
                "`owui-token-tracking sponsored report` shows all",
            ),
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

/// How an allowance was used.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    /// What was spent in the last seven days, today included.
    last_week: Credits,
    /// On how many days it was used.
    days: i64,
    /// The first of them.
    first: Option<Day>,
}

/// How each allowance was used: each user's day of it is an account.
async fn uses(database: &Database, today: Day) -> Result<HashMap<SponsoredId, Used>, Error> {
    let first = Day::new(today.date().saturating_sub(jiff::Span::new().days(DAYS - 1)));
    let sql = format!(
        "SELECT sponsored_id, CAST(SUM(CASE WHEN day >= $1 THEN spent ELSE 0 END) AS BIGINT), \
           CAST(COUNT(DISTINCT day) AS BIGINT), MIN(day) FROM {} \
         WHERE kind = 'sponsored-user-day' AND spent > 0 AND day <= $2 GROUP BY sponsored_id",
        database.table("token_tracking_account")
    );
    let rows: Vec<(String, i64, i64, Option<String>)> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(first.to_string()).bind(today.to_string());
        query.fetch_all(pool).await?
    });
    let used = |(id, spent, days, first): (String, i64, i64, Option<String>)| {
        let first = first.map(|day| day.parse()).transpose()?;
        Ok((id.parse()?, Used { last_week: Credits::from_micro(spent), days, first }))
    };
    rows.into_iter().map(used).collect()
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

fn lasts(left: Credits, used: Used, today: Day, ends_on: Option<Day>) -> Lasts {
    if ends_on.is_some_and(|last| last < today) {
        return Lasts::Ended;
    }
    let (left, rate) = (i128::from(left.micro()), i128::from(used.last_week.micro()));
    if left <= 0 {
        return Lasts::UsedUp;
    }
    if rate <= 0 {
        return Lasts::NotUsed;
    }
    if used.days < LEAST_DAYS {
        return Lasts::TooEarly;
    }
    let since = used.first.and_then(|first| today.date().since(first.date()).ok());
    let over = since.map_or(DAYS, |since| i64::from(since.get_days()).saturating_add(1).clamp(1, DAYS));
    // left ÷ (rate ÷ days), whole days.
    let days = i64::try_from(left.saturating_mul(i128::from(over)) / rate).unwrap_or(i64::MAX);
    let span = jiff::Span::new().try_days(days);
    let until = span.and_then(|span| today.date().checked_add(span)).ok().map(Day::new);
    let ends_before = ends_on.is_some_and(|last| until.is_none_or(|until| last < until));
    if days > YEAR {
        return Lasts::OverAYear { ends_before };
    }
    Lasts::Days { days, until, ends_before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seven_days_say_how_long_it_lasts() {
        let today: Day = "2026-11-24".parse().unwrap();
        let used = |week: i64, days: i64, first: &str| Used {
            last_week: Credits::from_micro(week),
            days,
            first: Some(first.parse().unwrap()),
        };
        let last = |left: i64, week: i64, ends: Option<&str>| {
            let ends = ends.map(|day| day.parse().unwrap());
            lasts(Credits::from_micro(left), used(week, 3, "2026-11-01"), today, ends)
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
        // Before the third day of use nothing can be said; on it, the rate is that of the days there were.
        let young = |days, first| lasts(Credits::from_micro(100), used(30, days, first), today, None);
        assert_eq!(young(2, "2026-10-01"), Lasts::TooEarly);
        assert_eq!(young(3, "2026-11-22"), days(10, "2026-12-04", false));
        assert_eq!(young(3, "2026-11-18"), days(23, "2026-12-17", false));
        assert_eq!(last(365, 7, None), days(365, "2027-11-24", false));
        assert_eq!(last(366, 7, None), Lasts::OverAYear { ends_before: false });
        assert_eq!(last(i64::MAX, 1, None), Lasts::OverAYear { ends_before: false });
        assert_eq!(last(i64::MAX, 1, Some("2026-11-25")), Lasts::OverAYear { ends_before: true });
    }
}
