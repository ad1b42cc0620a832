//! Users: Open WebUI's, where its table is, else those that were seen.

use accounting::{Label, UserId, check_name, check_text};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::audit::{Change, note};
use super::directory::Directory;
use crate::database::in_transaction;
use crate::{Database, Error, KnownUser, names, on_pool};

/// Open WebUI's table.
pub(super) const OPEN_WEBUIS: &str = "user";
/// Ours, where that is not.
const OURS: &str = "token_tracking_user";
/// The most characters of a name and of an address.
const LONGEST: usize = 255;

/// What to look for; all that is given must fit, names and addresses in any case (see [`names`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The id.
    pub id: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
}

/// The users that fit, by name.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn find(database: &Database, wanted: &Wanted) -> Result<Vec<KnownUser>, Error> {
    // Nobody is called so, and PostgreSQL would call the question itself wrong.
    if [&wanted.id, &wanted.name, &wanted.email].into_iter().flatten().any(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    let table = if database.has_table(OPEN_WEBUIS).await? { OPEN_WEBUIS } else { OURS };
    let sql = format!(
        "SELECT CAST(id AS TEXT), CAST(name AS TEXT), CAST(email AS TEXT) FROM {} \
         WHERE $1 IS NULL OR id = $1 ORDER BY 2, 1",
        database.table(table)
    );
    let rows: Vec<(String, Option<String>, Option<String>)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(&wanted.id).fetch_all(pool).await?
    });
    let read = |(id, name, email): (String, Option<String>, Option<String>)| {
        // Somebody else's table: a row that can't be a user's must not hide the others. Nobody is charged by such an id.
        let id =
            UserId::new(id).inspect_err(|error| tracing::warn!(%error, table, "a user is left out")).ok()?;
        let label = |text: Option<String>| text.map(Label::from).unwrap_or_default();
        Some(KnownUser { id, name: label(name), email: label(email) })
    };
    let fits = |wanted: &Option<String>, has: &str| match wanted {
        Some(wanted) => names::is_same(wanted, has),
        None => true,
    };
    let mut users: Vec<KnownUser> = rows.into_iter().filter_map(read).collect();
    users.retain(|user| fits(&wanted.name, &user.name) && fits(&wanted.email, &user.email));
    Ok(users)
}

/// The one user with that id, e-mail address or name: one that is written just so goes before those that differ in case.
///
/// # Errors
/// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
pub async fn one(database: &Database, which: &str) -> Result<KnownUser, Error> {
    let by_id = find(database, &Wanted { id: Some(which.to_owned()), ..Wanted::default() }).await?.pop();
    match by_id {
        Some(user) => Ok(user),
        None => Directory::read(database).await?.one(which).cloned(),
    }
}

/// Makes a user where there is no Open WebUI: elsewhere they are made there, and here they are known from then on.
///
/// # Errors
/// [`Error::Invalid`] where Open WebUI's users count, [`Error::Conflict`] if somebody has that id, name or address already,
/// [`Error::Accounting`] for a name or an address that can't be one.
pub async fn create(database: &Database, user: &UserId, name: &str, email: &str) -> Result<KnownUser, Error> {
    if database.has_table(OPEN_WEBUIS).await? {
        return Err(Error::Invalid {
            what: "this database is Open WebUI's, whose users count here: make the user there; `owui-token-tracking user \
                   list` shows all"
                .into(),
        });
    }
    check_name(name, "the name of a user", LONGEST)?;
    check_text(email, "an e-mail address", LONGEST)?;
    let made = KnownUser { id: user.clone(), name: Label::new(name), email: Label::new(email) };
    let table = database.table(OURS);
    let all = format!("SELECT id, name, email FROM {table} ORDER BY id");
    let insert = format!("INSERT INTO {table} (id, name, email, seen_at) VALUES ($1, $2, $3, $4)");
    let now = accounting::Clock::now(&crate::SystemClock).as_microsecond();
    in_transaction!(database, transaction => {
        let others: Vec<(String, String, String)> =
            sqlx::query_as(AssertSqlSafe(all)).fetch_all(&mut *transaction).await?;
        let is_same = |(id, name, email): &(String, String, String)| {
            *id == made.id.as_str()
                || names::is_same(name, &made.name)
                || (!email.is_empty() && names::is_same(email, &made.email))
        };
        if let Some((there, ..)) = others.iter().find(|other| is_same(other)) {
            let what = format!("there is such a user already: `{there}` has that id, name or address");
            return Err(Error::Conflict { what });
        }
        let query = sqlx::query(AssertSqlSafe(insert)).bind(made.id.as_str()).bind(made.name.as_str());
        query.bind(made.email.as_str()).bind(now).execute(&mut *transaction).await?;
        // Name and address stay out: they can be forgotten.
        let after = Some(json!({"user": made.id}));
        note!(transaction, database, Change { action: "user create", subject: made.id.as_str(), before: None, after });
    });
    Ok(made)
}

/// What to do where a user is not found.
pub(super) const fn otherwise(has_open_webui: bool) -> &'static str {
    if has_open_webui {
        "`owui-token-tracking user list` shows all"
    } else {
        "`owui-token-tracking user list` shows all, `owui-token-tracking user create NAME` makes one"
    }
}
