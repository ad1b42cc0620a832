//! Reading millions of rows, one at a time, all at one moment where that is wanted.
//!
//! On SQLite this is `rusqlite`, which shows a row's values where they lie; `sqlx` copies each of them and hands it to another
//! thread. Rows are read on the calling thread there, so readings run [`aside`].

use std::time::Duration;

use futures_util::TryStreamExt;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::{Database, Error, PgTransaction, Pool};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A way to read. Everything that is read with one of these is as it was at one moment.
pub(crate) struct Reading(Source);

enum Source {
    Sqlite(Connection),
    Postgres(PgTransaction),
}

/// A query with its arguments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    sql: String,
    arguments: Vec<String>,
}

/// A row; columns are BIGINT or TEXT.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r PgRow),
}

/// Runs what reads much where it keeps nobody waiting.
pub(crate) async fn aside<T, E>(
    database: &Database,
    reading: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    match database.pool() {
        Pool::Sqlite(_) => {
            let runtime = tokio::runtime::Handle::current();
            let done = tokio::task::spawn_blocking(move || runtime.block_on(reading)).await;
            done.unwrap_or_else(|_| Err(Error::Unavailable { what: "a reading has failed".into() }.into()))
        }
        Pool::Postgres(_) => reading.await,
    }
}

impl Reading {
    /// Begins; the moment is that of the first query.
    pub(crate) async fn begin(database: &Database) -> Result<Self, Error> {
        match database.pool() {
            Pool::Sqlite(_) => {
                let path = database.url().path().unwrap_or_else(|| std::path::Path::new(""));
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(path, flags)?;
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection.execute_batch("PRAGMA query_only = 1; BEGIN")?;
                Ok(Self(Source::Sqlite(connection)))
            }
            Pool::Postgres(pool) => {
                let transaction = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                Ok(Self(Source::Postgres(transaction)))
            }
        }
    }

    /// Hands each row of a query to `row`, in their order.
    pub(crate) async fn each<E: From<Error>>(
        &mut self,
        query: Query,
        mut row: impl FnMut(&Row<'_>) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        match &mut self.0 {
            Source::Sqlite(connection) => each_of_sqlite(connection, &query, row),
            Source::Postgres(transaction) => {
                let mut prepared = sqlx::query(AssertSqlSafe(query.sql));
                for argument in query.arguments {
                    prepared = prepared.bind(argument);
                }
                let mut rows = prepared.fetch(&mut **transaction);
                while let Some(found) = rows.try_next().await.map_err(Error::from)? {
                    row(&Row::Postgres(&found))?;
                }
                Ok(())
            }
        }
    }

    /// All rows of a query that is known to have few.
    pub(crate) async fn all<T: Send>(
        &mut self,
        query: Query,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Error> + Send,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        self.each(query, |row| {
            found.push(read(row)?);
            Ok::<(), Error>(())
        })
        .await?;
        Ok(found)
    }
}

fn each_of_sqlite<E: From<Error>>(
    connection: &Connection,
    query: &Query,
    mut row: impl FnMut(&Row<'_>) -> Result<(), E>,
) -> Result<(), E> {
    // SQLite numbers parameters that begin with `?`; those with `$` are names.
    let mut statement = connection.prepare(&query.sql.replace('$', "?")).map_err(Error::from)?;
    let mut rows = statement.query(params_from_iter(&query.arguments)).map_err(Error::from)?;
    while let Some(found) = rows.next().map_err(Error::from)? {
        row(&Row::Sqlite(found))?;
    }
    Ok(())
}

impl Query {
    pub(crate) fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), arguments: Vec::new() }
    }

    /// Goes on with that text.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Goes on with a parameter.
    pub(crate) fn text(&mut self, text: impl Into<String>) -> &mut Self {
        self.arguments.push(text.into());
        self.sql.push_str(&format!("${}", self.arguments.len()));
        self
    }
}

impl Row<'_> {
    /// A text, or nothing.
    pub(crate) fn text(&self, column: usize) -> Result<Option<&str>, Error> {
        match self {
            Self::Sqlite(row) => match row.get_ref(column)? {
                ValueRef::Null => Ok(None),
                ValueRef::Text(text) => {
                    let text = std::str::from_utf8(text);
                    text.map(Some).map_err(|error| Error::Invalid { what: format!("no UTF-8: {error}") })
                }
                other => Err(unexpected(column, &other.data_type().to_string())),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// A number, or nothing.
    pub(crate) fn number(&self, column: usize) -> Result<Option<i64>, Error> {
        match self {
            Self::Sqlite(row) => match row.get_ref(column)? {
                ValueRef::Null => Ok(None),
                ValueRef::Integer(number) => Ok(Some(number)),
                other => Err(unexpected(column, &other.data_type().to_string())),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// A text that must be there.
    pub(crate) fn some_text(&self, column: usize) -> Result<&str, Error> {
        self.text(column)?.ok_or_else(|| unexpected(column, "NULL"))
    }

    /// A number that must be there.
    pub(crate) fn some_number(&self, column: usize) -> Result<i64, Error> {
        self.number(column)?.ok_or_else(|| unexpected(column, "NULL"))
    }
}

fn unexpected(column: usize, found: &str) -> Error {
    Error::Invalid { what: format!("the database holds {found} in column {column} of a result") }
}
