//! The ledger's writer on PostgreSQL: lock and load in one statement, write in one more.
//!
//! Account rows exist before they are locked (made in a transaction of their own), and are locked in the order of their
//! keys, so batches of several processes never deadlock; should one be chosen as a victim all the same, it is tried again.
//! Every transaction begins explicitly and keeps nothing in the session, so a pooler in front may share connections.

use std::collections::HashSet;
use std::time::Duration;

use accounting::{Account, AccountKey, Credits, OwnerId, RequestId};
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Postgres, Row, Transaction};

use super::entry::{account_list, policy_name};
use super::plan::{Changes, Entry, Loaded, NewHold, Recorded, StoredHold, Wanted};
use super::writer::Engine;
use crate::{Database, Error, Pool};

/// Every statement of the writer finds its rows by key. Planned anew for each batch, the large one costs more than its
/// execution; for this transaction alone, one plan by index serves all.
const BEGIN: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off";

/// Classes of usage in the ledger.
const COUNTS: usize = 10;

/// So many account keys are remembered as existing before the memory is cleared.
const MOST_KNOWN: usize = 100_000;

pub(super) struct PostgresEngine {
    pool: Option<PgPool>,
    statements: Statements,
    known: HashSet<String>,
    transaction: Option<Transaction<'static, Postgres>>,
}

impl PostgresEngine {
    pub(super) fn new(database: &Database) -> Self {
        let pool = match database.pool() {
            Pool::Postgres(pool) => Some(pool.clone()),
            Pool::Sqlite(_) => None,
        };
        Self { pool, statements: Statements::new(database), known: HashSet::new(), transaction: None }
    }

    fn pool(&self) -> Result<&PgPool, Error> {
        self.pool.as_ref().ok_or_else(|| Error::Unavailable { what: "this is no PostgreSQL database".into() })
    }

    /// Account rows that may not exist yet, in a transaction of their own: committed before anyone locks them.
    async fn make_accounts(&mut self, wanted: &Wanted) -> Result<(), Error> {
        let fresh: Vec<_> = wanted.accounts.iter().filter(|(text, _)| !self.known.contains(*text)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        if self.known.len() > MOST_KNOWN {
            self.known.clear();
        }
        let column =
            |of: fn(&AccountKey) -> Option<String>| fresh.iter().map(|(_, key)| of(key)).collect::<Vec<_>>();
        sqlx::query(AssertSqlSafe(self.statements.make_accounts.clone()))
            .bind(fresh.iter().map(|(text, _)| (*text).clone()).collect::<Vec<_>>())
            .bind(fresh.iter().map(|(_, key)| key.kind().to_owned()).collect::<Vec<_>>())
            .bind(column(|key| key.user().map(ToString::to_string)))
            .bind(column(|key| key.sponsored().map(|id| id.to_string())))
            .bind(column(|key| key.day().map(|day| day.to_string())))
            .execute(self.pool()?)
            .await?;
        let texts: Vec<String> = fresh.into_iter().map(|(text, _)| text.clone()).collect();
        self.known.extend(texts);
        Ok(())
    }
}

impl Engine for PostgresEngine {
    const LONGEST: Duration = Duration::from_millis(100);

    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, Error> {
        self.make_accounts(wanted).await?;
        let mut transaction = self.pool()?.begin_with(BEGIN).await?;
        let holds: Vec<String> = wanted.holds.iter().map(ToString::to_string).collect();
        let rows = sqlx::query(AssertSqlSafe(self.statements.load.clone()))
            .bind(wanted.accounts.keys().cloned().collect::<Vec<_>>())
            .bind(&holds)
            .fetch_all(&mut *transaction)
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
        if let Some(missing) =
            wanted.accounts.keys().find(|text| !loaded.accounts.contains_key(&wanted.accounts[*text]))
        {
            // Somebody removed the row; it is made again by the next attempt.
            self.known.remove(missing);
            return Err(Error::Unavailable { what: "an account's row went away".into() });
        }
        let late: Vec<RequestId> =
            wanted.settled.iter().filter(|id| !loaded.holds.contains_key(id)).copied().collect();
        if !late.is_empty() {
            self.load_recorded(&mut transaction, &late, &mut loaded).await?;
        }
        self.transaction = Some(transaction);
        Ok(loaded)
    }

    async fn commit(&mut self, changes: &Changes<'_>, owner: OwnerId) -> Result<bool, Error> {
        let Some(mut transaction) = self.transaction.take() else {
            return Err(Error::Unavailable { what: "no transaction is open".into() });
        };
        let ended = self.statements.write(&mut transaction, changes).await?;
        if usize::try_from(ended) != Ok(changes.ended_holds.len()) {
            return Err(Error::Unavailable { what: "a hold ended meanwhile".into() });
        }
        let lease = if changes.renew {
            let renewed = sqlx::query(AssertSqlSafe(self.statements.renew.clone()))
                .bind(owner.to_string())
                .execute(&mut *transaction)
                .await?;
            renewed.rows_affected() == 1
        } else {
            true
        };
        transaction.commit().await?;
        Ok(lease)
    }

    async fn abandon(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            // Should this fail, the connection is closed, which rolls back as well.
            let _ = transaction.rollback().await;
        }
    }
}

impl PostgresEngine {
    async fn load_recorded(
        &self,
        connection: &mut PgConnection,
        late: &[RequestId],
        loaded: &mut Loaded,
    ) -> Result<(), Error> {
        let ids: Vec<String> = late.iter().map(ToString::to_string).collect();
        let rows = sqlx::query(AssertSqlSafe(self.statements.recorded.clone()))
            .bind(ids)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let id: String = row.try_get("request")?;
            loaded.recorded.insert(id.parse()?, recorded(&row)?);
        }
        Ok(())
    }
}

fn recorded(row: &PgRow) -> Result<Recorded, Error> {
    let mut counts = [0; 10];
    for (class, count) in counts.iter_mut().enumerate() {
        *count = row.try_get(class + 2)?;
    }
    Ok(Recorded { charge: Credits::from_micro(row.try_get(1)?), counts })
}

/// The statements, with the names of this database's tables.
struct Statements {
    make_accounts: String,
    load: String,
    recorded: String,
    renew: String,
    account: String,
    hold: String,
    ledger: String,
}

/// A write in the making: a batch sends only the parts that it needs, so at most 32 statements are ever prepared. Planned
/// and bound as a whole, the parts without rows would cost more than those with.
#[derive(Default)]
struct Parts {
    texts: Vec<String>,
    arguments: PgArguments,
    columns: usize,
}

impl Parts {
    /// An array, as the next parameter.
    fn bind<T>(&mut self, column: Vec<T>) -> Result<(), Error>
    where
        Vec<T>: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
    {
        self.columns += 1;
        self.arguments.add(column).map_err(|error| Error::Invalid { what: error.to_string() })
    }

    /// A part of the statement, with the columns bound since the last one; `part` gets them as rows.
    fn add(&mut self, name: &str, types: &[&str], part: impl FnOnce(&str) -> String) {
        let first = self.columns - types.len() + 1;
        let columns: Vec<String> =
            types.iter().zip(first..).map(|(kind, number)| format!("${number}::{kind}[]")).collect();
        self.texts.push(format!("{name} AS ({})", part(&format!("UNNEST({})", columns.join(", ")))));
    }
}

const TEXT: &str = "text";
const INTEGER: &str = "int8";

impl Statements {
    fn new(database: &Database) -> Self {
        let (account, hold) =
            (database.table("token_tracking_account"), database.table("token_tracking_hold"));
        let (ledger, owner) =
            (database.table("token_tracking_ledger"), database.table("token_tracking_owner"));
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
                   sum(images)::int8, sum(calls)::int8 \
                 FROM (SELECT id AS request, * FROM {ledger} WHERE id = ANY($1::text[]) \
                       UNION ALL SELECT corrects, * FROM {ledger} WHERE corrects = ANY($1::text[])) entries \
                 GROUP BY request"
            ),
            account: account.clone(),
            hold: hold.clone(),
            ledger: ledger.clone(),
            renew: format!(
                "UPDATE {owner} SET renewed_at = CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) \
                 WHERE id = $1 AND dead = 0"
            ),
        }
    }

    /// Writes everything in one statement and returns how many holds ended.
    async fn write(&self, connection: &mut PgConnection, changes: &Changes<'_>) -> Result<i64, Error> {
        let mut parts = Parts::default();
        self.write_accounts(&mut parts, changes)?;
        self.write_holds(&mut parts, changes)?;
        self.write_progress(&mut parts, changes)?;
        self.write_entries(&mut parts, &changes.entries)?;
        let ended = if changes.ended_holds.is_empty() {
            "SELECT 0::int8"
        } else {
            parts.bind(changes.ended_holds.iter().map(ToString::to_string).collect())?;
            let hold = &self.hold;
            parts.add("ended", &[TEXT], |rows| {
                format!(
                    "DELETE FROM {hold} AS hold USING {rows} AS gone (id) WHERE hold.id = gone.id RETURNING 1"
                )
            });
            "SELECT count(*) FROM ended"
        };
        if parts.texts.is_empty() {
            return Ok(0);
        }
        let sql = format!("WITH {} {ended}", parts.texts.join(", "));
        Ok(sqlx::query_scalar_with(AssertSqlSafe(sql), parts.arguments).fetch_one(connection).await?)
    }

    fn write_accounts(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<(), Error> {
        let accounts: Vec<_> = changes.accounts.iter().collect();
        if accounts.is_empty() {
            return Ok(());
        }
        parts.bind(accounts.iter().map(|(key, _)| key.to_string()).collect())?;
        parts.bind(accounts.iter().map(|(_, account)| account.spent.micro()).collect())?;
        parts.bind(accounts.iter().map(|(_, account)| account.held.micro()).collect())?;
        let account = &self.account;
        parts.add("written_accounts", &[TEXT, INTEGER, INTEGER], |rows| {
            format!(
                "UPDATE {account} AS account SET spent = new.spent, held = new.held \
                 FROM {rows} AS new (key, spent, held) WHERE account.key = new.key"
            )
        });
        Ok(())
    }

    fn write_holds(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<(), Error> {
        let holds = &changes.new_holds;
        if holds.is_empty() {
            return Ok(());
        }
        let lists = holds
            .iter()
            .map(|hold| account_list(hold.request.bid.accounts.iter().map(|limit| &limit.account)));
        let tokens = |hold: &NewHold<'_>| hold.output_tokens.and_then(|count| i64::try_from(count).ok());
        parts.bind(holds.iter().map(|hold| hold.request.id.to_string()).collect())?;
        parts.bind(holds.iter().map(|hold| hold.owner.to_string()).collect())?;
        parts.bind(lists.collect::<Result<_, _>>()?)?;
        parts.bind(holds.iter().map(|hold| hold.amount.micro()).collect())?;
        parts.bind(holds.iter().map(tokens).collect())?;
        parts.bind(holds.iter().map(|hold| json(&hold.request.record)).collect::<Result<_, _>>()?)?;
        parts.bind(holds.iter().map(|hold| hold.request.record.started_at).collect())?;
        let hold = &self.hold;
        parts.add("new_holds", &[TEXT, TEXT, TEXT, INTEGER, INTEGER, TEXT, INTEGER], |rows| {
            format!(
                "INSERT INTO {hold} (id, owner, accounts, amount, output_tokens, request, held_at) SELECT * FROM {rows}"
            )
        });
        Ok(())
    }

    fn write_progress(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<(), Error> {
        let progress = &changes.progress;
        if progress.is_empty() {
            return Ok(());
        }
        parts.bind(progress.iter().map(|(id, _)| id.to_string()).collect())?;
        parts.bind(progress.iter().map(|(_, progress)| json(progress)).collect::<Result<_, _>>()?)?;
        let hold = &self.hold;
        parts.add("progress", &[TEXT, TEXT], |rows| {
            format!(
                "UPDATE {hold} AS hold SET progress = new.progress FROM {rows} AS new (id, progress) WHERE hold.id = new.id"
            )
        });
        Ok(())
    }

    fn write_entries(&self, parts: &mut Parts, entries: &[Entry<'_>]) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let texts = |of: fn(&Entry<'_>) -> Option<String>| entries.iter().map(of).collect::<Vec<_>>();
        let numbers = |of: fn(&Entry<'_>) -> Option<i64>| entries.iter().map(of).collect::<Vec<_>>();
        let lists = entries.iter().map(|entry| account_list(&entry.settlement.accounts));
        parts.bind(texts(|entry| Some(entry.id.simple().to_string())))?;
        parts.bind(texts(|entry| Some(entry.kind.as_str().into())))?;
        parts.bind(texts(|entry| entry.corrects.map(|id| id.to_string())))?;
        parts.bind(texts(|entry| Some(entry.settlement.record.user.to_string())))?;
        parts.bind(texts(|entry| entry.settlement.record.sponsored.map(|id| id.to_string())))?;
        parts.bind(lists.collect::<Result<_, _>>()?)?;
        parts.bind(texts(|entry| Some(entry.settlement.record.day.to_string())))?;
        parts.bind(texts(|entry| Some(entry.settlement.record.provider.to_string())))?;
        parts.bind(texts(|entry| Some(entry.settlement.record.model.to_string())))?;
        parts.bind(texts(|entry| entry.settlement.answered_model.clone()))?;
        parts.bind(numbers(|entry| {
            let version = entry.settlement.price_version.or(entry.settlement.record.price_version);
            version.map(|version| version.0)
        }))?;
        for class in 0..COUNTS {
            parts.bind(entries.iter().map(|entry| entry.counts[class]).collect())?;
        }
        parts.bind(numbers(|entry| Some(entry.charge.micro())))?;
        parts.bind(texts(|entry| entry.settlement.estimated.map(|how| how.as_str().into())))?;
        parts.bind(texts(|entry| Some(entry.settlement.outcome.as_str().into())))?;
        parts.bind(texts(|entry| Some(policy_name(entry.settlement.record.policy).into())))?;
        parts.bind(numbers(|entry| Some(i64::from(entry.over_hold))))?;
        parts.bind(texts(|entry| Some(entry.settlement.record.way_in.as_str().into())))?;
        parts.bind(texts(|entry| entry.settlement.record.task.clone()))?;
        parts.bind(texts(|entry| entry.settlement.record.chat_id.clone()))?;
        parts.bind(texts(|entry| entry.settlement.record.message_id.clone()))?;
        parts.bind(texts(|entry| entry.settlement.record.workspace_model.clone()))?;
        parts.bind(texts(|entry| entry.settlement.record.instance.clone()))?;
        parts.bind(texts(|entry| entry.settlement.provider_request_id.clone()))?;
        parts.bind(numbers(|entry| Some(entry.settlement.record.started_at)))?;
        parts.bind(numbers(|entry| entry.settlement.first_byte_at.map(|at| at.as_microsecond())))?;
        parts.bind(numbers(|entry| Some(entry.settlement.ended_at.as_microsecond())))?;
        let types =
            [&[TEXT; 10][..], &[INTEGER; COUNTS + 2], &[TEXT; 3], &[INTEGER], &[TEXT; 7], &[INTEGER; 3]]
                .concat();
        let ledger = &self.ledger;
        parts.add("entries", &types, |rows| {
            format!(
                "INSERT INTO {ledger} (id, kind, corrects, user_id, sponsored_id, accounts, day, provider, model, \
                   answered_model, price_version, input_tokens, cached_input_tokens, cache_write_tokens, \
                   cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, \
                   images, calls, charge, estimated, outcome, policy, over_hold, way_in, task, chat_id, message_id, \
                   workspace_model, instance, provider_request_id, started_at, first_byte_at, ended_at) \
                 SELECT * FROM {rows}"
            )
        });
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Invalid { what: error.to_string() })
}
