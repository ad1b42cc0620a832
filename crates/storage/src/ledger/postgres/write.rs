//! All writes of a batch as one statement, with only the parts that it needs.
//!
//! Under lock they are written as they are. Decided on remembered rows, they are guarded: the statement locks the accounts
//! and the holds to be ended, in the same order as everybody does, and each part writes only if all of them still are as
//! remembered. So one round trip is a whole transaction.

use std::fmt::Write;

use accounting::{Account, Clock, OwnerId};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Postgres};

use super::super::entry::{account_list, policy_name};
use super::super::foreign::is_mirrored;
use super::super::plan::{Changes, Entry, NewHold};
use crate::pooled::PgSession;
use crate::rollup::REOPENED;
use crate::{Database, Error, SystemClock};

/// Classes of usage in the ledger.
const COUNTS: usize = 10;
const TEXT: &str = "text";
const INTEGER: &str = "int8";
/// What the mirror of an entry needs to know of it.
const MIRRORED: &str =
    " RETURNING id, kind, user_id, sponsored_id, provider, model, input_tokens, output_tokens, started_at";

/// What a statement has done.
pub(super) struct Written {
    /// Whether the remembered rows were still so; if not, nothing was written.
    pub(super) fresh: bool,
    /// How many holds have ended.
    pub(super) ended: i64,
    /// How many rows of the original were marked.
    pub(super) marked: i64,
    /// Whether the owner's lease was renewed.
    pub(super) renewed: bool,
}

/// The tables that a batch writes, by their names in this database.
pub(super) struct Tables {
    account: String,
    hold: String,
    ledger: String,
    owner: String,
    usage_log: String,
    sponsored: String,
    rollup_day: String,
}

/// A statement in the making. Planned and bound as a whole, the parts without rows would cost more than those with.
#[derive(Default)]
struct Parts {
    text: String,
    arguments: PgArguments,
    columns: usize,
    /// Stands for `AND …` in a part that may only write if the remembered rows are still so.
    guard: &'static str,
}

impl Parts {
    /// An array, as the next parameter.
    fn bind<'q, T>(&mut self, column: Vec<T>) -> Result<(), Error>
    where
        Vec<T>: sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
    {
        self.columns += 1;
        self.arguments.add(column).map_err(|error| Error::Invalid { what: error.to_string() })
    }

    /// The columns bound last, as rows.
    fn rows(&self, types: &[&str]) -> String {
        let first = self.columns - types.len() + 1;
        let columns: Vec<String> =
            types.iter().zip(first..).map(|(kind, number)| format!("${number}::{kind}[]")).collect();
        format!("UNNEST({})", columns.join(", "))
    }

    /// A part of the statement.
    fn add(&mut self, name: &str, part: &str) {
        let before = if self.text.is_empty() { "WITH" } else { "," };
        // Writing to a text does not fail.
        let _ = write!(self.text, "{before} {name} AS ({part})");
    }
}

impl Tables {
    pub(super) fn new(database: &Database) -> Self {
        Self {
            account: database.table("token_tracking_account"),
            hold: database.table("token_tracking_hold"),
            ledger: database.table("token_tracking_ledger"),
            owner: database.table("token_tracking_owner"),
            usage_log: database.table("token_tracking_usage_log"),
            sponsored: database.table("token_tracking_sponsored_allowance"),
            rollup_day: database.table("token_tracking_rollup_day"),
        }
    }

    /// Writes everything in one statement; if accounts are given as they are remembered, only if they still are so.
    pub(super) async fn write(
        &self,
        connection: &mut PgSession<Box<PgConnection>>,
        changes: &Changes<'_>,
        owner: OwnerId,
        remembered: Option<&[(&str, Account)]>,
    ) -> Result<Written, Error> {
        let mut parts = Parts::default();
        let fresh = match remembered {
            Some(accounts) => {
                self.guard(&mut parts, accounts, changes)?;
                "(SELECT fresh FROM guard)"
            }
            None => "true",
        };
        self.write_accounts(&mut parts, changes)?;
        self.write_holds(&mut parts, changes)?;
        self.write_entries(&mut parts, &changes.entries)?;
        self.reopen_days(&mut parts, changes)?;
        let ended = self.end_holds(&mut parts, changes)?;
        let marked = self.mark(&mut parts, changes)?;
        let renewed = self.renew(&mut parts, changes, owner)?;
        self.write_progress(&mut parts, changes)?;
        if parts.text.is_empty() {
            return Ok(Written { fresh: true, ended: 0, marked: 0, renewed: false });
        }
        let sql = format!("{} SELECT {fresh}, {ended}, {marked}, {renewed}", parts.text);
        let (fresh, ended, marked, renewed) =
            sqlx::query_as_with(AssertSqlSafe(sql), parts.arguments).fetch_one(connection).await?;
        Ok(Written { fresh, ended, marked, renewed })
    }

    /// Locks what the batch was decided on, and says whether it is still so.
    fn guard(
        &self,
        parts: &mut Parts,
        remembered: &[(&str, Account)],
        changes: &Changes<'_>,
    ) -> Result<(), Error> {
        let Self { account, hold, .. } = self;
        parts.bind(changes.ended_holds.iter().map(ToString::to_string).collect())?;
        parts.bind(remembered.iter().map(|(key, _)| *key).collect())?;
        parts.bind(remembered.iter().map(|(_, account)| account.spent.micro()).collect())?;
        parts.bind(remembered.iter().map(|(_, account)| account.held.micro()).collect())?;
        let rows = parts.rows(&[TEXT, INTEGER, INTEGER]);
        parts.add(
            "same_accounts",
            &format!(
                "SELECT FROM {rows} AS known (key, spent, held) JOIN {account} AS account ON account.key = known.key \
                 WHERE account.spent = known.spent AND account.held = known.held \
                 ORDER BY account.key COLLATE \"C\" FOR UPDATE OF account"
            ),
        );
        parts.add(
            "open_holds",
            &format!("SELECT FROM {hold} AS hold WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE"),
        );
        parts.add(
            "guard",
            "SELECT (SELECT count(*) FROM same_accounts) = cardinality($2::text[]) \
               AND (SELECT count(*) FROM open_holds) = cardinality($1::text[]) AS fresh",
        );
        parts.guard = " AND (SELECT fresh FROM guard)";
        Ok(())
    }

    fn end_holds(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<&'static str, Error> {
        if changes.ended_holds.is_empty() {
            return Ok("0::int8");
        }
        parts.bind(changes.ended_holds.iter().map(ToString::to_string).collect())?;
        let (hold, rows, guard) = (&self.hold, parts.rows(&[TEXT]), parts.guard);
        parts.add(
            "ended",
            &format!(
                "DELETE FROM {hold} AS hold USING {rows} AS gone (id) WHERE hold.id = gone.id{guard} RETURNING 1"
            ),
        );
        Ok("(SELECT count(*) FROM ended)")
    }

    /// Marks the rows of the original that are entered. Never guarded: whether all are still there shows only afterwards.
    fn mark(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<&'static str, Error> {
        if changes.marked.is_empty() {
            return Ok("0::int8");
        }
        parts.bind(changes.marked.iter().map(|(place, _)| *place).collect())?;
        parts.bind(changes.marked.iter().map(|(_, mark)| mark.as_str()).collect())?;
        let (first, second) = (parts.columns - 1, parts.columns);
        let log = &self.usage_log;
        parts.add(
            "marked",
            &format!(
                "UPDATE {log} AS log SET tracking_id = new.mark \
                 FROM UNNEST(${first}::text[]::tid[], ${second}::text[]) AS new (place, mark) \
                 WHERE log.ctid = new.place AND log.tracking_id IS NULL RETURNING 1"
            ),
        );
        Ok("(SELECT count(*) FROM marked)")
    }

    fn renew(&self, parts: &mut Parts, changes: &Changes<'_>, owner: OwnerId) -> Result<&'static str, Error> {
        if !changes.needs_lease() {
            return Ok("false");
        }
        let now = "renewed_at = CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        let mut set: Vec<&str> = changes.renew.then_some(now).into_iter().collect();
        parts.bind(vec![owner.to_string()])?;
        parts.bind(vec![changes.saved])?;
        if changes.saved.is_some() {
            set.push("progress = this.progress");
        }
        let (owner, rows, guard) = (&self.owner, parts.rows(&[TEXT, TEXT]), parts.guard);
        parts.add(
            "renewed",
            &format!(
                "UPDATE {owner} AS owner SET {} FROM {rows} AS this (id, progress) \
                 WHERE owner.id = this.id AND owner.dead = 0{guard} RETURNING 1",
                set.join(", ")
            ),
        );
        Ok("EXISTS (SELECT FROM renewed)")
    }

    fn write_accounts(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<(), Error> {
        let accounts: Vec<_> = changes.accounts.iter().collect();
        if accounts.is_empty() {
            return Ok(());
        }
        parts.bind(accounts.iter().map(|(key, _)| key.to_string()).collect())?;
        parts.bind(accounts.iter().map(|(_, account)| account.spent.micro()).collect())?;
        parts.bind(accounts.iter().map(|(_, account)| account.held.micro()).collect())?;
        let (account, rows, guard) = (&self.account, parts.rows(&[TEXT, INTEGER, INTEGER]), parts.guard);
        parts.add(
            "written_accounts",
            &format!(
                "UPDATE {account} AS account SET spent = new.spent, held = new.held \
                 FROM {rows} AS new (key, spent, held) WHERE account.key = new.key{guard}"
            ),
        );
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
        let rows = parts.rows(&[TEXT, TEXT, TEXT, INTEGER, INTEGER, TEXT, INTEGER]);
        let (hold, guard) = (&self.hold, parts.guard);
        parts.add(
            "new_holds",
            &format!(
                "INSERT INTO {hold} (id, owner, accounts, amount, output_tokens, request, held_at) \
                 SELECT * FROM {rows} WHERE true{guard}"
            ),
        );
        Ok(())
    }

    /// Only beside a renewed lease: what a dead owner's requests are recovered at stands still from the moment at which it was
    /// declared dead.
    fn write_progress(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<(), Error> {
        let progress = &changes.progress;
        if progress.is_empty() {
            return Ok(());
        }
        parts.bind(progress.iter().map(|(id, _)| id.to_string()).collect())?;
        parts.bind(progress.iter().map(|(_, progress)| json(progress)).collect::<Result<_, _>>()?)?;
        let (hold, rows, guard) = (&self.hold, parts.rows(&[TEXT, TEXT]), parts.guard);
        parts.add(
            "progress",
            &format!(
                "UPDATE {hold} AS hold SET progress = new.progress FROM {rows} AS new (id, progress) \
                 WHERE hold.id = new.id{guard} AND EXISTS (SELECT FROM renewed)"
            ),
        );
        Ok(())
    }

    fn reopen_days(&self, parts: &mut Parts, changes: &Changes<'_>) -> Result<(), Error> {
        let days: Vec<String> =
            changes.reopened_days(SystemClock.now()).iter().map(ToString::to_string).collect();
        if days.is_empty() {
            return Ok(());
        }
        parts.bind(days)?;
        let (rollup_day, rows, guard) = (&self.rollup_day, parts.rows(&[TEXT]), parts.guard);
        parts.add(
            "reopened",
            &format!(
                "INSERT INTO {rollup_day} AS kept (day) SELECT * FROM {rows} WHERE true{guard} {REOPENED}"
            ),
        );
        Ok(())
    }

    fn write_entries(&self, parts: &mut Parts, entries: &[Entry<'_>]) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let texts =
            |of: for<'e> fn(&'e Entry<'_>) -> Option<&'e str>| entries.iter().map(of).collect::<Vec<_>>();
        let numbers = |of: fn(&Entry<'_>) -> Option<i64>| entries.iter().map(of).collect::<Vec<_>>();
        let lists = entries.iter().map(|entry| account_list(&entry.settlement.accounts));
        parts.bind(entries.iter().map(|entry| entry.id.simple().to_string()).collect())?;
        parts.bind(texts(|entry| Some(entry.kind.as_str())))?;
        parts.bind(entries.iter().map(|entry| entry.corrects.map(|id| id.to_string())).collect())?;
        parts.bind(texts(|entry| Some(entry.settlement.record.user.as_str())))?;
        parts.bind(
            entries.iter().map(|entry| entry.settlement.record.sponsored.map(|id| id.to_string())).collect(),
        )?;
        parts.bind(lists.collect::<Result<_, _>>()?)?;
        parts.bind(entries.iter().map(|entry| entry.settlement.record.day.to_string()).collect())?;
        parts.bind(texts(|entry| Some(entry.settlement.record.provider.as_str())))?;
        parts.bind(texts(|entry| Some(entry.settlement.record.model.as_str())))?;
        parts.bind(texts(|entry| entry.settlement.answered_model.as_deref()))?;
        parts.bind(numbers(|entry| {
            let version = entry.settlement.price_version.or(entry.settlement.record.price_version);
            version.map(|version| version.0)
        }))?;
        for class in 0..COUNTS {
            parts.bind(entries.iter().map(|entry| entry.counts[class]).collect())?;
        }
        parts.bind(numbers(|entry| Some(entry.charge.micro())))?;
        parts.bind(texts(|entry| entry.settlement.estimated.map(|how| how.as_str())))?;
        parts.bind(texts(|entry| Some(entry.settlement.outcome.as_str())))?;
        parts.bind(texts(|entry| Some(policy_name(entry.settlement.record.policy))))?;
        parts.bind(numbers(|entry| Some(i64::from(entry.over_hold))))?;
        parts.bind(texts(|entry| Some(entry.settlement.record.way_in.as_str())))?;
        parts.bind(texts(|entry| entry.settlement.record.task.as_deref()))?;
        parts.bind(texts(|entry| entry.settlement.record.chat_id.as_deref()))?;
        parts.bind(texts(|entry| entry.settlement.record.message_id.as_deref()))?;
        parts.bind(texts(|entry| entry.settlement.record.workspace_model.as_deref()))?;
        parts.bind(texts(|entry| entry.settlement.record.instance.as_deref()))?;
        parts.bind(texts(|entry| entry.settlement.provider_request_id.as_deref()))?;
        parts.bind(numbers(|entry| Some(entry.settlement.record.started_at)))?;
        parts.bind(numbers(|entry| entry.settlement.first_byte_at.map(|at| at.as_microsecond())))?;
        parts.bind(numbers(|entry| Some(entry.settlement.ended_at.as_microsecond())))?;
        parts.bind(numbers(|entry| Some(i64::from(entry.settlement.usage.adjusted))))?;
        let types =
            [&[TEXT; 10][..], &[INTEGER; COUNTS + 2], &[TEXT; 3], &[INTEGER], &[TEXT; 7], &[INTEGER; 4]]
                .concat();
        let (ledger, rows, guard) = (&self.ledger, parts.rows(&types), parts.guard);
        let mirrored = entries.iter().any(is_mirrored);
        let told = if mirrored { MIRRORED } else { "" };
        parts.add(
            "entries",
            &format!(
                "INSERT INTO {ledger} (id, kind, corrects, user_id, sponsored_id, accounts, day, provider, model, \
                   answered_model, price_version, input_tokens, cached_input_tokens, cache_write_tokens, \
                   cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, \
                   images, calls, charge, estimated, outcome, policy, over_hold, way_in, task, chat_id, message_id, \
                   workspace_model, instance, provider_request_id, started_at, first_byte_at, ended_at, \
                   adjusted) \
                 SELECT * FROM {rows} WHERE true{guard}{told}"
            ),
        );
        if mirrored {
            self.mirror(parts);
        }
        Ok(())
    }

    /// Tells the original of the entries, from what was written of them. An allowance that is gone is not named.
    fn mirror(&self, parts: &mut Parts) {
        let Self { usage_log, sponsored, .. } = self;
        parts.add(
            "mirrored",
            &format!(
                "INSERT INTO {usage_log} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens, \
                   sponsored_allowance_id, tracking_id) \
                 SELECT timestamptz 'epoch' + entry.started_at * interval '1 microsecond', entry.user_id, entry.provider, \
                   entry.model, LEAST(entry.input_tokens, 2147483647)::int4, LEAST(entry.output_tokens, 2147483647)::int4, \
                   (SELECT allowance.id FROM {sponsored} AS allowance WHERE allowance.id = entry.sponsored_id::uuid), entry.id \
                 FROM entries AS entry \
                 WHERE entry.kind = 'request' OR (entry.kind = 'correction' AND entry.input_tokens >= 0 \
                   AND entry.output_tokens >= 0 AND entry.input_tokens + entry.output_tokens > 0)"
            ),
        );
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Invalid { what: error.to_string() })
}
