//! The groups of Open WebUI and who is in them, from its own tables.
//!
//! Newer versions keep the members in a table of their own and let groups lie in groups: whoever is in a group is in those
//! around it too. Older ones keep a JSON list with the group.

use std::collections::{BTreeSet, HashMap};

use sqlx::AssertSqlSafe;

use crate::{Database, Error, on_pool};

/// A group of Open WebUI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenWebUiGroup {
    /// Its name. Open WebUI lets two groups have the same.
    pub name: String,
    /// The ids of its members, those of groups in it included.
    pub members: BTreeSet<String>,
}

/// All groups by id; none where there is no Open WebUI beside us.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away, [`Error::Inconsistency`] for a list of members that is none.
pub async fn members(database: &Database) -> Result<HashMap<String, OpenWebUiGroup>, Error> {
    if !database.has_table("group").await? {
        return Ok(HashMap::new());
    }
    let table = database.table("group");
    let parent =
        if database.has_column("group", "parent_group_id").await? { "parent_group_id" } else { "NULL" };
    let sql = format!("SELECT CAST(id AS TEXT), CAST(name AS TEXT), CAST({parent} AS TEXT) FROM {table}");
    let rows: Vec<(String, Option<String>, Option<String>)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let mut groups = HashMap::new();
    let mut parents = HashMap::new();
    for (id, name, parent) in rows {
        parents.extend(parent.map(|parent| (id.clone(), parent)));
        groups.insert(id, OpenWebUiGroup { name: name.unwrap_or_default(), members: BTreeSet::new() });
    }
    for (group, user) in memberships(database).await? {
        let mut around = Some(&group);
        // Somebody else's table may hold a circle: no way up is longer than there are groups.
        for _ in 0..groups.len() {
            let Some(found) = around.and_then(|id| groups.get_mut(id)) else { break };
            found.members.insert(user.clone());
            around = around.and_then(|id| parents.get(id));
        }
    }
    Ok(groups)
}

/// Who is in which group directly.
async fn memberships(database: &Database) -> Result<Vec<(String, String)>, Error> {
    if database.has_table("group_member").await? {
        let table = database.table("group_member");
        let sql = format!("SELECT CAST(group_id AS TEXT), CAST(user_id AS TEXT) FROM {table}");
        return Ok(on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?));
    }
    if !database.has_column("group", "user_ids").await? {
        return Ok(Vec::new());
    }
    let table = database.table("group");
    let sql =
        format!("SELECT CAST(id AS TEXT), CAST(user_ids AS TEXT) FROM {table} WHERE user_ids IS NOT NULL");
    let rows: Vec<(String, String)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let mut found = Vec::new();
    for (id, users) in rows {
        // JSON's null is no member.
        let users: Option<Vec<String>> = serde_json::from_str(&users).map_err(|_| Error::Inconsistency {
            table: "group".into(),
            column: "user_ids".into(),
            row: id.clone(),
        })?;
        found.extend(users.into_iter().flatten().map(|user| (id.clone(), user)));
    }
    Ok(found)
}
