//! Who changed what, when. Each administrative change notes itself in its own transaction, so that none is made without a
//! trace, and no trace is of a change that was not made.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::{Database, Error, on_pool};

/// What is noted of a change; what was and what is, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<'a> {
    /// What was done: `credit-group update`, as the command is called.
    pub action: &'a str,
    /// To what: a name or an id.
    pub subject: &'a str,
    /// What was before; `None` if it was not there.
    pub before: Option<Value>,
    /// What is now; `None` if it is gone.
    pub after: Option<Value>,
}

/// A noted change.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub who: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What was before.
    pub before: Option<Value>,
    /// What was after.
    pub after: Option<Value>,
}

/// The actions that are noted.
pub const ACTIONS: [&str; 28] = [
    "credit-group add-user",
    "credit-group create",
    "credit-group delete",
    "credit-group remove-user",
    "credit-group update",
    "credits grant",
    "credits reset",
    "credits revoke",
    "database sync",
    "init",
    "key create",
    "key revoke",
    "pricing add",
    "pricing delete",
    "pricing import",
    "pricing sync",
    "pricing update",
    "pricing upsert",
    "settings set",
    "sponsored create",
    "sponsored delete",
    "sponsored register",
    "sponsored unregister",
    "sponsored update",
    "usage prune",
    "user create",
    "user forget",
    "verify --repair",
];

/// Notes a change in the transaction that makes it.
macro_rules! note {
    ($transaction:expr, $database:expr, $change:expr) => {{
        let change: $crate::admin::audit::Change<'_> = $change;
        let sql = format!(
            "INSERT INTO {} (id, at, who, action, subject, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            $database.table("token_tracking_audit")
        );
        let now = accounting::Clock::now(&$crate::SystemClock).as_microsecond();
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind($crate::new_id().simple().to_string())
            .bind(now)
            .bind($database.actor())
            .bind(change.action)
            .bind(change.subject)
            .bind(change.before.map(|before| before.to_string()))
            .bind(change.after.map(|after| after.to_string()))
            .execute(&mut *$transaction)
            .await?;
    }};
}
pub(crate) use note;

/// Which changes are wanted; all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Done to this.
    pub subject: Option<String>,
    /// Whose action begins so, such as `pricing`.
    pub action: Option<String>,
    /// At most so many, the newest.
    pub most: Option<u32>,
}

type Row = (String, i64, String, String, String, Option<String>, Option<String>);

/// The changes that fit, oldest first.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away, [`Error::Inconsistency`] for a bad row.
pub async fn list(database: &Database, wanted: &Wanted) -> Result<Vec<Noted>, Error> {
    let sql = format!(
        "SELECT id, at, who, action, subject, before, after FROM {} \
         WHERE at >= $1 AND ($2 IS NULL OR subject = $2) AND ($3 IS NULL OR substr(action, 1, length($3)) = $3) \
         ORDER BY at DESC, id DESC LIMIT $4",
        database.table("token_tracking_audit")
    );
    let since = wanted.since.map_or(i64::MIN, Timestamp::as_microsecond);
    let most = wanted.most.map_or(i64::MAX, i64::from);
    let rows: Vec<Row> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(since).bind(&wanted.subject);
        query.bind(&wanted.action).bind(most).fetch_all(pool).await?
    });
    rows.into_iter().rev().map(read).collect()
}

fn read((id, at, who, action, subject, before, after): Row) -> Result<Noted, Error> {
    let wrong = |column: &str| Error::Inconsistency {
        table: "token_tracking_audit".into(),
        column: column.into(),
        row: id.clone(),
    };
    let json = |column: &str, text: Option<String>| {
        text.map(|text| serde_json::from_str(&text).map_err(|_| wrong(column))).transpose()
    };
    Ok(Noted {
        at: Timestamp::from_microsecond(at).map_err(|_| wrong("at"))?,
        who,
        action,
        subject,
        before: json("before", before)?,
        after: json("after", after)?,
    })
}
