//! PostgreSQL's connections, also where a pooler such as PgBouncer stands between.
//!
//! A pooler that hands a server connection out for each transaction shares what belongs to a session among its clients: a
//! statement that one of them prepared under a name is in the way of the others, and what is prepared in one transaction is
//! gone in the next. There each statement is sent without a name, and none outside of a transaction. What looks like a pool
//! or a transaction of sqlx here is the same with that rule.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgQueryResult, PgRow, PgStatement,
    PgTypeInfo,
};
use sqlx::{Either, Execute, Executor, Postgres, Row, SqlStr, raw_sql};

/// What a connection may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Its session is its own: without a pooler, or with one that gives each client a connection.
    Session,
    /// Only its transaction is its own.
    Transaction,
}

impl Pooling {
    pub(crate) const fn is_by_transaction(self) -> bool {
        matches!(self, Self::Transaction)
    }
}

/// A pool of connections to PostgreSQL.
#[derive(Debug, Clone)]
pub struct PgConnections {
    pool: PgPool,
    pooling: Pooling,
}

/// A transaction; dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct PgTransaction(PgSession<sqlx::Transaction<'static, Postgres>>);

/// A connection whose statements have names or not.
#[derive(Debug)]
pub struct PgSession<C> {
    connection: C,
    pooling: Pooling,
}

/// A mark that a server takes and a pooler refuses or drops: so a pooler shows itself.
const MARK: [(&str, &str); 1] = [("owui_tracking.direct", "1")];
/// So often it is looked whether a pooler hands server connections around.
const ROUNDS: usize = 20;

impl PgConnections {
    /// Connects, and finds out whether a pooler shares sessions, unless `pooling` says so.
    pub(crate) async fn connect(
        pool: PgPoolOptions,
        options: PgConnectOptions,
        pooling: Option<Pooling>,
    ) -> Result<Self, sqlx::Error> {
        // Poolers refuse this parameter, and without floats it changes nothing.
        let options = options.extra_float_digits(None);
        if let Some(pooling) = pooling {
            return Ok(Self { pool: pool.connect_with(options).await?, pooling });
        }
        match pool.clone().connect_with(options.clone().options(MARK)).await {
            Ok(marked) => {
                let mark: Option<String> = raw_sql("SELECT current_setting('owui_tracking.direct', true)")
                    .fetch_one(&marked)
                    .await?
                    .try_get(0)?;
                let pooling =
                    if mark.as_deref() == Some("1") { Pooling::Session } else { find_out(&marked).await? };
                Ok(Self { pool: marked, pooling })
            }
            Err(sqlx::Error::Database(refusal)) if may_be_a_pooler(refusal.code().as_deref()) => {
                tracing::debug!(%refusal, "is there a pooler in front of the database?");
                let pool = pool.connect_with(options).await?;
                let pooling = find_out(&pool).await?;
                Ok(Self { pool, pooling })
            }
            Err(error) => Err(error),
        }
    }

    /// What its connections may rely on.
    pub(crate) const fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// How it connects.
    pub(crate) fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.pool.connect_options()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn begin(&self) -> Result<PgTransaction, sqlx::Error> {
        Ok(PgTransaction(PgSession { connection: self.pool.begin().await?, pooling: self.pooling }))
    }

    /// Begins a transaction by that statement.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn begin_with(&self, statement: &'static str) -> Result<PgTransaction, sqlx::Error> {
        let connection = self.pool.begin_with(statement).await?;
        Ok(PgTransaction(PgSession { connection, pooling: self.pooling }))
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Wrong passwords and the like are no signs of one.
fn may_be_a_pooler(code: Option<&str>) -> bool {
    !code.is_some_and(|code| ["28", "3D", "53", "57"].iter().any(|class| code.starts_with(class)))
}

/// Behind a pooler: whether two clients that are both connected get the same server connection, or one of them gets several.
async fn find_out(pool: &PgPool) -> Result<Pooling, sqlx::Error> {
    let (mut first, mut second) = (pool.acquire().await?, pool.acquire().await?);
    let mut seen = [None, None];
    for round in 0..ROUNDS * 2 {
        let (connection, own, other) = if round % 2 == 0 { (&mut first, 0, 1) } else { (&mut second, 1, 0) };
        let row = raw_sql("SELECT pg_backend_pid()").fetch_one(&mut **connection).await?;
        let pid: i32 = row.try_get(0)?;
        if seen[other] == Some(pid) || seen[own].is_some_and(|before| before != pid) {
            tracing::info!(
                "a pooler in front of the database hands its connections out by transaction: statements are sent \
                 without names, which costs some speed"
            );
            return Ok(Pooling::Transaction);
        }
        seen[own] = Some(pid);
    }
    Ok(Pooling::Session)
}

impl PgTransaction {
    /// Commits.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.0.connection.commit().await
    }

    /// Leaves nothing.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.0.connection.rollback().await
    }
}

impl Deref for PgTransaction {
    type Target = PgSession<sqlx::Transaction<'static, Postgres>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for PgTransaction {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<C> PgSession<C> {
    pub(crate) const fn new(connection: C, pooling: Pooling) -> Self {
        Self { connection, pooling }
    }
}

/// A statement on its way: with its arguments taken out, and without a name where names are shared.
struct Sent<E> {
    query: E,
    arguments: Option<Result<Option<PgArguments>, BoxDynError>>,
    pooling: Pooling,
}

impl<E> Sent<E> {
    fn new<'q>(mut query: E, pooling: Pooling) -> Self
    where
        E: Execute<'q, Postgres>,
    {
        let arguments = Some(query.take_arguments());
        Self { query, arguments, pooling }
    }

    /// Whether it is sent as text alone, which prepares nothing.
    const fn is_text(&self) -> bool {
        matches!(self.arguments, Some(Ok(None)))
    }
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Sent<E> {
    fn sql(self) -> SqlStr {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.arguments.take().unwrap_or(Ok(None))
    }

    fn persistent(&self) -> bool {
        self.pooling == Pooling::Session && self.query.persistent()
    }
}

type Found = Result<Either<PgQueryResult, PgRow>, sqlx::Error>;

impl<'c, C> Executor<'c> for &'c mut PgSession<C>
where
    C: DerefMut<Target = PgConnection> + Send + std::fmt::Debug,
{
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Found>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let sent = Sent::new(query, self.pooling);
        (&mut *self.connection).fetch_many(sent)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let sent = Sent::new(query, self.pooling);
        (&mut *self.connection).fetch_optional(sent)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        (&mut *self.connection).prepare_with(sql, parameters)
    }
}

impl<'p> Executor<'p> for &'p PgConnections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Found>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let sent = Sent::new(query, self.pooling);
        if self.pooling == Pooling::Session || sent.is_text() {
            return (&self.pool).fetch_many(sent);
        }
        let pool = self.pool.clone();
        // All of it is read before any of it is handed on: it counts only once it is committed.
        let whole = async move {
            let mut transaction = pool.begin().await?;
            let found: Vec<_> = (&mut *transaction).fetch_many(sent).try_collect().await?;
            transaction.commit().await?;
            Ok::<_, sqlx::Error>(stream::iter(found.into_iter().map(Ok)))
        };
        stream::once(whole).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let sent = Sent::new(query, self.pooling);
        if self.pooling == Pooling::Session || sent.is_text() {
            return (&self.pool).fetch_optional(sent);
        }
        let pool = self.pool.clone();
        async move {
            let mut transaction = pool.begin().await?;
            let found = (&mut *transaction).fetch_optional(sent).await?;
            transaction.commit().await?;
            Ok(found)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        (&self.pool).prepare_with(sql, parameters)
    }
}
