//! What `doctor` asks of the database: rights, clock, the original's migrations, what dead processes left.

use accounting::Credits;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::ledger::owner;
use crate::original::rights;
use crate::{Database, Error, on_pool};

/// The newest migration of the original that this program knows.
pub use crate::original::schema::HEAD as ORIGINAL_HEAD;

/// The original's migration, if it or `init` has noted one.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn original_migration(database: &Database) -> Result<Option<String>, Error> {
    migration_in(database, "token_tracking_alembic_version").await
}

/// Open WebUI's migration, if its tables are here.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn open_webui_migration(database: &Database) -> Result<Option<String>, Error> {
    migration_in(database, "alembic_version").await
}

async fn migration_in(database: &Database, table: &str) -> Result<Option<String>, Error> {
    if !database.has_table(table).await? {
        return Ok(None);
    }
    let sql = format!("SELECT CAST(version_num AS TEXT) FROM {}", database.table(table));
    Ok(on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(pool).await?))
}

/// The rights that the database user lacks, each as `INSERT on token_tracking_ledger`. On SQLite, that nothing can be
/// written is an error.
///
/// # Errors
/// [`Error::NoRights`] or [`Error::Unavailable`] if an SQLite file can't be written, or the database is away.
pub async fn missing_rights(database: &Database) -> Result<Vec<String>, Error> {
    match database.pool() {
        crate::Pool::Sqlite(pool) => {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("CREATE TABLE token_tracking_probe (probed BIGINT)")
                .execute(&mut *transaction)
                .await?;
            transaction.rollback().await?;
            Ok(Vec::new())
        }
        crate::Pool::Postgres(pool) => {
            let schema = database.schema();
            let on_tables = rights::on_tables(pool, schema).await?.into_iter();
            let mut missing: Vec<String> =
                on_tables.map(|(right, table)| format!("{right} on {table}")).collect();
            if !rights::on_schema(pool, schema, "CREATE").await? {
                missing.push(format!("CREATE in the schema {schema}"));
            }
            Ok(missing)
        }
    }
}

/// The database's own clock.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn clock(database: &Database) -> Result<Timestamp, Error> {
    let sql = format!("SELECT {}", owner::now(database.kind()));
    let now: i64 = on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?);
    Timestamp::from_microsecond(now).map_err(|error| Error::Invalid { what: error.to_string() })
}

/// The time zone of PostgreSQL's sessions; SQLite has none of its own.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn server_zone(database: &Database) -> Result<Option<String>, Error> {
    match database.pool() {
        crate::Pool::Sqlite(_) => Ok(None),
        crate::Pool::Postgres(pool) => {
            Ok(Some(sqlx::query_scalar("SELECT current_setting('TimeZone')").fetch_one(pool).await?))
        }
    }
}

/// Microseconds after which a hold should have been settled.
const STUCK_AFTER: i64 = 60_000_000;

/// What processes that are gone still hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Holds.
    pub holds: i64,
    /// Their credits, each counted once.
    pub credits: Credits,
}

/// What processes that are gone still hold: their lease has run out, or they were declared dead.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn left_by_the_dead(database: &Database) -> Result<Left, Error> {
    let sql = format!(
        "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM {} WHERE owner NOT IN \
         (SELECT id FROM {} WHERE dead = 0 AND renewed_at >= {} - $1)",
        database.table("token_tracking_hold"),
        database.table("token_tracking_owner"),
        owner::now(database.kind())
    );
    let (holds, amount): (i64, i64) = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(owner::LEASE).fetch_one(pool).await?
    });
    Ok(Left { holds, credits: Credits::from_micro(amount) })
}

/// Holds that nobody settles although somebody could: of processes that are gone for more than a minute, while another one
/// has run as long. Their settlement fails; the log of that process says why.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn stuck(database: &Database) -> Result<Left, Error> {
    let sql = select_stuck(database);
    let (holds, amount): (i64, i64) =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await?);
    Ok(Left { holds, credits: Credits::from_micro(amount) })
}

/// The query behind [`stuck`]: how many, and their microcredits.
pub(crate) fn select_stuck(database: &Database) -> String {
    let (hold, owner) = (database.table("token_tracking_hold"), database.table("token_tracking_owner"));
    let now = owner::now(database.kind());
    let (lease, long_ago) = (owner::LEASE, owner::LEASE + STUCK_AFTER);
    format!(
        "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM {hold} AS hold \
         WHERE NOT EXISTS (SELECT 1 FROM {owner} AS holder WHERE holder.id = hold.owner AND holder.renewed_at >= {now} - {long_ago}) \
           AND EXISTS (SELECT 1 FROM {owner} AS live WHERE live.dead = 0 AND live.renewed_at >= {now} - {lease} \
             AND live.started_at < {now} - {STUCK_AFTER})"
    )
}

/// Holds that this program could not settle, should their process die, because a newer version wrote them: why.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn unreadable_holds(database: &Database) -> Result<Vec<Error>, Error> {
    let sql = format!(
        "SELECT id, accounts, request, progress FROM {} ORDER BY id",
        database.table("token_tracking_hold")
    );
    let rows: Vec<(String, String, String, Option<String>)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let why = |(id, accounts, request, progress): (String, String, String, Option<String>)| {
        owner::unreadable(id, &accounts, &request, progress.as_deref())
    };
    Ok(rows.into_iter().filter_map(why).collect())
}

/// Whether the ledger has at most so many rows.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn is_short(database: &Database, most: i64) -> Result<bool, Error> {
    let ledger = database.table("token_tracking_ledger");
    let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT 1 FROM {ledger} LIMIT $1) AS counted");
    let found: i64 = on_pool!(database, pool => {
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(most + 1).fetch_one(pool).await?
    });
    Ok(found <= most)
}

/// A Function in Open WebUI that is a pipe, and active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe {
    /// Its id, which stands before the ids of its models.
    pub id: String,
    /// Its code.
    pub code: String,
    /// Its valves, as JSON; may hold keys, and is never shown.
    pub valves: String,
}

/// Open WebUI's active pipes; none without its tables.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn pipes(database: &Database) -> Result<Vec<Pipe>, Error> {
    if !database.has_table("function").await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT CAST(id AS TEXT), CAST(content AS TEXT), CAST(valves AS TEXT) FROM {} \
         WHERE type = 'pipe' AND is_active ORDER BY id",
        database.table("function")
    );
    let rows: Vec<(String, Option<String>, Option<String>)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    let read = |(id, code, valves): (String, Option<String>, Option<String>)| Pipe {
        id,
        code: code.unwrap_or_default(),
        valves: valves.unwrap_or_default(),
    };
    Ok(rows.into_iter().map(read).collect())
}

/// The models that Open WebUI's active entries ask for: of workspace models, those that they are made of.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn models_in_use(database: &Database) -> Result<Vec<String>, Error> {
    if !database.has_table("model").await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DISTINCT COALESCE(NULLIF(CAST(base_model_id AS TEXT), ''), CAST(id AS TEXT)) FROM {} WHERE is_active ORDER BY 1",
        database.table("model")
    );
    Ok(on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await?))
}

/// The value of one key of Open WebUI's configuration, as JSON; `None` if it is not there, or kept in an older form.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn open_webui_setting(database: &Database, key: &str) -> Result<Option<String>, Error> {
    if !database.has_table("config").await? {
        return Ok(None);
    }
    let sql = format!("SELECT CAST(value AS TEXT) FROM {} WHERE key = $1", database.table("config"));
    let found: Result<Option<String>, Error> = on_pool!(database, pool => {
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(key).fetch_optional(pool).await.map_err(Error::from)
    });
    match found {
        // Open WebUI before 0.12 kept all in one row, in other columns.
        Err(Error::Invalid { .. }) => Ok(None),
        other => other,
    }
}
