//! Our migrations, under a lock: of several processes that start at once, one migrates and the others wait.
//!
//! The rule it protects: programs of two versions may share a database. Each version says from which schema on a program may
//! still use it; a migration that only adds leaves older programs running and ready, and one that they can't bear waits
//! until they have ended. The original's tables are brought to its own newest state in the same transaction, and its rows
//! stay as they are; Open WebUI's `user` table is only looked for. Migrations are append-only.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row, raw_sql};

use crate::database::LOCK;
use crate::ledger::{LiveOwner, Turn, live_owners};
use crate::original::{self, schema};
use crate::{Database, Error, Kind, on_pool};

/// One step of the schema. Step N of the list leads from version N - 1 to N.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it does.
    pub sql: &'static str,
    /// The oldest schema whose programs may use the database after it: an earlier one where the step only adds, its own
    /// number where it changes what they rely on.
    pub usable_from: i64,
    /// Whether this program works where the step is still to come.
    pub optional: bool,
}

/// Our migrations, oldest first.
pub const MIGRATIONS: [Migration; 8] = [
    Migration { sql: include_str!("migrations/0001_tracking.sql"), usable_from: 1, optional: false },
    Migration { sql: include_str!("migrations/0002_administration.sql"), usable_from: 2, optional: false },
    // It only adds, but programs that know nothing of `usable_from` want exactly their own schema.
    Migration { sql: include_str!("migrations/0003_side_by_side.sql"), usable_from: 3, optional: false },
    // Without it, no refusals are kept.
    Migration { sql: include_str!("migrations/0004_refusals.sql"), usable_from: 3, optional: true },
    Migration { sql: include_str!("migrations/0005_progress.sql"), usable_from: 3, optional: false },
    Migration { sql: include_str!("migrations/0006_adjusted.sql"), usable_from: 3, optional: false },
    // Without it, no such numbers are kept.
    Migration { sql: include_str!("migrations/0007_unknown_usage.sql"), usable_from: 3, optional: true },
    // Only `init` uses it, and makes it first.
    Migration { sql: include_str!("migrations/0008_files.sql"), usable_from: 3, optional: true },
];
/// The table that notes them.
const VERSIONS: &str = "token_tracking_schema_version";
/// The first version that notes `usable_from`, and the schema that each process's program knows.
const SIDE_BY_SIDE: i64 = 3;
/// The newest schema that this program knows.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub const CURRENT: i64 = MIGRATIONS.len() as i64;
/// The oldest schema that this program works with.
pub const NEEDED: i64 = needed();

/// How long a migration waits on PostgreSQL for tables that others use: all who come after it wait as well.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";
/// How often it is tried again after that, and how long the others have then.
const ATTEMPTS: u32 = 15;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);
/// A process of another host that was killed keeps its lease for this long.
const LEASES_LAPSE: Duration = Duration::from_secs(15);

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

/// The state of the schema, and what this program can do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaStatus {
    /// The schema found; 0 for none.
    pub found: i64,
    /// The oldest schema whose programs may use the database.
    pub usable_from: i64,
    /// The oldest schema that this program works with.
    pub needed: i64,
    /// The newest schema that this program knows.
    pub known: i64,
}

impl SchemaStatus {
    /// Whether this program may use the database.
    ///
    /// # Errors
    /// [`Error::NotMigrated`] if the schema is too old for it, [`Error::NewerSchema`] if it is too new.
    pub const fn usable(&self) -> Result<(), Error> {
        let Self { found, usable_from, needed, known } = *self;
        if found < needed {
            Err(Error::NotMigrated { found, known })
        } else if usable_from > known {
            Err(Error::NewerSchema { found, known })
        } else {
            Ok(())
        }
    }
}

const fn needed() -> i64 {
    let (mut needed, mut at) = (0, 0);
    while at < MIGRATIONS.len() {
        if !MIGRATIONS[at].optional {
            needed = at + 1;
        }
        at += 1;
    }
    #[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
    let needed = needed as i64;
    needed
}

/// The steps of a migration inside a transaction of either kind; evaluates to the version found, or to the processes that
/// must end first.
macro_rules! apply {
    ($transaction:expr, $database:expr, $migrations:expr, $original:expr) => {{
        let (database, migrations): (&Database, &[Migration]) = ($database, $migrations);
        let versions = database.table(VERSIONS);
        let create = format!("CREATE TABLE IF NOT EXISTS {versions} (version BIGINT NOT NULL PRIMARY KEY)");
        raw_sql(AssertSqlSafe(create)).execute(&mut **$transaction).await?;
        let select = format!("SELECT COALESCE(MAX(version), 0) FROM {versions}");
        let from: i64 =
            sqlx::query(AssertSqlSafe(select)).fetch_one(&mut **$transaction).await?.try_get(0)?;
        let to_come: Vec<(i64, &Migration)> =
            (1_i64..).zip(migrations).filter(|(version, _)| *version > from).collect();
        let usable_from =
            to_come.iter().map(|(_, migration)| migration.usable_from).max().unwrap_or_default();
        let in_the_way = if from == 0 {
            Vec::new()
        } else {
            // Nobody may begin while we look who runs.
            if database.kind() == Kind::Postgres && usable_from > from {
                let owner = database.table("token_tracking_owner");
                let lock = format!("LOCK TABLE {owner} IN SHARE ROW EXCLUSIVE MODE");
                raw_sql(AssertSqlSafe(lock)).execute(&mut **$transaction).await?;
            }
            live_owners!(*$transaction, database, (from >= SIDE_BY_SIDE).then_some(usable_from))
        };
        if to_come.is_empty() || !in_the_way.is_empty() {
            Applied { from, in_the_way }
        } else {
            raw_sql(AssertSqlSafe($original.clone())).execute(&mut **$transaction).await?;
            for (version, migration) in to_come {
                let sql = filled_in(migration.sql, database.kind());
                raw_sql(AssertSqlSafe(sql)).execute(&mut **$transaction).await?;
                let note = if version < SIDE_BY_SIDE {
                    format!("INSERT INTO {versions} (version) VALUES ({version})")
                } else {
                    let usable_from = migration.usable_from;
                    format!("INSERT INTO {versions} (version, usable_from) VALUES ({version}, {usable_from})")
                };
                raw_sql(AssertSqlSafe(note)).execute(&mut **$transaction).await?;
            }
            Applied { from, in_the_way }
        }
    }};
}

/// What an attempt came to.
struct Applied {
    from: i64,
    /// Processes that could not go on after it: nothing was done.
    in_the_way: Vec<LiveOwner>,
}

/// Brings the database to the schema of this program. Safe to run at every start, and beside processes of older versions:
/// they go on, or it waits for their end. A newer schema that this program may use stays as it is.
///
/// # Errors
/// [`Error::NewerSchema`] if a newer version was here that this program can't follow, [`Error::Conflict`] while processes run
/// that could not go on, [`Error::NoRights`] if the database user may not do what it takes, with what is missing.
pub async fn migrate(database: &Database) -> Result<Migrated, Error> {
    migrate_by(database, &MIGRATIONS).await
}

/// The same by another list of migrations, for tests of later ones.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_by(database: &Database, migrations: &[Migration]) -> Result<Migrated, Error> {
    let user_table = database.has_table("user").await?;
    let original_found = database.has_table(schema::USAGE_LOG).await?;
    let current = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let status = status(database).await?;
    if status.found >= current {
        SchemaStatus { needed: current, known: current, ..status }.usable()?;
        return Ok(Migrated { from: status.found, to: status.found, original_found, user_table });
    }
    if status.found == 0 {
        original::require_usable(database).await?;
    }
    match apply_all(database, migrations, user_table).await {
        Ok(from) => Ok(Migrated { from, to: current.max(from), original_found, user_table }),
        Err(Error::NoRights { what }) => {
            let missing = original::missing_rights(database).await.unwrap_or_default();
            let what = if missing.is_empty() { what } else { missing.join("; ") };
            Err(Error::NoRights { what })
        }
        Err(error) => Err(error),
    }
}

/// Tries until it is done, or it is clear that it can't be.
async fn apply_all(database: &Database, migrations: &[Migration], user_table: bool) -> Result<i64, Error> {
    let began = tokio::time::Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match apply_once(database, migrations, user_table).await {
            Ok(Applied { from, in_the_way }) if in_the_way.is_empty() => return Ok(from),
            Ok(Applied { in_the_way, .. }) => {
                // Whoever runs here runs; of others only their leases tell.
                if in_the_way.iter().any(|owner| owner.is_here) || began.elapsed() > LEASES_LAPSE {
                    return Err(in_use(&in_the_way));
                }
            }
            Err(Error::Unavailable { what }) if database.kind() == Kind::Postgres && attempts < ATTEMPTS => {
                tracing::info!(what, "the migration could not be done yet; it is tried again");
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

async fn apply_once(
    database: &Database,
    migrations: &[Migration],
    user_table: bool,
) -> Result<Applied, Error> {
    let original = schema::to_head(database, user_table).await?;
    match database.pool() {
        crate::Pool::Sqlite(pool) => {
            let _turn = Turn::take(database).await;
            let mut transaction = begin_immediate(pool).await?;
            let applied = apply!(&mut transaction, database, migrations, original);
            transaction.commit().await?;
            Ok(applied)
        }
        crate::Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
            let path = format!("SET LOCAL search_path TO \"{}\"", database.schema().replace('"', "\"\""));
            raw_sql(AssertSqlSafe(path)).execute(&mut *transaction).await?;
            raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
            let applied = apply!(&mut transaction, database, migrations, original);
            transaction.commit().await?;
            Ok(applied)
        }
    }
}

fn in_use(owners: &[LiveOwner]) -> Error {
    let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
    Error::Conflict {
        what: format!(
            "processes of an older version are running on this database and can't use it after this upgrade ({}): stop them \
             (Open WebUI, if it has tracked pipes, and every gateway), then run this again. Nothing was changed",
            owners.join(", ")
        ),
    }
}

/// All tables of ours, as the migrations make them.
pub(crate) fn tables() -> Vec<&'static str> {
    let lines = MIGRATIONS.into_iter().flat_map(|migration| migration.sql.lines());
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
    let none = SchemaStatus { found: 0, usable_from: 0, needed: NEEDED, known: CURRENT };
    if !database.has_table(VERSIONS).await? {
        return Ok(none);
    }
    let versions = database.table(VERSIONS);
    let sql = format!("SELECT COALESCE(MAX(version), 0) FROM {versions}");
    let found: i64 =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?);
    if found < SIDE_BY_SIDE {
        return Ok(SchemaStatus { found, usable_from: found, ..none });
    }
    let sql = format!("SELECT COALESCE(MAX(COALESCE(usable_from, version)), 0) FROM {versions}");
    let usable_from: i64 =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?);
    Ok(SchemaStatus { found, usable_from, ..none })
}

/// Makes sure that this program may use the database: with its own schema, a newer one that only added to it, or an older
/// one that has all that it needs.
///
/// # Errors
/// [`Error::NotMigrated`] or [`Error::NewerSchema`] if not.
pub async fn require_usable(database: &Database) -> Result<(), Error> {
    status(database).await?.usable()
}

/// Makes sure that the database has exactly the schema of this program, for what must know every table.
///
/// # Errors
/// [`Error::NotMigrated`] or [`Error::NewerSchema`] if it has another.
pub async fn require_current(database: &Database) -> Result<(), Error> {
    let SchemaStatus { found, known, .. } = status(database).await?;
    match found.cmp(&known) {
        std::cmp::Ordering::Less => Err(Error::NotMigrated { found, known }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::NewerSchema { found, known }),
    }
}
