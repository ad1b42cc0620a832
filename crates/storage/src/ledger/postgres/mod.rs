//! The ledger's writer on PostgreSQL: decide on what is remembered and write it in one guarded statement, or else lock
//! and load in one statement and write in one more.
//!
//! Account rows exist before they are locked (made in a transaction of their own), and are locked in the order of their
//! keys, so batches of several processes never deadlock; should one be chosen as a victim all the same, it is tried again.
//! Whatever others wrote counts at once: remembered rows that they have changed make the guarded statement write nothing,
//! and the batch is decided again under lock.

mod line;
mod write;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use accounting::{Account, AccountKey, Credits, OwnerId, RequestId};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::memory::Memory;
use super::plan::{Changes, Loaded, Recorded, StoredHold, Wanted};
use super::writer::{Committed, Engine};
use crate::{Database, Error, Pool, Pooling};
use line::Line;
use write::{Tables, Written};

/// So many account keys are remembered as existing before the memory is cleared.
const MOST_KNOWN: usize = 100_000;

pub(super) struct PostgresEngine {
    /// How to connect, and what a connection may rely on.
    way: Option<(Arc<PgConnectOptions>, Pooling)>,
    line: Option<Line>,
    statements: Statements,
    tables: Tables,
    /// Accounts whose rows exist.
    known: HashSet<String>,
    memory: Memory,
}

impl PostgresEngine {
    pub(super) fn new(database: &Database) -> Self {
        let way = match database.pool() {
            Pool::Postgres(pool) => Some((pool.connect_options(), pool.pooling())),
            Pool::Sqlite(_) => None,
        };
        Self {
            way,
            line: None,
            statements: Statements::new(database),
            tables: Tables::new(database),
            known: HashSet::new(),
            memory: Memory::default(),
        }
    }

    /// Account rows that may not exist yet, in a transaction of their own: committed before anyone locks them.
    async fn make_accounts(&mut self, line: &mut Line, wanted: &Wanted) -> Result<(), Error> {
        let fresh: Vec<_> = wanted.accounts.iter().filter(|(text, _)| !self.known.contains(*text)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        if self.known.len() > MOST_KNOWN {
            self.known.clear();
        }
        let column =
            |of: fn(&AccountKey) -> Option<String>| fresh.iter().map(|(_, key)| of(key)).collect::<Vec<_>>();
        let alone = line.keeps_its_session();
        if !alone {
            line.begin().await?;
        }
        sqlx::query(AssertSqlSafe(self.statements.make_accounts.clone()))
            .bind(fresh.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>())
            .bind(fresh.iter().map(|(_, key)| key.kind()).collect::<Vec<_>>())
            .bind(column(|key| key.user().map(ToString::to_string)))
            .bind(column(|key| key.sponsored().map(|id| id.to_string())))
            .bind(column(|key| key.day().map(|day| day.to_string())))
            .execute(&mut line.connection)
            .await?;
        if !alone {
            line.commit().await?;
        }
        let texts: Vec<String> = fresh.into_iter().map(|(text, _)| text.clone()).collect();
        self.known.extend(texts);
        Ok(())
    }

    async fn lock_and_load(&mut self, line: &mut Line, wanted: &Wanted) -> Result<Loaded, Error> {
        self.make_accounts(line, wanted).await?;
        line.begin().await?;
        let holds: Vec<String> = wanted.holds.iter().map(ToString::to_string).collect();
        let rows = sqlx::query(AssertSqlSafe(self.statements.load.clone()))
            .bind(wanted.accounts.keys().map(String::as_str).collect::<Vec<_>>())
            .bind(&holds)
            .fetch_all(&mut line.connection)
            .await?;
        let mut loaded = Loaded::default();
        for row in rows {
            let text: String = row.try_get("key")?;
            let (first, second): (i64, Option<i64>) = (row.try_get("first")?, row.try_get("second")?);
            if row.try_get::<bool, _>("is_account")? {
                if let Some(key) = wanted.accounts.get(&text) {
                    let (spent, held) =
                        (Credits::from_micro(first), Credits::from_micro(second.unwrap_or_default()));
                    loaded.accounts.insert(key.clone(), Account { spent, held });
                }
            } else {
                let output_tokens = second.and_then(|count| u64::try_from(count).ok());
                loaded
                    .holds
                    .insert(text.parse()?, StoredHold { amount: Credits::from_micro(first), output_tokens });
            }
        }
        if let Some((missing, _)) =
            wanted.accounts.iter().find(|(_, key)| !loaded.accounts.contains_key(*key))
        {
            // Somebody removed the row; it is made again by the next attempt.
            self.known.remove(missing);
            return Err(Error::Unavailable { what: "an account's row went away".into() });
        }
        let late = wanted.recorded(&loaded.holds);
        if !late.is_empty() {
            self.load_recorded(line, &late, &mut loaded).await?;
        }
        Ok(loaded)
    }

    async fn load_recorded(
        &self,
        line: &mut Line,
        late: &[RequestId],
        loaded: &mut Loaded,
    ) -> Result<(), Error> {
        let ids: Vec<String> = late.iter().map(ToString::to_string).collect();
        let rows = sqlx::query(AssertSqlSafe(self.statements.recorded.clone()))
            .bind(ids)
            .fetch_all(&mut line.connection)
            .await?;
        for row in rows {
            let id: String = row.try_get("request")?;
            loaded.recorded.insert(id.parse()?, recorded(&row)?);
        }
        Ok(())
    }

    /// Writes and commits what was decided under lock.
    async fn write_locked(
        &self,
        line: &mut Line,
        changes: &Changes<'_>,
        owner: OwnerId,
    ) -> Result<Committed, Error> {
        let written = self.tables.write(&mut line.connection, changes, owner, None).await?;
        if usize::try_from(written.ended) != Ok(changes.ended_holds.len()) {
            return Err(Error::Unavailable { what: "a hold ended meanwhile".into() });
        }
        if usize::try_from(written.marked) != Ok(changes.marked.len()) {
            return Err(super::foreign::taken());
        }
        line.commit().await?;
        Ok(lease(changes, &written))
    }

    /// Writes what was decided on remembered rows, if they still are so. What else speaks against it, such as a hold that
    /// an attempt before has made, is decided under lock as well.
    async fn write_guarded(
        &self,
        line: &mut Line,
        wanted: &Wanted,
        changes: &Changes<'_>,
        owner: OwnerId,
    ) -> Result<Committed, Error> {
        let known: Vec<(&str, Account)> =
            wanted.accounts.iter().map(|(text, key)| (text.as_str(), self.memory.account(key))).collect();
        match self.tables.write(&mut line.connection, changes, owner, Some(&known)).await {
            Ok(written) if written.fresh => Ok(lease(changes, &written)),
            Ok(_) => Ok(Committed::Stale),
            Err(error @ Error::Unavailable { .. }) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "a guarded batch failed");
                Ok(Committed::Stale)
            }
        }
    }
}

impl Engine for PostgresEngine {
    const LONGEST: Duration = Duration::from_millis(100);

    fn remembered(&mut self, wanted: &Wanted) -> Option<Loaded> {
        // Rows of the original, and what the ledger may have already, have to be seen.
        self.line.as_ref().filter(|line| line.settled && !wanted.foreign && wanted.doubtful.is_empty())?;
        self.memory.recall(wanted)
    }

    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, Error> {
        let mut line = match (self.line.take(), &self.way) {
            (Some(line), _) => line,
            (None, Some((options, pooling))) => Line::open(options, *pooling).await?,
            (None, None) => {
                return Err(Error::Unavailable { what: "this is no PostgreSQL database".into() });
            }
        };
        let loaded = self.lock_and_load(&mut line, wanted).await;
        self.line = Some(line);
        if let Ok(loaded) = &loaded {
            self.memory.read(loaded);
        }
        loaded
    }

    async fn commit(
        &mut self,
        wanted: &Wanted,
        changes: &Changes<'_>,
        owner: OwnerId,
    ) -> Result<Committed, Error> {
        let Some(mut line) = self.line.take() else {
            return Err(Error::Unavailable { what: "no transaction is open".into() });
        };
        let committed = if line.is_in_transaction() {
            self.write_locked(&mut line, changes, owner).await
        } else {
            self.write_guarded(&mut line, wanted, changes, owner).await
        };
        self.line = Some(line);
        match committed {
            Ok(Committed::Done | Committed::LeaseLost) => self.memory.wrote(changes),
            Ok(Committed::Stale) | Err(_) => self.memory.forget(),
        }
        committed
    }

    async fn abandon(&mut self) {
        self.memory.forget();
        // After a failure outside of a transaction, as of a connection that broke, a new one is opened as well.
        if let Some(mut line) = self.line.take()
            && line.is_in_transaction()
            && line.leave().await
        {
            self.line = Some(line);
        }
    }
}

fn lease(changes: &Changes<'_>, written: &Written) -> Committed {
    if changes.needs_lease() && !written.renewed { Committed::LeaseLost } else { Committed::Done }
}

fn recorded(row: &PgRow) -> Result<Recorded, Error> {
    let mut counts = [0; 10];
    for (class, count) in counts.iter_mut().enumerate() {
        *count = row.try_get(class + 2)?;
    }
    let (charge, guessed) = (Credits::from_micro(row.try_get(1)?), row.try_get(12)?);
    Ok(Recorded { charge, counts, guessed })
}

/// What is summed of a request's entries; named, because newer versions may add columns.
const RECORDED: &str = "charge, input_tokens, cached_input_tokens, cache_write_tokens, cache_write_long_tokens, \
    input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, images, calls, outcome";

/// The statements that read, with the names of this database's tables.
struct Statements {
    make_accounts: String,
    load: String,
    recorded: String,
}

impl Statements {
    fn new(database: &Database) -> Self {
        let account = database.table("token_tracking_account");
        let hold = database.table("token_tracking_hold");
        let ledger = database.table("token_tracking_ledger");
        Self {
            make_accounts: format!(
                "INSERT INTO {account} (key, kind, user_id, sponsored_id, day) \
                 SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) \
                 ON CONFLICT (key) DO NOTHING"
            ),
            load: format!(
                "WITH accounts AS MATERIALIZED ( \
                   SELECT key, spent, held FROM {account} WHERE key = ANY($1::text[]) \
                   ORDER BY key COLLATE \"C\" FOR UPDATE), \
                 holds AS MATERIALIZED ( \
                   SELECT id, amount, output_tokens FROM {hold} WHERE id = ANY($2::text[]) ORDER BY id FOR UPDATE) \
                 SELECT true AS is_account, key, spent AS first, held AS second FROM accounts \
                 UNION ALL SELECT false, id, amount, output_tokens FROM holds"
            ),
            recorded: format!(
                "SELECT request, sum(charge)::int8, sum(input_tokens)::int8, sum(cached_input_tokens)::int8, \
                   sum(cache_write_tokens)::int8, sum(cache_write_long_tokens)::int8, sum(input_audio_tokens)::int8, \
                   sum(output_tokens)::int8, sum(reasoning_tokens)::int8, sum(output_audio_tokens)::int8, \
                   sum(images)::int8, sum(calls)::int8, bool_and(outcome = 'recovered') \
                 FROM (SELECT id AS request, {RECORDED} FROM {ledger} WHERE id = ANY($1::text[]) \
                       UNION ALL SELECT corrects, {RECORDED} FROM {ledger} WHERE corrects = ANY($1::text[])) entries \
                 GROUP BY request"
            ),
        }
    }
}
