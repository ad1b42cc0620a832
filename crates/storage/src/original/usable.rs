//! Whether the original's tables are such that they can be taken over, before anything is changed.

use sqlx::AssertSqlSafe;

use super::schema::{SPONSORED, TABLES};
use crate::{Database, Error, Kind, on_pool};

/// The columns that are read or written here, of each of its tables in their order.
const COLUMNS: [&[&str]; 7] = [
    &["log_date", "user_id", "provider", "model_id", "prompt_tokens", "response_tokens"],
    &[
        "id",
        "provider",
        "name",
        "input_cost_credits",
        "per_input_tokens",
        "output_cost_credits",
        "per_output_tokens",
    ],
    &["id", "name", "max_credit", "description"],
    &["credit_group_id", "user_id"],
    &["setting_key", "setting_value", "description"],
    &["id", "creation_date", "name", "sponsor_id", "total_credit_limit", "daily_credit_limit"],
    &[SPONSORED, "base_model_id"],
];
const GROUPS: &str = "token_tracking_credit_group";

/// Makes sure that the original's tables can be taken over.
///
/// # Errors
/// [`Error::Conflict`] names the column that is missing, or the groups that can't both be there, and says what to do.
pub async fn require_usable(database: &Database) -> Result<(), Error> {
    for (table, needed) in TABLES.into_iter().zip(COLUMNS) {
        let there = columns(database, table).await?;
        let missing: Vec<&str> =
            needed.iter().copied().filter(|column| !there.iter().any(|name| name == column)).collect();
        if !there.is_empty() && !missing.is_empty() {
            return Err(Error::Conflict {
                what: format!(
                    "the table {table} has no column {}; it has {}. So it is not one of openwebui-token-tracking 0.1, but perhaps of \
                     a variant of it: give the columns the names that 0.1.10 has (ALTER TABLE {table} RENAME COLUMN …), and \
                     run this again. Nothing was changed",
                    missing.join(", "),
                    there.join(", ")
                ),
            });
        }
    }
    groups(database).await
}

/// The index on the names of groups may have been dropped; what it forbids can't be taken over.
async fn groups(database: &Database) -> Result<(), Error> {
    if !database.has_table(GROUPS).await? {
        return Ok(());
    }
    let table = database.table(GROUPS);
    let sql = format!(
        "SELECT CAST(id AS TEXT), name, lower(name) FROM {table} WHERE name IS NOT NULL ORDER BY 3, 2, 1"
    );
    let rows: Vec<(String, String, String)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let same = rows.windows(2).find(|pair| pair[0].2 == pair[1].2);
    let Some([(first_id, first, _), (id, name, _)]) = same else { return Ok(()) };
    Err(Error::Conflict {
        what: format!(
            "the credit groups `{first}` (id {first_id}) and `{name}` (id {id}) have the same name but for the case, which \
             version 0.1 does not allow either. Rename one, such as with UPDATE {GROUPS} SET name = '{} 2' WHERE id = '{id}', \
             and run this again. Nothing was changed",
            name.replace('\'', "''")
        ),
    })
}

/// The columns of a table; none if it is not there.
async fn columns(database: &Database, table: &str) -> Result<Vec<String>, Error> {
    let sql = match database.kind() {
        Kind::Sqlite => "SELECT name FROM pragma_table_info($1) WHERE $2 = $2 ORDER BY cid",
        Kind::Postgres => {
            "SELECT CAST(column_name AS TEXT) FROM information_schema.columns \
             WHERE table_name = $1 AND table_schema = $2 ORDER BY ordinal_position"
        }
    };
    Ok(on_pool!(database, pool => {
        sqlx::query_scalar(sql).bind(table).bind(database.schema()).fetch_all(pool).await?
    }))
}
