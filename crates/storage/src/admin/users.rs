//! Users: Open WebUI's, where its table is, else those that were seen.

use accounting::{Label, UserId, check_name, check_text};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::audit::{Change, note};
use crate::database::in_transaction;
use crate::{Database, Error, KnownUser, nearest, on_pool};

/// Open WebUI's table.
pub(super) const OPEN_WEBUIS: &str = "user";
/// Ours, where that is not.
const OURS: &str = "token_tracking_user";
/// The most characters of a name and of an address.
const LONGEST: usize = 255;

/// What to look for; all that is given must fit, names and addresses in any case.
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
         WHERE ($1 IS NULL OR id = $1) AND ($2 IS NULL OR lower(name) = $2) AND ($3 IS NULL OR lower(email) = $3) \
         ORDER BY 2, 1",
        database.table(table)
    );
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
    let rows: Vec<(String, Option<String>, Option<String>)> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(&wanted.id);
        query.bind(lower(&wanted.name)).bind(lower(&wanted.email)).fetch_all(pool).await?
    });
    let read = |(id, name, email): (String, Option<String>, Option<String>)| {
        // Somebody else's table: a row that can't be a user's must not hide the others. Nobody is charged by such an id.
        let id =
            UserId::new(id).inspect_err(|error| tracing::warn!(%error, table, "a user is left out")).ok()?;
        let label = |text: Option<String>| text.map(Label::from).unwrap_or_default();
        Some(KnownUser { id, name: label(name), email: label(email) })
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// The one user with that id, name or e-mail address.
///
/// # Errors
/// [`Error::NotFound`] for none, [`Error::Conflict`] for several.
pub async fn one(database: &Database, which: &str) -> Result<KnownUser, Error> {
    let text = || Some(which.to_owned());
    for wanted in [
        Wanted { id: text(), ..Wanted::default() },
        Wanted { email: text(), ..Wanted::default() },
        Wanted { name: text(), ..Wanted::default() },
    ] {
        let mut found = find(database, &wanted).await?;
        match found.len() {
            0 => {}
            1 => return Ok(found.swap_remove(0)),
            _ => {
                let ids: Vec<_> = found.iter().map(|user| user.id.to_string()).collect();
                return Err(Error::Conflict {
                    what: format!("several users fit `{which}`; name one by id: {}", ids.join(", ")),
                });
            }
        }
    }
    let all = find(database, &Wanted::default()).await?;
    let names = all.iter().flat_map(|user| [user.id.as_str(), user.name.as_str(), user.email.as_str()]);
    let hint = nearest::hint(which, names, otherwise(database.has_table(OPEN_WEBUIS).await?));
    Err(Error::NotFound { what: "user", name: which.to_owned(), hint })
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
    let same = format!(
        "SELECT id FROM {table} WHERE id = $1 OR lower(name) = $2 OR ($3 <> '' AND lower(email) = $3) ORDER BY id LIMIT 1"
    );
    let insert = format!("INSERT INTO {table} (id, name, email, seen_at) VALUES ($1, $2, $3, $4)");
    let now = accounting::Clock::now(&crate::SystemClock).as_microsecond();
    in_transaction!(database, transaction => {
        let query = sqlx::query_scalar(AssertSqlSafe(same)).bind(made.id.as_str());
        let query = query.bind(made.name.to_lowercase()).bind(made.email.to_lowercase());
        let there: Option<String> = query.fetch_optional(&mut *transaction).await?;
        if let Some(there) = there {
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
