//! The ledger's writer on PostgreSQL: lock and load in one statement, write in one more.
//!
//! Account rows exist before they are locked (made in a transaction of their own), and are locked in the order of their
//! keys, so batches of several processes never deadlock; should one be chosen as a victim all the same, it is tried again.
//! Every transaction begins explicitly and keeps nothing in the session, so a pooler in front may share connections.

use std::collections::HashSet;
use std::time::Duration;

use accounting::{Account, AccountKey, Credits, OwnerId, RequestId};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, Transaction};

use super::entry::{account_list, policy_name};
use super::plan::{Changes, Loaded, Recorded, StoredHold, Wanted};
use super::writer::Engine;
use crate::{Database, Error, Pool};

/// Every statement of the writer finds its rows by key. Planned anew for each batch, the large one costs more than its
/// execution; for this transaction alone, one plan by index serves all.
const BEGIN: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off";

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
    write: String,
    renew: String,
}

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
            write: format!(
                "WITH written_accounts AS ( \
                   UPDATE {account} AS account SET spent = new.spent, held = new.held \
                   FROM UNNEST($1::text[], $2::int8[], $3::int8[]) AS new (key, spent, held) \
                   WHERE account.key = new.key), \
                 ended AS (DELETE FROM {hold} WHERE id = ANY($4::text[]) RETURNING 1), \
                 new_holds AS ( \
                   INSERT INTO {hold} (id, owner, accounts, amount, output_tokens, request, held_at) \
                   SELECT * FROM UNNEST($5::text[], $6::text[], $7::text[], $8::int8[], $9::int8[], $10::text[], \
                     $11::int8[])), \
                 progress AS ( \
                   UPDATE {hold} AS hold SET progress = new.progress \
                   FROM UNNEST($12::text[], $13::text[]) AS new (id, progress) WHERE hold.id = new.id), \
                 entries AS ( \
                   INSERT INTO {ledger} (id, kind, corrects, user_id, sponsored_id, accounts, day, provider, model, \
                     answered_model, price_version, input_tokens, cached_input_tokens, cache_write_tokens, \
                     cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, \
                     images, calls, charge, estimated, outcome, policy, over_hold, way_in, task, chat_id, message_id, \
                     workspace_model, instance, provider_request_id, started_at, first_byte_at, ended_at) \
                   SELECT * FROM UNNEST($14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], \
                     $20::text[], $21::text[], $22::text[], $23::text[], $24::int8[], $25::int8[], $26::int8[], \
                     $27::int8[], $28::int8[], $29::int8[], $30::int8[], $31::int8[], $32::int8[], $33::int8[], \
                     $34::int8[], $35::int8[], $36::text[], $37::text[], $38::text[], $39::int8[], $40::text[], \
                     $41::text[], $42::text[], $43::text[], $44::text[], $45::text[], $46::text[], $47::int8[], \
                     $48::int8[], $49::int8[])) \
                 SELECT count(*) FROM ended"
            ),
            renew: format!(
                "UPDATE {owner} SET renewed_at = CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) \
                 WHERE id = $1 AND dead = 0"
            ),
        }
    }

    /// Writes everything in one statement and returns how many holds ended.
    async fn write(&self, connection: &mut PgConnection, changes: &Changes<'_>) -> Result<i64, Error> {
        let accounts: Vec<_> = changes.accounts.iter().collect();
        let holds = &changes.new_holds;
        let entries = &changes.entries;
        let texts =
            |of: fn(&super::plan::Entry<'_>) -> Option<String>| entries.iter().map(of).collect::<Vec<_>>();
        let count = |class: usize| entries.iter().map(|entry| entry.counts[class]).collect::<Vec<i64>>();
        let lists = holds
            .iter()
            .map(|hold| account_list(hold.request.bid.accounts.iter().map(|limit| &limit.account)));
        let entry_lists = entries.iter().map(|entry| account_list(&entry.settlement.accounts));
        let mut query = sqlx::query_scalar(AssertSqlSafe(self.write.clone()))
            .bind(accounts.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>())
            .bind(accounts.iter().map(|(_, account)| account.spent.micro()).collect::<Vec<_>>())
            .bind(accounts.iter().map(|(_, account)| account.held.micro()).collect::<Vec<_>>())
            .bind(changes.ended_holds.iter().map(ToString::to_string).collect::<Vec<_>>())
            .bind(holds.iter().map(|hold| hold.request.id.to_string()).collect::<Vec<_>>())
            .bind(holds.iter().map(|hold| hold.owner.to_string()).collect::<Vec<_>>())
            .bind(lists.collect::<Result<Vec<_>, _>>()?)
            .bind(holds.iter().map(|hold| hold.amount.micro()).collect::<Vec<_>>())
            .bind(
                holds
                    .iter()
                    .map(|hold| hold.output_tokens.and_then(|n| i64::try_from(n).ok()))
                    .collect::<Vec<_>>(),
            )
            .bind(holds.iter().map(|hold| json(&hold.request.record)).collect::<Result<Vec<_>, _>>()?)
            .bind(holds.iter().map(|hold| hold.request.record.started_at).collect::<Vec<_>>())
            .bind(changes.progress.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
            .bind(changes.progress.iter().map(|(_, progress)| json(progress)).collect::<Result<Vec<_>, _>>()?)
            .bind(entries.iter().map(|entry| entry.id.simple().to_string()).collect::<Vec<_>>())
            .bind(texts(|entry| Some(entry.kind.as_str().into())))
            .bind(texts(|entry| entry.corrects.map(|id| id.to_string())))
            .bind(texts(|entry| Some(entry.settlement.record.user.to_string())))
            .bind(texts(|entry| entry.settlement.record.sponsored.map(|id| id.to_string())))
            .bind(entry_lists.collect::<Result<Vec<_>, _>>()?)
            .bind(texts(|entry| Some(entry.settlement.record.day.to_string())))
            .bind(texts(|entry| Some(entry.settlement.record.provider.to_string())))
            .bind(texts(|entry| Some(entry.settlement.record.model.to_string())))
            .bind(texts(|entry| entry.settlement.answered_model.clone()));
        let versions = entries
            .iter()
            .map(|entry| entry.settlement.price_version.or(entry.settlement.record.price_version));
        query = query.bind(versions.map(|version| version.map(|version| version.0)).collect::<Vec<_>>());
        for class in 0..10 {
            query = query.bind(count(class));
        }
        let started: Vec<i64> = entries.iter().map(|entry| entry.settlement.record.started_at).collect();
        let first = entries.iter().map(|entry| entry.settlement.first_byte_at.map(|at| at.as_microsecond()));
        let ended = entries.iter().map(|entry| entry.settlement.ended_at.as_microsecond());
        let ended_holds: i64 = query
            .bind(entries.iter().map(|entry| entry.charge.micro()).collect::<Vec<_>>())
            .bind(texts(|entry| entry.settlement.estimated.map(|how| how.as_str().into())))
            .bind(texts(|entry| Some(entry.settlement.outcome.as_str().into())))
            .bind(texts(|entry| Some(policy_name(entry.settlement.record.policy).into())))
            .bind(entries.iter().map(|entry| i64::from(entry.over_hold)).collect::<Vec<_>>())
            .bind(texts(|entry| Some(entry.settlement.record.way_in.as_str().into())))
            .bind(texts(|entry| entry.settlement.record.task.clone()))
            .bind(texts(|entry| entry.settlement.record.chat_id.clone()))
            .bind(texts(|entry| entry.settlement.record.message_id.clone()))
            .bind(texts(|entry| entry.settlement.record.workspace_model.clone()))
            .bind(texts(|entry| entry.settlement.record.instance.clone()))
            .bind(texts(|entry| entry.settlement.provider_request_id.clone()))
            .bind(started)
            .bind(first.collect::<Vec<_>>())
            .bind(ended.collect::<Vec<_>>())
            .fetch_one(connection)
            .await?;
        Ok(ended_holds)
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Invalid { what: error.to_string() })
}
