//! Users: Open WebUI's, where its table is, else those that were seen.

use accounting::{Label, UserId};
use sqlx::AssertSqlSafe;

use crate::{Database, Error, KnownUser, nearest, on_pool};

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
    let table = if database.has_table("user").await? { "user" } else { "token_tracking_user" };
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
    let hint = nearest::hint(which, names, "`owui-token-tracking user list` shows all");
    Err(Error::NotFound { what: "user", name: which.to_owned(), hint })
}
