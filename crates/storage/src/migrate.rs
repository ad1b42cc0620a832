//! Our migrations, under a lock: of several processes that start at once, one migrates and the others wait.
//!
//! The original's tables are created where they are missing and never altered; Open WebUI's `user` table is only looked
//! for. Migrations are append-only.

use sqlx::{AssertSqlSafe, Row, raw_sql};

use crate::database::LOCK;
use crate::{Database, Error, Kind, on_pool};

/// Our migrations, oldest first. Version N is the state after the first N.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001_tracking.sql"), include_str!("migrations/0002_administration.sql")];
/// The schema that this program needs.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub const CURRENT: i64 = MIGRATIONS.len() as i64;

const ORIGINAL_SQLITE: &str = include_str!("migrations/original_sqlite.sql");
const ORIGINAL_POSTGRES: &str = include_str!("migrations/original_postgres.sql");
/// The newest migration of the original, noted where we create all of its tables.
pub const ORIGINAL_HEAD: &str = "a118dd7f6b7f";

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The schema before; 0 for none.
    pub from: i64,
    /// The schema now.
    pub to: i64,
    /// Whether the original's tables were there already.
    pub original_found: bool,
    /// Whether Open WebUI's `user` table is there.
    pub user_table: bool,
}

/// The state of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaStatus {
    /// The schema found; 0 for none.
    pub found: i64,
    /// The schema that this program needs.
    pub known: i64,
}

/// The steps of a migration inside a transaction of either kind; evaluates to the version found.
macro_rules! apply {
    ($transaction:expr, $kind:expr, $version_table:expr, $original:expr, $original_found:expr) => {{
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {} (version BIGINT NOT NULL PRIMARY KEY)",
            $version_table
        );
        raw_sql(AssertSqlSafe(create)).execute(&mut **$transaction).await?;
        let select = format!("SELECT COALESCE(MAX(version), 0) FROM {}", $version_table);
        let from: i64 = sqlx::query(AssertSqlSafe(select)).fetch_one(&mut **$transaction).await?.try_get(0)?;
        if from > CURRENT {
            return Err(Error::NewerSchema { found: from, known: CURRENT });
        }
        if from < CURRENT {
            raw_sql(AssertSqlSafe($original.clone())).execute(&mut **$transaction).await?;
            if !$original_found {
                let head = format!(
                    "CREATE TABLE IF NOT EXISTS token_tracking_alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY); \
                     INSERT INTO token_tracking_alembic_version (version_num) VALUES ('{ORIGINAL_HEAD}') ON CONFLICT DO NOTHING"
                );
                raw_sql(AssertSqlSafe(head)).execute(&mut **$transaction).await?;
            }
        }
        for (version, migration) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
            let migration = filled_in(migration, $kind);
            raw_sql(AssertSqlSafe(migration)).execute(&mut **$transaction).await?;
            let note = format!("INSERT INTO {} (version) VALUES ({version})", $version_table);
            raw_sql(AssertSqlSafe(note)).execute(&mut **$transaction).await?;
        }
        from
    }};
}
/// Brings the database to the schema of this program. Safe to run at every start.
///
/// # Errors
/// [`Error::NewerSchema`] if a newer version was here, [`Error::NoRights`] if the database user may not create tables.
pub async fn migrate(database: &Database) -> Result<Migrated, Error> {
    let user_table = database.has_table("user").await?;
    let original_found = database.has_table("token_tracking_usage_log").await?;
    let version_table = database.table("token_tracking_schema_version");
    let reference = if user_table { "REFERENCES \"user\" (id)" } else { "" };
    let original = match database.kind() {
        Kind::Sqlite => ORIGINAL_SQLITE,
        Kind::Postgres => ORIGINAL_POSTGRES,
    }
    .replace("/*user*/", reference);
    let from: i64 = match database.pool() {
        crate::Pool::Sqlite(pool) => {
            let mut transaction = begin_immediate(pool).await?;
            let from = apply!(&mut transaction, database.kind(), version_table, original, original_found);
            transaction.commit().await?;
            from
        }
        crate::Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
            let path = format!("SET LOCAL search_path TO \"{}\"", database.schema().replace('"', "\"\""));
            raw_sql(AssertSqlSafe(path)).execute(&mut *transaction).await?;
            let from = apply!(&mut transaction, database.kind(), version_table, original, original_found);
            transaction.commit().await?;
            from
        }
    };
    Ok(Migrated { from, to: CURRENT, original_found, user_table })
}

/// A migration with its marks filled in.
fn filled_in(migration: &str, kind: Kind) -> String {
    let (clustered, changing) = match kind {
        Kind::Sqlite => ("WITHOUT ROWID", ""),
        Kind::Postgres => ("", "WITH (fillfactor = 50)"),
    };
    migration.replace("/*clustered*/", clustered).replace("/*changing*/", changing)
}

async fn begin_immediate(pool: &sqlx::SqlitePool) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, Error> {
    Ok(pool.begin_with("BEGIN IMMEDIATE").await?)
}

/// Which schema the database has.
///
/// # Errors
/// [`Error::Unavailable`] if it can't be reached.
pub async fn status(database: &Database) -> Result<SchemaStatus, Error> {
    let found = if database.has_table("token_tracking_schema_version").await? {
        let sql = format!(
            "SELECT COALESCE(MAX(version), 0) FROM {}",
            database.table("token_tracking_schema_version")
        );
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?)
    } else {
        0
    };
    Ok(SchemaStatus { found, known: CURRENT })
}

/// Makes sure that the database has the schema of this program.
///
/// # Errors
/// [`Error::NotMigrated`] or [`Error::NewerSchema`] if it has another.
pub async fn require_current(database: &Database) -> Result<(), Error> {
    let SchemaStatus { found, known } = status(database).await?;
    match found.cmp(&known) {
        std::cmp::Ordering::Less => Err(Error::NotMigrated { found, known }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::NewerSchema { found, known }),
    }
}
