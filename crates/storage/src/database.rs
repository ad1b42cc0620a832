//! A connected database: one pool, one way to write SQL for both kinds.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::sync::watch;

use crate::file::{self, Place};
use crate::pooled::PgConnections;
use crate::{DatabaseUrl, Error, Kind};

/// How long SQLite waits for other writers, such as Open WebUI.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to PostgreSQL that are idle for longer, or older, are made anew. By ourselves, when one is needed: the pool's own
/// upkeep counts its idle connections without a lock, may find fewer than none, and then never ends (sqlx 0.9,
/// `spawn_maintenance_tasks`).
const LONGEST_IDLE: Duration = Duration::from_secs(600);
const LIFETIME: Duration = Duration::from_secs(1800);
/// How long connections may take to be closed.
const CLOSING: Duration = Duration::from_secs(5);
/// One number for all processes of ours: the key of PostgreSQL's advisory lock for migrations and administration.
pub(crate) const LOCK: i64 = 0x6f77_7569_7474;

/// Who changes something where nobody else is named.
const OURSELVES: &str = "owui-token-tracking";

/// A pool of connections.
#[derive(Debug, Clone)]
pub enum Pool {
    /// To an SQLite file.
    Sqlite(SqlitePool),
    /// To a PostgreSQL server.
    Postgres(PgConnections),
}

/// A database, connected. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    url: DatabaseUrl,
    schema: String,
    pool: Pool,
    actor: Arc<str>,
    /// The file that was opened, of an SQLite database.
    place: Option<Place>,
    /// Has a receiver for each writer that has a connection of its own.
    writers: watch::Sender<()>,
}

/// Runs one body on the pool of either kind of database: SQL exists once, written with `$1` placeholders and with types
/// that both have.
#[macro_export]
macro_rules! on_pool {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database.pool() {
            $crate::Pool::Sqlite($pool) => $body,
            $crate::Pool::Postgres($pool) => $body,
        }
    };
}

/// Runs one body in a transaction of either kind of database that is alone in writing: SQLite's write lock, or a lock
/// that all administrative changes of ours take on PostgreSQL. Dropped before the end, it leaves nothing.
macro_rules! in_transaction {
    ($database:expr, $transaction:ident => $body:expr) => {
        match $database.pool() {
            $crate::Pool::Sqlite(pool) => {
                let mut $transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                let done = $body;
                $transaction.commit().await?;
                done
            }
            $crate::Pool::Postgres(pool) => {
                let mut $transaction = pool.begin().await?;
                let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind($crate::database::LOCK);
                lock.execute(&mut *$transaction).await?;
                let done = $body;
                $transaction.commit().await?;
                done
            }
        }
    };
}
pub(crate) use in_transaction;

/// Runs one body that only reads, all at one moment.
macro_rules! in_snapshot {
    ($database:expr, $transaction:ident => $body:expr) => {
        match $database.pool() {
            $crate::Pool::Sqlite(pool) => {
                let mut $transaction = pool.begin().await?;
                let done = $body;
                $transaction.rollback().await?;
                done
            }
            $crate::Pool::Postgres(pool) => {
                let mut $transaction =
                    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                let done = $body;
                $transaction.rollback().await?;
                done
            }
        }
    };
}
pub(crate) use in_snapshot;

impl Database {
    /// Connects. An SQLite file must exist: this never creates one, and leaves the journal mode as it is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it can't be reached.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, Error> {
        match url.path() {
            Some(path) if !path.exists() => Err(Error::Unavailable {
                what: format!(
                    "there is no SQLite file {}; check the path, or run `owui-token-tracking init --create` to begin with a new \
                     file there",
                    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display()
                ),
            }),
            Some(path) => Self::sqlite(url, SqliteConnectOptions::new().filename(path)).await,
            None => Self::connect_postgres(url).await,
        }
    }

    /// Connects, and creates an SQLite file of our own if there is none yet (in WAL mode, for its owner alone).
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it can't be reached or created.
    pub async fn create(url: &DatabaseUrl) -> Result<Self, Error> {
        match url.path() {
            Some(path) if !path.exists() => {
                file::make(path)?;
                let options = SqliteConnectOptions::new().filename(path);
                Self::sqlite(url, options.journal_mode(SqliteJournalMode::Wal)).await
            }
            _ => Self::open(url).await,
        }
    }

    async fn sqlite(url: &DatabaseUrl, options: SqliteConnectOptions) -> Result<Self, Error> {
        let options =
            options.busy_timeout(BUSY_TIMEOUT).synchronous(SqliteSynchronous::Normal).foreign_keys(false);
        let pool = SqlitePoolOptions::new()
            .max_connections(url.pool_size())
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        Ok(Self {
            url: url.clone(),
            schema: "main".into(),
            pool: Pool::Sqlite(pool),
            actor: OURSELVES.into(),
            place: url.path().and_then(|path| Place::of(path).ok()),
            writers: watch::Sender::default(),
        })
    }

    async fn connect_postgres(url: &DatabaseUrl) -> Result<Self, Error> {
        let address = url.postgres().map(url::Url::as_str).unwrap_or_default();
        let options: PgConnectOptions =
            address.parse().map_err(|error: sqlx::Error| Error::BadUrl(error.to_string()))?;
        let options = options.application_name("openwebui-token-tracking");
        let pool = PgPoolOptions::new()
            .max_connections(url.pool_size())
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|connection, is| {
                Box::pin(async move {
                    // What was idle for long may have been dropped on the way without a word: a ping would wait for it.
                    if is.idle_for > LONGEST_IDLE || is.age > LIFETIME {
                        return Ok(false);
                    }
                    connection.ping().await.map(|()| true)
                })
            });
        let pool =
            PgConnections::connect(pool, options, url.pooling()).await.map_err(|error| match Error::from(
                error,
            ) {
                Error::Unavailable { what } => Error::Unavailable { what: format!("{url}: {what}") },
                other => other,
            })?;
        let schema = match url.schema() {
            Some(schema) => schema.to_owned(),
            None => sqlx::query_scalar::<_, Option<String>>("SELECT current_schema()::text")
                .fetch_one(&pool)
                .await?
                .unwrap_or_else(|| "public".into()),
        };
        Ok(Self {
            url: url.clone(),
            schema,
            pool: Pool::Postgres(pool),
            actor: OURSELVES.into(),
            place: None,
            writers: watch::Sender::default(),
        })
    }

    /// The same database in the name of somebody: who the audit says has changed something.
    #[must_use]
    pub fn acting_as(mut self, actor: &str) -> Self {
        self.actor = accounting::Label::new(actor).as_str().into();
        self
    }

    /// In whose name it is changed.
    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    /// Its address.
    pub const fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        self.url.kind()
    }

    /// Its connections.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether a pooler in front of it hands its connections out by transaction.
    pub const fn is_pooled_by_transaction(&self) -> bool {
        match &self.pool {
            Pool::Postgres(connections) => connections.pooling().is_by_transaction(),
            Pool::Sqlite(_) => false,
        }
    }

    /// The schema in which our tables are.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name of a table as SQL needs it, with its schema on PostgreSQL.
    pub fn table(&self, name: &str) -> String {
        match self.kind() {
            Kind::Sqlite => format!("\"{name}\""),
            Kind::Postgres => format!("\"{}\".\"{name}\"", self.schema.replace('"', "\"\"")),
        }
    }

    /// A parameter that holds a UUID as 32 hex digits, for the original's UUID columns.
    pub(crate) fn uuid(&self, placeholder: &str) -> String {
        match self.kind() {
            Kind::Sqlite => placeholder.to_owned(),
            Kind::Postgres => format!("CAST({placeholder} AS uuid)"),
        }
    }

    /// Whether a table exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub async fn has_table(&self, name: &str) -> Result<bool, Error> {
        let sql = match self.kind() {
            Kind::Sqlite => {
                "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND name = $1 AND $2 = $2"
            }
            Kind::Postgres => {
                "SELECT count(*) FROM information_schema.tables WHERE table_name = $1 AND table_schema = $2"
            }
        };
        let count: i64 = on_pool!(self, pool => {
            sqlx::query_scalar(sql).bind(name).bind(&self.schema).fetch_one(pool).await?
        });
        Ok(count > 0)
    }

    /// Whether a table has a column.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database is away.
    pub(crate) async fn has_column(&self, table: &str, column: &str) -> Result<bool, Error> {
        let sql = match self.kind() {
            Kind::Sqlite => "SELECT count(*) FROM pragma_table_info($1) WHERE name = $2 AND $3 = $3",
            Kind::Postgres => {
                "SELECT count(*) FROM information_schema.columns \
                 WHERE table_name = $1 AND column_name = $2 AND table_schema = $3"
            }
        };
        let count: i64 = on_pool!(self, pool => {
            sqlx::query_scalar(sql).bind(table).bind(column).bind(&self.schema).fetch_one(pool).await?
        });
        Ok(count > 0)
    }

    /// Whether an SQLite file is still where it was opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if not: it goes on once it is there again.
    pub(crate) fn check_file(&self) -> Result<(), Error> {
        match (self.place, self.url.path()) {
            (Some(place), Some(path)) => place.check(path),
            _ => Ok(()),
        }
    }

    /// Whether the database answers, and is still where it was opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.check_file()?;
        on_pool!(self, pool => {
            let _: i32 = sqlx::query_scalar("SELECT 1").fetch_one(pool).await?;
        });
        Ok(())
    }

    /// Runs statements as they are, for set-up and for tests.
    ///
    /// # Errors
    /// What the database says.
    pub async fn run(&self, sql: String) -> Result<(), Error> {
        on_pool!(self, pool => {
            pool.execute(AssertSqlSafe(sql)).await?;
        });
        Ok(())
    }

    /// For a writer with a connection of its own: [`close`](Self::close) waits until this is dropped.
    pub(crate) fn writer(&self) -> watch::Receiver<()> {
        self.writers.subscribe()
    }

    /// Closes all connections, and waits for those of the ledger's writers, which end with the last handle on their ledger. The
    /// last connection to an SQLite file writes its log back and removes it.
    pub async fn close(&self) {
        let closed = async {
            on_pool!(self, pool => pool.close().await);
            self.writers.closed().await;
        };
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::warn!("connections to the database were left to be closed by the system");
        }
    }
}
