//! Credit groups: each adds its credits to the allowances of its members. In the original's tables, and beside them what
//! the original does not know.

use std::collections::{BTreeSet, HashMap};

use accounting::{Clock, Credits, Label, UserId, check_name, check_text};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::admin::audit::{self, note};
use crate::admin::users;
use crate::database::in_transaction;
use crate::groups::{self, Membership};
use crate::names::{is_same, meant};
use crate::{Database, Error, Kind, KnownUser, SystemClock, nearest, new_id, on_pool, open_webui_groups};

/// The most characters of a name or a description: the original's columns.
const LONGEST: usize = 255;

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
    /// The credits that it adds for each week, if it has a weekly limit.
    pub weekly: Option<Credits>,
    /// The credits that it adds for each month, if it has a monthly limit.
    pub monthly: Option<Credits>,
    /// The id of the Open WebUI group whose members are in it too.
    pub open_webui_group: Option<String>,
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
    /// The credits that it adds for each week; `Some(None)` for no weekly limit.
    pub weekly: Option<Option<Credits>>,
    /// The credits that it adds for each month; `Some(None)` for no monthly limit.
    pub monthly: Option<Option<Credits>>,
    /// The Open WebUI group to follow, by id or name; `Some(None)` for none.
    pub open_webui_group: Option<Option<String>>,
}

type Row = (String, Option<String>, Option<i64>, Option<String>, Option<i64>, Option<i64>, Option<String>);

/// All groups, by name.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn list(database: &Database) -> Result<Vec<Group>, Error> {
    let sql = select(database);
    let rows: Vec<Row> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    rows.into_iter().map(read).collect()
}

/// The group with that name, in any case.
///
/// # Errors
/// [`Error::NotFound`] if there is none.
pub async fn get(database: &Database, name: &str) -> Result<Group, Error> {
    named(list(database).await?, name)
}

/// Makes a group that adds to the daily allowance only.
///
/// # Errors
/// [`Error::Conflict`] if there is one of that name.
pub async fn create(
    database: &Database,
    name: &str,
    allowance: i64,
    description: &str,
) -> Result<Group, Error> {
    let terms =
        Change { allowance: Some(allowance), description: Some(description.to_owned()), ..Change::default() };
    create_with(database, name, terms).await
}

/// Makes a group on those terms.
///
/// # Errors
/// [`Error::Conflict`] if there is one of that name, [`Error::NotFound`] if there is no such group in Open WebUI.
pub async fn create_with(database: &Database, name: &str, terms: Change) -> Result<Group, Error> {
    let terms = checked(database, Change { name: Some(name.to_owned()), ..terms }).await?;
    let nothing = Group {
        id: new_id(),
        name: String::new(),
        allowance: 0,
        description: String::new(),
        weekly: None,
        monthly: None,
        open_webui_group: None,
    };
    let group = changed(&nothing, terms);
    let sql = format!(
        "INSERT INTO {} (id, name, max_credit, description) VALUES ({}, $2, $3, $4)",
        database.table("token_tracking_credit_group"),
        database.uuid("$1")
    );
    let (select, beside) = (select(database), write_beside(database));
    in_transaction!(database, transaction => {
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(select)).fetch_all(&mut *transaction).await?;
        not_taken(rows, &group)?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).bind(&group.name);
        let query = query.bind(group.allowance).bind(&group.description);
        let done = query.execute(&mut *transaction).await.map_err(Error::from);
        done.map_err(|error| taken(error, &group.name))?;
        let query = sqlx::query(AssertSqlSafe(beside)).bind(group.id.simple().to_string());
        let query = query.bind(group.weekly.map(Credits::micro)).bind(group.monthly.map(Credits::micro));
        query.bind(&group.open_webui_group).execute(&mut *transaction).await?;
        note!(transaction, database, audit::Change {
            action: "credit-group create",
            subject: &group.name,
            before: None,
            after: Some(shown(&group)),
        });
    });
    Ok(group)
}

/// Changes a group. It counts within two seconds; what is under way is settled on the accounts of its admission.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group, here or in Open WebUI, [`Error::Conflict`] if another has the new name.
pub async fn update(database: &Database, name: &str, change: Change) -> Result<Group, Error> {
    let change = checked(database, change).await?;
    let sql = format!(
        "UPDATE {} SET name = $2, max_credit = $3, description = $4 WHERE id = {}",
        database.table("token_tracking_credit_group"),
        database.uuid("$1")
    );
    let (select, beside) = (select(database), write_beside(database));
    let group = in_transaction!(database, transaction => {
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(select)).fetch_all(&mut *transaction).await?;
        let before = named(rows.iter().cloned().map(read).collect::<Result<_, _>>()?, name)?;
        let group = changed(&before, change);
        if group.name != before.name {
            not_taken(rows, &group)?;
        }
        let query = sqlx::query(AssertSqlSafe(sql)).bind(group.id.simple().to_string()).bind(&group.name);
        let query = query.bind(group.allowance).bind(&group.description);
        let done = query.execute(&mut *transaction).await.map_err(Error::from);
        done.map_err(|error| taken(error, &group.name))?;
        let query = sqlx::query(AssertSqlSafe(beside)).bind(group.id.simple().to_string());
        let query = query.bind(group.weekly.map(Credits::micro)).bind(group.monthly.map(Credits::micro));
        query.bind(&group.open_webui_group).execute(&mut *transaction).await?;
        if before != group {
            note!(transaction, database, audit::Change {
                action: "credit-group update",
                subject: &group.name,
                before: Some(shown(&before)),
                after: Some(shown(&group)),
            });
        }
        group
    });
    Ok(group)
}

/// The groups of each user who is in any, named or by the Open WebUI group that they follow.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn memberships(database: &Database) -> Result<HashMap<String, Vec<Group>>, Error> {
    let members = groups::members(database, &groups::terms(database).await?).await?;
    let mut memberships: HashMap<String, Vec<Group>> = HashMap::new();
    for group in list(database).await? {
        for user in members.get(&group.id).into_iter().flat_map(|members| members.keys()) {
            memberships.entry(user.clone()).or_default().push(group.clone());
        }
    }
    Ok(memberships)
}

/// Deletes a group; one with members only if `force`. Its name is kept for history.
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
    let uuid = database.uuid("$1");
    let links = database.table("token_tracking_credit_group_user");
    let removals = [
        format!("DELETE FROM {links} WHERE credit_group_id = {uuid}"),
        format!("DELETE FROM {} WHERE id = $1", database.table("token_tracking_group")),
        format!("DELETE FROM {} WHERE id = {uuid}", database.table("token_tracking_credit_group")),
    ];
    let keep = format!(
        "INSERT INTO {} (kind, id, name, kept_at) VALUES ('credit_group', $1, $2, $3) \
         ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, kept_at = excluded.kept_at",
        database.table("token_tracking_name")
    );
    let id = group.id.simple().to_string();
    let now = SystemClock.now().as_microsecond();
    in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(keep)).bind(&id).bind(&group.name).bind(now);
        query.execute(&mut *transaction).await?;
        for removal in removals {
            sqlx::query(AssertSqlSafe(removal)).bind(&id).execute(&mut *transaction).await?;
        }
        note!(transaction, database, audit::Change {
            action: "credit-group delete",
            subject: &group.name,
            before: Some(shown(&group)),
            after: None,
        });
    });
    Ok(())
}

/// Adds a user; one who is in it already stays so.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group.
pub async fn add_user(database: &Database, name: &str, user: &UserId) -> Result<(), Error> {
    add_users(database, name, std::slice::from_ref(user)).await.map(drop)
}

/// Adds users, all or none; returns how many were not named in it before.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group.
pub async fn add_users(database: &Database, name: &str, users: &[UserId]) -> Result<usize, Error> {
    let group = get(database, name).await?;
    let id = group.id.simple().to_string();
    let (select, table) = (select_named(database), database.table("token_tracking_credit_group_user"));
    let insert =
        format!("INSERT INTO {table} (credit_group_id, user_id) VALUES ({}, $2)", database.uuid("$1"));
    let exists = format!(
        "SELECT COUNT(*) FROM {} WHERE id = {}",
        database.table("token_tracking_credit_group"),
        database.uuid("$1")
    );
    let added = in_transaction!(database, transaction => {
        let found: i64 =
            sqlx::query_scalar(AssertSqlSafe(exists)).bind(&id).fetch_one(&mut *transaction).await?;
        if found == 0 {
            // Deleted since.
            return Err(missing(name, &[]));
        }
        let before: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(select)).bind(&id).fetch_all(&mut *transaction).await?;
        let before: BTreeSet<String> = before.into_iter().collect();
        let wanted: BTreeSet<&str> = users.iter().map(UserId::as_str).collect();
        let added: Vec<&str> = wanted.into_iter().filter(|user| !before.contains(*user)).collect();
        for user in &added {
            let query = sqlx::query(AssertSqlSafe(insert.clone())).bind(&id).bind(*user);
            query.execute(&mut *transaction).await?;
        }
        if !added.is_empty() {
            note!(transaction, database, audit::Change {
                action: "credit-group add-user",
                subject: &group.name,
                before: None,
                after: Some(json!({ "users": added })),
            });
        }
        added.len()
    });
    Ok(added)
}

/// Removes a user.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group, or the user is not named in it.
pub async fn remove_user(database: &Database, name: &str, user: &UserId) -> Result<(), Error> {
    remove_users(database, name, std::slice::from_ref(user)).await
}

/// Removes users, all or none.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group, or somebody is not named in it.
pub async fn remove_users(database: &Database, name: &str, users: &[UserId]) -> Result<(), Error> {
    let group = get(database, name).await?;
    let id = group.id.simple().to_string();
    let select = select_named(database);
    let delete = format!(
        "DELETE FROM {} WHERE credit_group_id = {} AND user_id = $2",
        database.table("token_tracking_credit_group_user"),
        database.uuid("$1")
    );
    in_transaction!(database, transaction => {
        let before: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(select)).bind(&id).fetch_all(&mut *transaction).await?;
        let before: BTreeSet<String> = before.into_iter().collect();
        let removed: BTreeSet<&str> = users.iter().map(UserId::as_str).collect();
        if let Some(stranger) = removed.iter().find(|user| !before.contains(**user)) {
            let hint = match &group.open_webui_group {
                Some(_) => "; whoever is in the Open WebUI group that it follows leaves it there",
                None => "",
            };
            return Err(Error::NotFound { what: "member", name: (*stranger).into(), hint: hint.into() });
        }
        for user in &removed {
            let query = sqlx::query(AssertSqlSafe(delete.clone())).bind(&id).bind(*user);
            query.execute(&mut *transaction).await?;
        }
        if !removed.is_empty() {
            note!(transaction, database, audit::Change {
                action: "credit-group remove-user",
                subject: &group.name,
                before: Some(json!({ "users": removed })),
                after: None,
            });
        }
    });
    Ok(())
}

/// The members of a group, by id.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group.
pub async fn members(database: &Database, name: &str) -> Result<Vec<KnownUser>, Error> {
    Ok(memberships_of(database, name).await?.into_iter().map(|(user, _)| user).collect())
}

/// The members of a group, by id, and how they came to be in it.
///
/// # Errors
/// [`Error::NotFound`] if there is no such group.
pub async fn memberships_of(database: &Database, name: &str) -> Result<Vec<(KnownUser, Membership)>, Error> {
    let group = get(database, name).await?;
    let mut terms = groups::terms(database).await?;
    terms.retain(|id, _| *id == group.id);
    let members = groups::members(database, &terms).await?.remove(&group.id).unwrap_or_default();
    let known = users::find(database, &users::Wanted::default()).await?;
    let mut known: HashMap<UserId, KnownUser> =
        known.into_iter().map(|user| (user.id.clone(), user)).collect();
    let read = |(id, how): (String, Membership)| {
        let id = UserId::new(id)?;
        let stranger = || KnownUser { id: id.clone(), name: Label::default(), email: Label::default() };
        Ok((known.remove(&id).unwrap_or_else(stranger), how))
    };
    members.into_iter().map(read).collect()
}

/// The id of the Open WebUI group with that id or name.
async fn followed(database: &Database, which: &str) -> Result<String, Error> {
    let all = open_webui_groups(database).await?;
    if all.contains_key(which) {
        return Ok(which.to_owned());
    }
    let mut found = meant(which, all.iter().map(|(id, group)| (id, group.name.as_str())));
    found.sort_unstable();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let names = all.values().map(|group| group.name.as_str());
            let hint =
                nearest::hint(which, names, "name one by id or name, as Open WebUI's admin panel shows it");
            Err(Error::NotFound { what: "Open WebUI group", name: which.to_owned(), hint })
        }
        several => Err(Error::Conflict {
            what: format!(
                "several Open WebUI groups are called `{which}`; name one by id: {}",
                several.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
            ),
        }),
    }
}

/// A change that can be made, with the Open WebUI group by its id.
async fn checked(database: &Database, mut change: Change) -> Result<Change, Error> {
    if let Some(name) = &change.name {
        check_name(name, "the name of a credit group", LONGEST)?;
    }
    if let Some(allowance) = change.allowance {
        in_range(allowance)?;
    }
    if let Some(description) = &change.description {
        // It may have lines, as in the original.
        check_text(&description.replace(['\n', '\r', '\t'], " "), "a description", LONGEST)?;
    }
    for credits in [change.weekly, change.monthly].into_iter().flatten().flatten() {
        not_negative(credits)?;
    }
    if let Some(Some(which)) = change.open_webui_group {
        change.open_webui_group = Some(Some(followed(database, &which).await?));
    }
    Ok(change)
}

fn changed(before: &Group, change: Change) -> Group {
    let Change { name, allowance, description, weekly, monthly, open_webui_group } = change;
    Group {
        id: before.id,
        name: name.unwrap_or_else(|| before.name.clone()),
        allowance: allowance.unwrap_or(before.allowance),
        description: description.unwrap_or_else(|| before.description.clone()),
        weekly: weekly.unwrap_or(before.weekly),
        monthly: monthly.unwrap_or(before.monthly),
        open_webui_group: open_webui_group.unwrap_or_else(|| before.open_webui_group.clone()),
    }
}

fn select(database: &Database) -> String {
    let hex = match database.kind() {
        Kind::Sqlite => "CAST(granted.id AS TEXT)",
        Kind::Postgres => "replace(CAST(granted.id AS TEXT), '-', '')",
    };
    format!(
        "SELECT CAST(granted.id AS TEXT), name, CAST(max_credit AS BIGINT), description, weekly, monthly, open_webui_group \
         FROM {} AS granted LEFT JOIN {} AS beside ON beside.id = {hex} ORDER BY lower(name)",
        database.table("token_tracking_credit_group"),
        database.table("token_tracking_group")
    )
}

fn select_named(database: &Database) -> String {
    format!(
        "SELECT CAST(user_id AS TEXT) FROM {} WHERE credit_group_id = {} AND user_id IS NOT NULL",
        database.table("token_tracking_credit_group_user"),
        database.uuid("$1")
    )
}

fn write_beside(database: &Database) -> String {
    format!(
        "INSERT INTO {} (id, weekly, monthly, open_webui_group) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET weekly = excluded.weekly, monthly = excluded.monthly, \
           open_webui_group = excluded.open_webui_group",
        database.table("token_tracking_group")
    )
}

/// A group as the audit keeps it.
fn shown(group: &Group) -> Value {
    json!({
        "name": group.name,
        "credit_allowance": group.allowance,
        "weekly": group.weekly,
        "monthly": group.monthly,
        "description": group.description,
        "open_webui_group": group.open_webui_group,
    })
}

fn named(groups: Vec<Group>, name: &str) -> Result<Group, Error> {
    match meant(name, groups.iter().map(|group| (group, group.name.as_str()))).as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(missing(name, &groups)),
        several => {
            let each = several.iter().map(|group| format!("{} ({})", group.name, group.id));
            let what = format!(
                "several credit groups fit `{name}`; write it just as it is: {}",
                each.collect::<Vec<_>>().join(", ")
            );
            Err(Error::Conflict { what })
        }
    }
}

fn missing(name: &str, groups: &[Group]) -> Error {
    let names = groups.iter().map(|group| group.name.as_str());
    let hint = nearest::hint(name, names, "`owui-token-tracking credit-group list` shows all");
    Error::NotFound { what: "credit group", name: name.to_owned(), hint }
}

/// Refuses a name that another group has, in any case: the original's index knows that of ASCII alone.
fn not_taken(rows: Vec<Row>, group: &Group) -> Result<(), Error> {
    for other in rows.into_iter().map(read) {
        let other = other?;
        if other.id != group.id && is_same(&other.name, &group.name) {
            let mut what = format!("there is a credit group `{}` already", other.name);
            if other.name != group.name {
                what.push_str(&format!(", and `{}` differs in case alone", group.name));
            }
            return Err(Error::Conflict { what });
        }
    }
    Ok(())
}

fn taken(error: Error, name: &str) -> Error {
    match error {
        Error::Conflict { .. } => {
            Error::Conflict { what: format!("there is a credit group `{name}` already") }
        }
        other => other,
    }
}

fn read((id, name, allowance, description, weekly, monthly, open_webui_group): Row) -> Result<Group, Error> {
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
        weekly: weekly.map(Credits::from_micro),
        monthly: monthly.map(Credits::from_micro),
        open_webui_group,
    })
}

/// The original keeps whole credits in 32 bits.
fn in_range(allowance: i64) -> Result<(), Error> {
    if i32::try_from(allowance).is_ok_and(|allowance| allowance >= 0) {
        Ok(())
    } else {
        Err(Error::Invalid {
            what: format!("{allowance} can't be an allowance: write whole credits from 0 to {}", i32::MAX),
        })
    }
}

fn not_negative(credits: Credits) -> Result<(), Error> {
    if credits.is_negative() {
        let what =
            format!("{credits} can't be an allowance: write an amount of credits, such as 5000, or none");
        return Err(Error::Invalid { what });
    }
    Ok(())
}
