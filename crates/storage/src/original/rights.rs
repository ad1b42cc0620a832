//! Which rights the database user lacks on PostgreSQL, by name.

use super::schema::USAGE_LOG;
use crate::{Database, Error, PgConnections, Pool};

/// The rights that a migration needs and that are missing: each with what it is for.
pub(crate) async fn missing(database: &Database) -> Result<Vec<String>, Error> {
    let Pool::Postgres(pool) = database.pool() else { return Ok(Vec::new()) };
    let schema = database.schema();
    let mut missing = Vec::new();
    for right in ["USAGE", "CREATE"] {
        if !on_schema(pool, schema, right).await? {
            missing.push(format!("{right} on the schema {schema}"));
        }
    }
    // Owners of a table, their members, and superusers. A column or an index is only for them to add.
    let owner = "SELECT pg_has_role(current_user, relowner, 'USAGE'), CAST(pg_get_userbyid(relowner) AS TEXT) \
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = $2";
    for table in [USAGE_LOG, "token_tracking_credit_group"] {
        let row: Option<(bool, String)> =
            sqlx::query_as(owner).bind(schema).bind(table).fetch_optional(pool).await?;
        if let Some((false, name)) = row {
            missing.push(format!("ownership of the table {schema}.{table}, which belongs to {name}"));
        }
    }
    let on_tables = on_tables(pool, schema).await?;
    missing.extend(on_tables.iter().map(|(right, table)| format!("{right} on the table {schema}.{table}")));
    // The table of members refers to Open WebUI's users.
    let refers = "SELECT has_table_privilege(users.oid, 'REFERENCES') FROM pg_class AS users \
        JOIN pg_namespace ON pg_namespace.oid = users.relnamespace WHERE nspname = $1 AND relname = 'user' \
        AND NOT EXISTS (SELECT FROM pg_class AS members WHERE members.relnamespace = users.relnamespace \
          AND members.relname = 'token_tracking_credit_group_user')";
    let may: Option<bool> = sqlx::query_scalar(refers).bind(schema).fetch_optional(pool).await?;
    if may == Some(false) {
        missing.push(format!("REFERENCES on the table {schema}.user"));
    }
    Ok(missing)
}

/// Whether the user has a right on the schema.
pub(crate) async fn on_schema(pool: &PgConnections, schema: &str, right: &str) -> Result<bool, Error> {
    let sql =
        "SELECT COALESCE((SELECT has_schema_privilege(oid, $2) FROM pg_namespace WHERE nspname = $1), false)";
    Ok(sqlx::query_scalar(sql).bind(schema).bind(right).fetch_one(pool).await?)
}

/// The rights that are missing on the tables that are there, each with its table: to read and write ours and the original's, to
/// read Open WebUI's.
pub(crate) async fn on_tables(pool: &PgConnections, schema: &str) -> Result<Vec<(String, String)>, Error> {
    let sql = "SELECT kind, CAST(relname AS TEXT) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, \
           unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind \
         WHERE nspname = $1 AND relkind IN ('r', 'p') AND NOT has_table_privilege(pg_class.oid, kind) AND ( \
           relname LIKE 'token\\_tracking\\_%' \
           OR (kind = 'SELECT' AND relname IN ('user', 'group', 'group_member', 'model', 'function'))) ORDER BY 1, 2";
    Ok(sqlx::query_as(sql).bind(schema).fetch_all(pool).await?)
}
