//! Our migrations, under a lock: of several processes that start at once, one migrates and the others wait.
//!
//! The original's tables are brought to its own newest state in the same transaction, and its rows stay as they are; Open
//! WebUI's `user` table is only looked for. Migrations are append-only.

use sqlx::{AssertSqlSafe, Row, raw_sql};

use crate::database::LOCK;
use crate::original::{self, schema};
use crate::{Database, Error, Kind, on_pool};

/// Our migrations, oldest first. Version N is the state after the first N.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001_tracking.sql"), include_str!("migrations/0002_administration.sql")];
/// The table that notes them.
const VERSIONS: &str = "token_tracking_schema_version";
/// The schema that this program needs.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub const CURRENT: i64 = MIGRATIONS.len() as i64;

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
    ($transaction:expr, $kind:expr, $version_table:expr, $original:expr) => {{
        let create =
            format!("CREATE TABLE IF NOT EXISTS {} (version BIGINT NOT NULL PRIMARY KEY)", $version_table);
        raw_sql(AssertSqlSafe(create)).execute(&mut **$transaction).await?;
        let select = format!("SELECT COALESCE(MAX(version), 0) FROM {}", $version_table);
        let from: i64 =
            sqlx::query(AssertSqlSafe(select)).fetch_one(&mut **$transaction).await?.try_get(0)?;
        if from > CURRENT {
            return Err(Error::NewerSchema { found: from, known: CURRENT });
        }
        if from < CURRENT {
            raw_sql(AssertSqlSafe($original.clone())).execute(&mut **$transaction).await?;
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
/// [`Error::NewerSchema`] if a newer version was here, [`Error::NoRights`] if the database user may not do what it takes, with
/// what is missing.
pub async fn migrate(database: &Database) -> Result<Migrated, Error> {
    let user_table = database.has_table("user").await?;
    let original_found = database.has_table(schema::USAGE_LOG).await?;
    if status(database).await?.found == CURRENT {
        return Ok(Migrated { from: CURRENT, to: CURRENT, original_found, user_table });
    }
    match apply_all(database, user_table).await {
        Ok(from) => Ok(Migrated { from, to: CURRENT, original_found, user_table }),
        Err(Error::NoRights { what }) => {
            let missing = original::missing_rights(database).await.unwrap_or_default();
            let what = if missing.is_empty() { what } else { missing.join("; ") };
            Err(Error::NoRights { what })
        }
        Err(error) => Err(error),
    }
}

async fn apply_all(database: &Database, user_table: bool) -> Result<i64, Error> {
    let version_table = database.table(VERSIONS);
    let original = schema::to_head(database, user_table).await?;
    match database.pool() {
        crate::Pool::Sqlite(pool) => {
            let mut transaction = begin_immediate(pool).await?;
            let from = apply!(&mut transaction, database.kind(), version_table, original);
            transaction.commit().await?;
            Ok(from)
        }
        crate::Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
            let path = format!("SET LOCAL search_path TO \"{}\"", database.schema().replace('"', "\"\""));
            raw_sql(AssertSqlSafe(path)).execute(&mut *transaction).await?;
            let from = apply!(&mut transaction, database.kind(), version_table, original);
            transaction.commit().await?;
            Ok(from)
        }
    }
}

/// All tables of ours, as the migrations make them.
pub(crate) fn tables() -> Vec<&'static str> {
    let lines = MIGRATIONS.into_iter().flat_map(str::lines);
    let made = lines.filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next());
    made.chain([VERSIONS]).collect()
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
    let found = if database.has_table(VERSIONS).await? {
        let sql = format!("SELECT COALESCE(MAX(version), 0) FROM {}", database.table(VERSIONS));
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
