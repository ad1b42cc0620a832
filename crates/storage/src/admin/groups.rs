//! Credit groups: each adds its credits to the daily allowance of its members. In the original's tables.

use std::collections::HashMap;

use accounting::UserId;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::database::in_transaction;
use crate::{Database, Error, KnownUser, nearest, new_id, on_pool};

/// A credit group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// Its name, unique in any case.
    pub name: String,
    /// The credits that it adds for each day, whole.
    pub allowance: i64,
    /// What it is for.
    pub description: String,
}

type Row = (String, Option<String>, Option<i64>, Option<String>);

/// All groups, by name.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn list(database: &Database) -> Result<Vec<Group>, Error> {
    let sql = format!(
        "SELECT CAST(id AS TEXT), name, CAST(max_credit AS BIGINT), description FROM {} ORDER BY lower(name)",
        database.table("token_tracking_credit_group")
    );
    let rows: Vec<Row> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    rows.into_iter().map(read).collect()
}

/// The group with that name, in any case.
///
/// # Errors
/// [`Error::NotFound`] if there is none.
pub async fn get(database: &Database, name: &str) -> Result<Group, Error> {
    let all = list(database).await?;
    let found = all.iter().find(|group| group.name.to_lowercase() == name.to_lowercase());
    found.cloned().ok_or_else(|| {
        let names = all.iter().map(|group| group.name.as_str());
        let hint = nearest::hint(name, names, "`owui-token-tracking credit-group list` shows all");
        Error::NotFound { what: "credit group", name: name.to_owned(), hint }
    })
}

/// Makes a group.
///
/// # Errors
/// [`Error::Conflict`] if there is one of that name.
pub async fn create(
    database: &Database,
    name: &str,
    allowance: i64,
    description: &str,
) -> Result<Group, Error> {
    let group = Group {
        id: new_id(),
        name: bounded(name, "a name")?,
        allowance: in_range(allowance)?,
        description: bounded(description, "a description")?,
    };
    let sql = format!(
        "INSERT INTO {} (id, name, max_credit, description) VALUES ({}, $2, $3, $4)",
        database.table("token_tracking_credit_group"),
        database.uuid("$1")
    );
    on_pool!(database, pool => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).bind(&group.name);
        let done = query.bind(group.allowance).bind(&group.description).execute(pool).await.map_err(Error::from);
        done.map_err(|error| taken(error, name))?;
    });
    Ok(group)
}

/// What of a group is to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// The credits that it adds for each day, whole.
    pub allowance: Option<i64>,
    /// What it is for.
    pub description: Option<String>,
}

/// Changes a group.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group, [`Error::Conflict`] if another has the new name.
pub async fn update(database: &Database, name: &str, change: Change) -> Result<Group, Error> {
    let mut group = get(database, name).await?;
    if let Some(name) = &change.name {
        group.name = bounded(name, "a name")?;
    }
    if let Some(allowance) = change.allowance {
        group.allowance = in_range(allowance)?;
    }
    if let Some(description) = &change.description {
        group.description = bounded(description, "a description")?;
    }
    let sql = format!(
        "UPDATE {} SET name = $2, max_credit = $3, description = $4 WHERE id = {}",
        database.table("token_tracking_credit_group"),
        database.uuid("$1")
    );
    on_pool!(database, pool => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).bind(&group.name);
        let query = query.bind(group.allowance).bind(&group.description);
        query.execute(pool).await.map_err(Error::from).map_err(|error| taken(error, &group.name))?;
    });
    Ok(group)
}

/// The groups of each user who is in any.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn memberships(database: &Database) -> Result<HashMap<String, Vec<Group>>, Error> {
    let sql = format!(
        "SELECT DISTINCT CAST(user_id AS TEXT), CAST(credit_group_id AS TEXT) FROM {} WHERE user_id IS NOT NULL",
        database.table("token_tracking_credit_group_user")
    );
    let rows: Vec<(String, Option<String>)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let all = list(database).await?;
    let mut memberships: HashMap<String, Vec<Group>> = HashMap::new();
    for (user, id) in rows {
        let id = id.and_then(|id| Uuid::try_parse(&id).ok());
        let group = all.iter().find(|group| Some(group.id) == id);
        memberships.entry(user).or_default().extend(group.cloned());
    }
    memberships.values_mut().for_each(|groups| groups.sort_by_key(|group| group.name.to_lowercase()));
    Ok(memberships)
}

/// Deletes a group; one with members only if `force`.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group, [`Error::Conflict`] if it has members.
pub async fn delete(database: &Database, name: &str, force: bool) -> Result<(), Error> {
    let group = get(database, name).await?;
    let members = members(database, name).await?.len();
    if members > 0 && !force {
        let what = format!(
            "the credit group `{name}` has {members} members; delete it with --force, or remove them first"
        );
        return Err(Error::Conflict { what });
    }
    let unlink = format!(
        "DELETE FROM {} WHERE credit_group_id = {}",
        database.table("token_tracking_credit_group_user"),
        database.uuid("$1")
    );
    let remove = format!(
        "DELETE FROM {} WHERE id = {}",
        database.table("token_tracking_credit_group"),
        database.uuid("$1")
    );
    let id = group.id.simple().to_string();
    in_transaction!(database, transaction => {
        sqlx::query(AssertSqlSafe(unlink)).bind(&id).execute(&mut *transaction).await?;
        sqlx::query(AssertSqlSafe(remove)).bind(&id).execute(&mut *transaction).await?;
    });
    Ok(())
}

/// Adds a user; one who is in it already stays so.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group.
pub async fn add_user(database: &Database, name: &str, user: &UserId) -> Result<(), Error> {
    let group = get(database, name).await?;
    let table = database.table("token_tracking_credit_group_user");
    let id = database.uuid("$1");
    let sql = format!(
        "INSERT INTO {table} (credit_group_id, user_id) SELECT {id}, $2 \
         WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE credit_group_id = {id} AND user_id = $2)"
    );
    in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).bind(user.as_str());
        query.execute(&mut *transaction).await?;
    });
    Ok(())
}

/// Removes a user.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group, or the user is not in it.
pub async fn remove_user(database: &Database, name: &str, user: &UserId) -> Result<(), Error> {
    let group = get(database, name).await?;
    let sql = format!(
        "DELETE FROM {} WHERE credit_group_id = {} AND user_id = $2",
        database.table("token_tracking_credit_group_user"),
        database.uuid("$1")
    );
    let removed = on_pool!(database, pool => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).bind(user.as_str());
        query.execute(pool).await?.rows_affected()
    });
    if removed == 0 { Err(Error::not_found("member", user)) } else { Ok(()) }
}

/// The members of a group.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group.
pub async fn members(database: &Database, name: &str) -> Result<Vec<KnownUser>, Error> {
    let group = get(database, name).await?;
    let users = if database.has_table("user").await? { "user" } else { "token_tracking_user" };
    let sql = format!(
        "SELECT DISTINCT CAST(member.user_id AS TEXT), CAST(known.name AS TEXT), CAST(known.email AS TEXT) \
         FROM {} AS member LEFT JOIN {} AS known ON known.id = member.user_id WHERE member.credit_group_id = {} ORDER BY 1",
        database.table("token_tracking_credit_group_user"),
        database.table(users),
        database.uuid("$1")
    );
    let rows: Vec<(String, Option<String>, Option<String>)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).fetch_all(pool).await?
    });
    let read = |(id, name, email): (String, Option<String>, Option<String>)| {
        Ok(KnownUser {
            id: UserId::new(id)?,
            name: name.unwrap_or_default(),
            email: email.unwrap_or_default(),
        })
    };
    rows.into_iter().map(read).collect()
}

fn taken(error: Error, name: &str) -> Error {
    match error {
        Error::Conflict { .. } => {
            Error::Conflict { what: format!("there is a credit group `{name}` already") }
        }
        other => other,
    }
}

fn read((id, name, allowance, description): Row) -> Result<Group, Error> {
    let wrong = |column: &str| Error::Inconsistency {
        table: "token_tracking_credit_group".into(),
        column: column.into(),
        row: id.clone(),
    };
    Ok(Group {
        id: Uuid::try_parse(&id).map_err(|_| wrong("id"))?,
        name: name.ok_or_else(|| wrong("name"))?,
        allowance: allowance.unwrap_or_default(),
        description: description.unwrap_or_default(),
    })
}

/// The original keeps whole credits in 32 bits.
fn in_range(allowance: i64) -> Result<i64, Error> {
    let fits = i32::try_from(allowance).is_ok_and(|allowance| allowance >= 0);
    if fits {
        Ok(allowance)
    } else {
        Err(Error::Invalid {
            what: format!("{allowance} can't be an allowance: write whole credits from 0 to {}", i32::MAX),
        })
    }
}

fn bounded(text: &str, what: &str) -> Result<String, Error> {
    if text.chars().count() <= 255 && !text.contains('\0') && !(text.is_empty() && what == "a name") {
        Ok(text.to_owned())
    } else {
        Err(Error::Invalid { what: format!("{what} has 1 to 255 characters") })
    }
}
