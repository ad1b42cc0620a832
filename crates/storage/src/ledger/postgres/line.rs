//! The writer's own connection.
//!
//! Every statement of the writer finds its rows by key. Planned anew for each batch, the large one costs more than its
//! execution; and a plan made while the tables were empty reads them whole. So the connection asks at its start for one
//! plan by index. Poolers in front of a server refuse such a start: then each transaction asks for itself, and batches are
//! written under lock only; so also where a pooler keeps no more than a transaction together.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection};

use crate::pooled::PgSession;
use crate::{Error, Pooling};

const PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")];
const BEGIN: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The large statement has as many forms as it has subsets of parts.
const STATEMENTS: usize = 256;

/// A connection of the writer's own.
pub(super) struct Line {
    pub(super) connection: PgSession<Box<PgConnection>>,
    /// Whether its plans are settled from the start, so that one statement may be a whole transaction.
    pub(super) settled: bool,
    in_transaction: bool,
    pooling: Pooling,
}

impl Line {
    pub(super) async fn open(options: &Arc<PgConnectOptions>, pooling: Pooling) -> Result<Self, Error> {
        let plain = options.as_ref().clone().statement_cache_capacity(STATEMENTS);
        let (connection, settled) = match pooling {
            Pooling::Transaction => (connect(&plain).await??, false),
            Pooling::Session => match connect(&plain.clone().options(PLANS)).await? {
                Ok(mut connection) => {
                    // A pooler may also take these words and drop them.
                    let set = sqlx::raw_sql("SHOW plan_cache_mode").fetch_one(&mut connection).await?;
                    let settled = set.try_get::<String, _>(0)? == PLANS[0].1;
                    (connection, settled)
                }
                Err(refusal) => {
                    tracing::debug!(%refusal, "no settled plans: is there a pooler in front of the database?");
                    (connect(&plain).await??, false)
                }
            },
        };
        let connection = PgSession::new(Box::new(connection), pooling);
        Ok(Self { connection, settled, in_transaction: false, pooling })
    }

    /// Whether a statement can do without a transaction around it.
    pub(super) fn keeps_its_session(&self) -> bool {
        self.pooling == Pooling::Session
    }

    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.in_transaction = true;
        self.connection.execute(BEGIN).await?;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        self.connection.execute("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Leaves a transaction, if one is open; `false` if the connection is of no more use. Dropping it rolls back as well.
    pub(super) async fn leave(&mut self) -> bool {
        !std::mem::take(&mut self.in_transaction) || self.connection.execute("ROLLBACK").await.is_ok()
    }

    /// Whether the next statement belongs to a transaction that was begun.
    pub(super) const fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }
}

/// A connection, or what the server says against it.
async fn connect(options: &PgConnectOptions) -> Result<Result<PgConnection, sqlx::Error>, Error> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    match connecting {
        Ok(Ok(connection)) => Ok(Ok(connection)),
        Ok(Err(refusal)) if refusal.as_database_error().is_some() => Ok(Err(refusal)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::Unavailable { what: "PostgreSQL does not answer".into() }),
    }
}
