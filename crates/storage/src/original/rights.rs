//! Which right the database user lacks for our tables to be made, by name.

use sqlx::PgPool;

use super::schema::{TABLES, USAGE_LOG, VERSION_TABLE};
use crate::{Database, Error, Pool};

/// The rights that a migration needs and that are missing on PostgreSQL: each with what it is for.
pub(crate) async fn missing(database: &Database) -> Result<Vec<String>, Error> {
    let Pool::Postgres(pool) = database.pool() else { return Ok(Vec::new()) };
    let schema = database.schema();
    let mut missing = Vec::new();
    for right in ["USAGE", "CREATE"] {
        let sql = "SELECT COALESCE((SELECT has_schema_privilege(oid, $2) FROM pg_namespace WHERE nspname = $1), false)";
        let has: bool = sqlx::query_scalar(sql).bind(schema).bind(right).fetch_one(pool).await?;
        if !has {
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
    for table in TABLES.into_iter().chain([VERSION_TABLE]) {
        for right in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
            if exists(pool, schema, table).await? && !may(pool, &database.table(table), right).await? {
                missing.push(format!("{right} on the table {schema}.{table}"));
            }
        }
    }
    if exists(pool, schema, "user").await? {
        let refers = !exists(pool, schema, "token_tracking_credit_group_user").await?;
        for right in ["SELECT", "REFERENCES"].into_iter().take(if refers { 2 } else { 1 }) {
            if !may(pool, &database.table("user"), right).await? {
                missing.push(format!("{right} on the table {schema}.user"));
            }
        }
    }
    Ok(missing)
}

async fn may(pool: &PgPool, table: &str, right: &str) -> Result<bool, Error> {
    let sql = "SELECT has_table_privilege($1, $2)";
    Ok(sqlx::query_scalar(sql).bind(table).bind(right).fetch_one(pool).await?)
}

/// Whether a table is there, also one that the database user has no right on.
async fn exists(pool: &PgPool, schema: &str, table: &str) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
        WHERE nspname = $1 AND relname = $2)";
    Ok(sqlx::query_scalar(sql).bind(schema).bind(table).fetch_one(pool).await?)
}
