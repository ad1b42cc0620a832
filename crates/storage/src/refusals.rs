//! Refusals, summed for each day: who was refused, at which limit, for which model, how often and when.
//!
//! The rule it protects: a refusal leaves a trace, and costs nobody anything. It is written in portions, off the way of
//! requests, and each user takes a bounded number of rows a day. Only a later schema has the table: on an earlier one that
//! this program works with, nothing is kept.

use accounting::{Day, SponsoredId, UserId};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::ledger::Turn;
use crate::reading::{Query, Reading, aside};
use crate::reports::usage::names::Names;
use crate::reports::usage::{By, Key, Question};
use crate::{Database, Error, on_pool};

/// The table.
pub(crate) const TABLE: &str = "token_tracking_refusal";
/// So many rows of a user and day name their models; a client chooses what it asks for.
const MOST_ROWS: i64 = 64;
/// Of those, so many may be for models that there are not: names that anybody can make up leave room for the others.
const MOST_UNKNOWN: i64 = 16;

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A limit is reached.
    Limit,
    /// What is left of a limit does not cover the request.
    TooLarge,
    /// The user's other requests held what is left.
    Busy,
    /// Too many requests of the user at a time.
    TooManyRequests,
    /// The sponsored allowance does not pay for it.
    NotSponsored,
    /// There is no allowance to charge.
    NoAllowance,
    /// The model has no price.
    NotPriced,
    /// There is no such model.
    UnknownModel,
}

impl Reason {
    /// As the database keeps it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::TooManyRequests => "too_many_requests",
            Self::NotSponsored => "not_sponsored",
            Self::NoAllowance => "no_allowance",
            Self::NotPriced => "model_not_priced",
            Self::UnknownModel => "unknown_model",
        }
    }
}

/// What was refused; those that are the same are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Refusal {
    /// The local day.
    pub day: Day,
    /// Who asked.
    pub user: UserId,
    /// The provider; empty if it is not known.
    pub provider: String,
    /// The model; empty if it is not known.
    pub model: String,
    /// Why.
    pub reason: Reason,
    /// The kind of the account whose limit was in the way; empty for none.
    pub limited_by: &'static str,
    /// The sponsored allowance whose limit it was.
    pub sponsored: Option<SponsoredId>,
}

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How often.
    pub count: i64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// Refusals as a report has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// What they have in common, for each [`By`] in the question. A model without id stands for those beyond the bound.
    pub keys: Vec<Key>,
    /// Why, as [`Reason::as_str`] has it.
    pub reason: String,
    /// The kind of the account whose limit was in the way; empty for none.
    pub limited_by: String,
    /// How often, and when.
    pub times: Times,
}

/// Adds to what is kept, in one transaction.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy; then nothing was added.
pub async fn add(database: &Database, refusals: &[(Refusal, Times)]) -> Result<(), Error> {
    if refusals.is_empty() || !database.has_table(TABLE).await? {
        return Ok(());
    }
    let table = database.table(TABLE);
    let more = format!(
        "UPDATE {table} SET requests = requests + $8, last_at = $9 WHERE day = $1 AND user_id = $2 AND provider = $3 \
           AND model = $4 AND reason = $5 AND limited_by = $6 AND sponsored_id = $7"
    );
    let rows = format!(
        "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN reason = $3 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM {table} WHERE day = $1 AND user_id = $2"
    );
    let begin = format!(
        "INSERT INTO {table} AS kept (day, user_id, provider, model, reason, limited_by, sponsored_id, requests, last_at, \
           first_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (day, user_id, provider, model, reason, limited_by, sponsored_id) \
         DO UPDATE SET requests = kept.requests + excluded.requests, last_at = excluded.last_at"
    );
    let _turn = Turn::take(database).await;
    on_pool!(database, pool => {
        let mut transaction = pool.begin().await?;
        for (refusal, times) in refusals {
            let Refusal { day, user, provider, model, reason, limited_by, sponsored } = refusal;
            let (day, sponsored) = (day.to_string(), sponsored.map(|id| id.to_string()).unwrap_or_default());
            let (first, last) = (times.first.as_microsecond(), times.last.as_microsecond());
            let updated = sqlx::query(AssertSqlSafe(more.clone()))
                .bind(&day)
                .bind(user.as_str())
                .bind(provider)
                .bind(model)
                .bind(reason.as_str())
                .bind(limited_by)
                .bind(&sponsored)
                .bind(times.count)
                .bind(last)
                .execute(&mut *transaction)
                .await?;
            if updated.rows_affected() > 0 {
                continue;
            }
            let query = sqlx::query_as(AssertSqlSafe(rows.clone())).bind(&day).bind(user.as_str());
            let unknown = Reason::UnknownModel;
            let (there, of_unknown): (i64, i64) =
                query.bind(unknown.as_str()).fetch_one(&mut *transaction).await?;
            let names_model = there < MOST_ROWS && (*reason != unknown || of_unknown < MOST_UNKNOWN);
            let (provider, model) = if names_model { (provider.as_str(), model.as_str()) } else { ("", "") };
            sqlx::query(AssertSqlSafe(begin.clone()))
                .bind(&day)
                .bind(user.as_str())
                .bind(provider)
                .bind(model)
                .bind(reason.as_str())
                .bind(limited_by)
                .bind(&sponsored)
                .bind(times.count)
                .bind(last)
                .bind(first)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
    });
    Ok(())
}

/// Who was refused: for each combination of what the question sums by, of reason and limit; those that happened most first.
///
/// # Errors
/// [`Error::Invalid`] for a side or a filter that refusals don't have, [`Error::NotFound`] for a group that is not there.
pub async fn refused(database: &Database, question: &Question) -> Result<Vec<RefusedRow>, Error> {
    let columns = question.by.iter().map(|by| column(*by)).collect::<Result<Vec<_>, _>>()?;
    if question.task.is_some() {
        return Err(Error::Invalid { what: "refusals are not kept by task".into() });
    }
    if !database.has_table(TABLE).await? {
        return Ok(Vec::new());
    }
    let names = Names::of(database, question).await?;
    aside(database, read(database.clone(), question.clone(), names, columns)).await
}

async fn read(
    database: Database,
    question: Question,
    names: Names,
    columns: Vec<&'static str>,
) -> Result<Vec<RefusedRow>, Error> {
    let all = columns.iter().copied().chain(["reason", "limited_by"]).collect::<Vec<_>>().join(", ");
    let mut query = Query::new(format!(
        "SELECT {all}, CAST(SUM(requests) AS BIGINT), MIN(first_at), MAX(last_at) FROM {} WHERE day >= ",
        database.table(TABLE)
    ));
    query.text(question.from.map(|day| day.to_string()).unwrap_or_default());
    for (column, wanted) in [
        ("day <= ", question.to.map(|day| day.to_string())),
        ("user_id = ", question.user),
        ("provider = ", question.provider),
        ("model = ", question.model),
        ("sponsored_id = ", question.sponsored.map(|id| id.to_string())),
    ] {
        if let Some(wanted) = wanted {
            query.push(&format!(" AND {column}")).text(wanted);
        }
    }
    query.push(&format!(" GROUP BY {all} ORDER BY SUM(requests) DESC, {all}"));
    let picks_users = names.picked.is_some();
    let position = columns.iter().position(|column| *column == "user_id");
    let (limit, sides) = (question.top, question.by);
    let mut reading = Reading::begin(&database).await?;
    let mut found = reading
        .all(query, |row| {
            let keys = sides.iter().enumerate().map(|(index, by)| {
                let id = row.some_text(index)?.to_owned();
                let name = match by {
                    By::User => names.users.get(&id).cloned(),
                    By::Sponsor => names.sponsored.get(&id).cloned(),
                    _ => None,
                };
                Ok::<_, Error>(Key { id: Some(id).filter(|id| !id.is_empty()), name })
            });
            let (keys, next) = (keys.collect::<Result<Vec<_>, _>>()?, sides.len());
            let at = |index| Ok::<_, Error>(moment(row.some_number(index)?));
            Ok(RefusedRow {
                keys,
                reason: row.some_text(next)?.to_owned(),
                limited_by: row.some_text(next + 1)?.to_owned(),
                times: Times { count: row.some_number(next + 2)?, first: at(next + 3)?, last: at(next + 4)? },
            })
        })
        .await?;
    if let (true, Some(position), Some(picked)) = (picks_users, position, &names.picked) {
        found.retain(|row| row.keys[position].id.as_ref().is_some_and(|id| picked.contains(id)));
    } else if picks_users {
        return Err(Error::Invalid { what: "refusals of a group are told by user: --by user".into() });
    }
    if let Some(limit) = limit {
        found.truncate(limit);
    }
    Ok(found)
}

fn moment(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or_default()
}

fn column(by: By) -> Result<&'static str, Error> {
    match by {
        By::User | By::Model | By::Provider | By::Sponsor | By::Day => Ok(by.column()),
        _ => Err(Error::Invalid {
            what: "refusals are summed by user, model, provider, sponsor or day".into(),
        }),
    }
}
