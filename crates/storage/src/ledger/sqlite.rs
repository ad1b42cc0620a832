//! The ledger's writer on SQLite: one connection on the writer's own thread, prepared statements, `BEGIN IMMEDIATE`.
//!
//! Processes of ours take turns by an advisory lock on a file beside the database, because SQLite's own busy waiting
//! starves some of them. Writers that do not know this lock (Open WebUI itself) are met by `SQLITE_BUSY`, and the batch
//! is tried again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use accounting::{Account, Clock, Credits, OwnerId, RequestId, UserId, Zone};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::checkpoint::Checkpointer;
use super::foreign::{clamped, is_mirrored, log_date};
use super::plan::{Changes, Entry, Loaded, NewHold, Recorded, StoredHold, Wanted};
use super::turn::Turns;
use super::writer::{Committed, Engine};
use crate::error::sqlite_says;
use crate::settings::Settings;
use crate::{Database, Error, SystemClock};

/// How long SQLite itself waits for another writer, before the batch is put back and tried again.
const BUSY_TIMEOUT: Duration = Duration::from_millis(50);

const LOAD_ACCOUNT: &str = "SELECT spent, held FROM token_tracking_account WHERE key = ?1";
const LOAD_HOLD: &str = "SELECT amount, output_tokens FROM token_tracking_hold WHERE id = ?1";
const LOAD_RECORDED: &str = "SELECT count(*), COALESCE(sum(charge), 0), COALESCE(sum(input_tokens), 0), \
    COALESCE(sum(cached_input_tokens), 0), COALESCE(sum(cache_write_tokens), 0), \
    COALESCE(sum(cache_write_long_tokens), 0), COALESCE(sum(input_audio_tokens), 0), COALESCE(sum(output_tokens), 0), \
    COALESCE(sum(reasoning_tokens), 0), COALESCE(sum(output_audio_tokens), 0), COALESCE(sum(images), 0), \
    COALESCE(sum(calls), 0), COALESCE(min(outcome = 'recovered'), 0) \
    FROM (SELECT * FROM token_tracking_ledger WHERE id = ?1 \
          UNION ALL SELECT * FROM token_tracking_ledger WHERE corrects = ?1)";
const UPDATE_ACCOUNT: &str = "UPDATE token_tracking_account SET spent = ?2, held = ?3 WHERE key = ?1";
const INSERT_ACCOUNT: &str = "INSERT INTO token_tracking_account (key, kind, user_id, sponsored_id, day, spent, held) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_HOLD: &str = "INSERT INTO token_tracking_hold \
    (id, owner, accounts, amount, output_tokens, request, held_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE_HOLD: &str = "DELETE FROM token_tracking_hold WHERE id = ?1";
const SAVE_PROGRESS: &str = "UPDATE token_tracking_hold SET progress = ?2 WHERE id = ?1";
const RENEW: &str = "UPDATE token_tracking_owner SET renewed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER) \
    WHERE id = ?1 AND dead = 0";
const SAVE: &str = "UPDATE token_tracking_owner SET progress = ?2 WHERE id = ?1 AND dead = 0";
const TIME_ZONE: &str =
    "SELECT setting_value FROM token_tracking_base_settings WHERE setting_key = 'timezone'";
/// Foreign keys hold on this connection: an allowance that is gone is not named.
const INSERT_MIRROR: &str = "INSERT INTO token_tracking_usage_log (log_date, user_id, provider, model_id, prompt_tokens, \
    response_tokens, sponsored_allowance_id, tracking_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, \
    (SELECT id FROM token_tracking_sponsored_allowance WHERE id = ?7), ?8)";
const MARK: &str = "UPDATE token_tracking_usage_log SET tracking_id = ?2 WHERE rowid = CAST(?1 AS INTEGER) AND tracking_id IS NULL";
const INSERT_ENTRY: &str = "INSERT INTO token_tracking_ledger (id, kind, corrects, user_id, sponsored_id, accounts, day, \
    provider, model, answered_model, price_version, input_tokens, cached_input_tokens, cache_write_tokens, \
    cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, images, calls, \
    charge, estimated, outcome, policy, over_hold, way_in, task, chat_id, message_id, workspace_model, instance, \
    provider_request_id, started_at, first_byte_at, ended_at, adjusted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
    ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)";

pub(super) struct SqliteEngine {
    path: PathBuf,
    open: Option<Open>,
    in_turn: bool,
}

struct Open {
    connection: Connection,
    turns: Option<Turns>,
    /// In WAL mode.
    checkpointer: Option<Checkpointer>,
    /// The zone of the original's local times, and the setting that names it.
    zone: (Option<String>, Zone),
}

impl SqliteEngine {
    pub(super) fn new(database: &Database) -> Self {
        let path = database.url().path().map(PathBuf::from).unwrap_or_default();
        Self { path, open: None, in_turn: false }
    }

    fn opened(&mut self) -> Result<&mut Open, Error> {
        if self.open.is_none() {
            self.open = Some(open(&self.path)?);
        }
        self.open.as_mut().ok_or_else(|| Error::Unavailable { what: "the SQLite file is not open".into() })
    }

    fn try_load(&mut self, wanted: &Wanted) -> Result<Loaded, Error> {
        self.in_turn = true;
        let Open { connection, turns, .. } = self.opened()?;
        if let Some(turns) = turns {
            turns.take();
        }
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut loaded = Loaded::default();
        let mut account = connection.prepare_cached(LOAD_ACCOUNT)?;
        for (text, key) in &wanted.accounts {
            let row = account.query_row([text], |row| {
                Ok(Account {
                    spent: Credits::from_micro(row.get(0)?),
                    held: Credits::from_micro(row.get(1)?),
                })
            });
            loaded.accounts.extend(row.optional()?.map(|account| (key.clone(), account)));
        }
        let mut hold = connection.prepare_cached(LOAD_HOLD)?;
        for id in &wanted.holds {
            let row = hold.query_row([id.to_string()], |row| {
                let output_tokens: Option<i64> = row.get(1)?;
                let amount = Credits::from_micro(row.get(0)?);
                Ok(StoredHold {
                    amount,
                    output_tokens: output_tokens.and_then(|count| u64::try_from(count).ok()),
                })
            });
            loaded.holds.extend(row.optional()?.map(|hold| (*id, hold)));
        }
        let mut recorded = connection.prepare_cached(LOAD_RECORDED)?;
        for id in wanted.recorded(&loaded.holds) {
            let (rows, sums) = recorded.query_row([id.to_string()], |row| {
                let mut counts = [0; 10];
                for (class, count) in counts.iter_mut().enumerate() {
                    *count = row.get(class + 2)?;
                }
                let rows: i64 = row.get(0)?;
                let (charge, guessed) = (Credits::from_micro(row.get(1)?), row.get(12)?);
                Ok((rows, Recorded { charge, counts, guessed }))
            })?;
            if rows > 0 {
                loaded.recorded.insert(id, sums);
            }
        }
        Ok(loaded)
    }

    fn try_commit(&mut self, changes: &Changes<'_>, owner: OwnerId) -> Result<Committed, Error> {
        let Open { connection, turns, checkpointer, zone } = self.opened()?;
        for (key, account) in &changes.accounts {
            let (text, spent, held) = (key.to_string(), account.spent.micro(), account.held.micro());
            if connection.prepare_cached(UPDATE_ACCOUNT)?.execute(params![text, spent, held])? == 0 {
                let day = key.day().map(|day| day.to_string());
                let user = key.user().map(UserId::as_str);
                let sponsored = key.sponsored().map(|id| id.to_string());
                let row = params![text, key.kind(), user, sponsored, day, spent, held];
                connection.prepare_cached(INSERT_ACCOUNT)?.execute(row)?;
            }
        }
        for id in &changes.ended_holds {
            let deleted = connection.prepare_cached(DELETE_HOLD)?.execute([id.to_string()])?;
            if deleted != 1 {
                return Err(Error::Unavailable { what: "a hold ended meanwhile".into() });
            }
        }
        for hold in &changes.new_holds {
            insert_hold(connection, hold)?;
        }
        for entry in &changes.entries {
            insert_entry(connection, entry)?;
        }
        mirror(connection, zone, changes)?;
        for (place, mark) in &changes.marked {
            if connection.prepare_cached(MARK)?.execute(params![place, mark])? != 1 {
                return Err(super::foreign::taken());
            }
        }
        for day in changes.reopened_days(SystemClock.now()) {
            let reopen = crate::rollup::reopen("token_tracking_rollup_day");
            connection.prepare_cached(&reopen)?.execute([day.to_string()])?;
        }
        let mut lost = changes.renew && connection.prepare_cached(RENEW)?.execute([owner.to_string()])? == 0;
        if let Some(saved) = changes.saved {
            lost |= connection.prepare_cached(SAVE)?.execute(params![owner.to_string(), saved])? == 0;
        }
        // What a dead owner's requests are recovered at stands still from the moment at which it was declared dead.
        for (id, progress) in changes.progress.iter().filter(|_| !lost) {
            connection.prepare_cached(SAVE_PROGRESS)?.execute(params![id.to_string(), json(progress)?])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        if let Some(checkpointer) = checkpointer {
            checkpointer.committed(changes.rows(), connection);
        }
        if let Some(turns) = turns {
            turns.give_back();
        }
        self.in_turn = false;
        Ok(if lost { Committed::LeaseLost } else { Committed::Done })
    }
}

impl Engine for SqliteEngine {
    const LONGEST: Duration = Duration::from_millis(5);

    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, Error> {
        self.try_load(wanted)
    }

    async fn commit(
        &mut self,
        _wanted: &Wanted,
        changes: &Changes<'_>,
        owner: OwnerId,
    ) -> Result<Committed, Error> {
        self.try_commit(changes, owner)
    }

    async fn abandon(&mut self) {
        if !std::mem::take(&mut self.in_turn) {
            return;
        }
        if let Some(Open { connection, turns, .. }) = &mut self.open {
            let left = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            if let Some(turns) = turns {
                turns.give_back();
            }
            if !left {
                // A connection in an unknown state is replaced; closing it rolls back.
                self.open = None;
            }
        }
    }
}

fn open(path: &Path) -> Result<Open, Error> {
    let (connection, wal) = connect(path)?;
    let turns = Turns::open(path);
    if let Err(error) = &turns {
        tracing::warn!(%error, "no lock file beside the database: several processes will take turns less fairly");
    }
    let checkpointer = if wal { checkpointer(path, &connection)? } else { None };
    let zone = (None, Settings::defaults().timezone);
    Ok(Open { connection, turns: turns.ok(), checkpointer, zone })
}

/// A connection, and whether the database is in WAL mode.
fn connect(path: &Path) -> Result<(Connection, bool), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let wal = mode.eq_ignore_ascii_case("wal");
    // In WAL mode a commit survives the death of the process with NORMAL; the journal mode itself stays as found.
    connection.pragma_update(None, "synchronous", if wal { "NORMAL" } else { "FULL" })?;
    Ok((connection, wal))
}

/// Has the log written back beside the writer's connection; where that can't be, SQLite goes on doing it in its commits.
fn checkpointer(path: &Path, writer: &Connection) -> Result<Option<Checkpointer>, Error> {
    match Checkpointer::start(connect(path)?.0) {
        Ok(checkpointer) => {
            writer.pragma_update(None, "wal_autocheckpoint", 0)?;
            Ok(Some(checkpointer))
        }
        Err(error) => {
            tracing::warn!(%error, "no thread to write the log of the database back");
            Ok(None)
        }
    }
}

/// Tells the original of what was settled.
fn mirror(
    connection: &Connection,
    zone: &mut (Option<String>, Zone),
    changes: &Changes<'_>,
) -> Result<(), Error> {
    let mut entries = changes.entries.iter().filter(|entry| is_mirrored(entry)).peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let set: Option<Option<String>> =
        connection.prepare_cached(TIME_ZONE)?.query_row([], |row| row.get(0)).optional()?;
    let set = set.flatten();
    if set != zone.0 {
        let known = set.as_deref().and_then(|name| Zone::named(name).ok());
        *zone = (set, known.unwrap_or_else(|| Settings::defaults().timezone));
    }
    let mut insert = connection.prepare_cached(INSERT_MIRROR)?;
    for entry in entries {
        let record = &entry.settlement.record;
        insert.execute(params![
            log_date(&zone.1, record.started_at, record.day),
            record.user.as_str(),
            record.provider.as_str(),
            record.model.as_str(),
            clamped(entry.counts[0]),
            clamped(entry.counts[5]),
            record.sponsored.map(|id| id.to_string()),
            entry.id.simple().to_string()
        ])?;
    }
    Ok(())
}

fn insert_hold(connection: &Connection, hold: &NewHold<'_>) -> Result<(), Error> {
    let NewHold { request, owner, amount, output_tokens } = hold;
    connection.prepare_cached(INSERT_HOLD)?.execute(params![
        request.id.to_string(),
        owner.to_string(),
        super::entry::account_list(request.bid.accounts.iter().map(|limit| &limit.account))?,
        amount.micro(),
        output_tokens.and_then(|count| i64::try_from(count).ok()),
        json(&request.record)?,
        request.record.started_at
    ])?;
    Ok(())
}

fn insert_entry(connection: &Connection, entry: &Entry<'_>) -> Result<(), Error> {
    let (settlement, record) = (entry.settlement, &entry.settlement.record);
    connection.prepare_cached(INSERT_ENTRY)?.execute(params![
        entry.id.simple().to_string(),
        entry.kind.as_str(),
        entry.corrects.map(|id: RequestId| id.to_string()),
        record.user.as_str(),
        record.sponsored.map(|id| id.to_string()),
        super::entry::account_list(&settlement.accounts)?,
        record.day.to_string(),
        record.provider.as_str(),
        record.model.as_str(),
        settlement.answered_model.as_deref(),
        settlement.price_version.or(record.price_version).map(|version| version.0),
        entry.counts[0],
        entry.counts[1],
        entry.counts[2],
        entry.counts[3],
        entry.counts[4],
        entry.counts[5],
        entry.counts[6],
        entry.counts[7],
        entry.counts[8],
        entry.counts[9],
        entry.charge.micro(),
        settlement.estimated.map(|how| how.as_str()),
        settlement.outcome.as_str(),
        super::entry::policy_name(record.policy),
        i64::from(entry.over_hold),
        record.way_in.as_str(),
        record.task.as_deref(),
        record.chat_id.as_deref(),
        record.message_id.as_deref(),
        record.workspace_model.as_deref(),
        record.instance.as_deref(),
        settlement.provider_request_id.as_deref(),
        record.started_at,
        settlement.first_byte_at.map(|at| at.as_microsecond()),
        settlement.ended_at.as_microsecond(),
        i64::from(settlement.usage.adjusted)
    ])?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Invalid { what: error.to_string() })
}

impl From<rusqlite::Error> for Error {
    /// Another writer, a full disk, a file that is away or a failing device pass: the caller tries again. All else is
    /// the operation's own fault.
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, OutOfMemory,
            PermissionDenied, ReadOnly, SchemaChanged, SystemIoFailure,
        };
        let passing = matches!(
            error.sqlite_error_code(),
            Some(
                DatabaseBusy
                    | DatabaseLocked
                    | DiskFull
                    | CannotOpen
                    | SystemIoFailure
                    | FileLockingProtocolFailed
                    | OutOfMemory
                    | SchemaChanged
                    | ReadOnly
                    | PermissionDenied
            )
        );
        if passing {
            let code = error.sqlite_error().map_or(0, |error| i64::from(error.extended_code & 0xff));
            Self::Unavailable { what: sqlite_says(code, &error.to_string()) }
        } else {
            Self::Invalid { what: format!("SQLite: {error}") }
        }
    }
}
