//! Who owns holds: a process with a lease, and how others notice that it is gone.
//!
//! An owner is dead when its lease ran out by the database's clock, or at once when it ran on this host (same boot, same
//! process namespace) and its process is gone. Being declared dead is final: an owner that wakes up later finds its lease
//! lost, takes a new name, and its settlements become corrections.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use accounting::{AccountKey, OwnerId, RequestId};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use super::hold::Abandoned;
use super::postponed::Postponed;
use super::progress::Saved;
use crate::{Database, Error, Kind, new_id, on_pool};

/// A lease that was not renewed for this long, in microseconds, has run out.
pub(crate) const LEASE: i64 = 12_000_000;
/// At most so many abandoned holds are returned at once.
const MOST_ABANDONED: i64 = 1000;

/// Whether this process may go on under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Renewed.
    Held,
    /// Another process declared this one dead: end the streams and register again.
    Lost,
}

/// This process as an owner of holds.
#[derive(Debug)]
pub(super) struct Owner {
    id: RwLock<OwnerId>,
    /// What other processes left and this one could not settle.
    pub(super) postponed: Postponed,
}

impl Owner {
    pub(super) async fn register(database: &Database) -> Result<Self, Error> {
        let id = OwnerId::new(new_id());
        insert(database, id).await?;
        Ok(Self { id: RwLock::new(id), postponed: Postponed::default() })
    }

    pub(super) fn id(&self) -> OwnerId {
        *self.id.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn register_again(&self, database: &Database) -> Result<(), Error> {
        let id = OwnerId::new(new_id());
        insert(database, id).await?;
        *self.id.write().unwrap_or_else(PoisonError::into_inner) = id;
        Ok(())
    }

    pub(super) async fn resign(&self, database: &Database) -> Result<(), Error> {
        declare_dead(database, self.id(), true).await
    }
}

async fn insert(database: &Database, id: OwnerId) -> Result<(), Error> {
    let now = now(database.kind());
    let sql = format!(
        "INSERT INTO {} (id, process, started_at, renewed_at, program_schema) VALUES ($1, $2, {now}, {now}, $3)",
        database.table("token_tracking_owner")
    );
    on_pool!(database, pool => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).bind(this_process());
        query.bind(crate::migrate::CURRENT).execute(pool).await?;
    });
    Ok(())
}

/// The database's own clock, in microseconds since 1970 UTC.
pub(crate) const fn now(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        Kind::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    }
}

async fn declare_dead(database: &Database, id: OwnerId, gone: bool) -> Result<(), Error> {
    let sql = format!(
        "UPDATE {} SET dead = 1 WHERE id = $1 AND dead = 0 AND ($2 = 1 OR renewed_at < {} - $3)",
        database.table("token_tracking_owner"),
        now(database.kind())
    );
    on_pool!(database, pool => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).bind(i64::from(gone)).bind(LEASE);
        query.execute(pool).await?;
    });
    Ok(())
}

pub(super) async fn abandoned(database: &Database, this: &Owner) -> Result<Vec<Abandoned>, Error> {
    for (id, process, lapsed) in living(database).await? {
        let gone = is_gone(&process);
        if id != this.id() && (gone || lapsed) {
            tracing::warn!(owner = %id, gone, "a process that tracked requests is gone; its requests are settled here");
            declare_dead(database, id, gone).await?;
        }
    }
    forget_dead(database).await?;
    let (hold, owner) = (database.table("token_tracking_hold"), database.table("token_tracking_owner"));
    // Those that wait for a better time take no place of the others.
    let most = MOST_ABANDONED.saturating_add(i64::try_from(this.postponed.count()).unwrap_or(i64::MAX));
    let sql = format!(
        "SELECT id, accounts, request, progress, owner FROM {hold} \
         WHERE owner NOT IN (SELECT id FROM {owner} WHERE dead = 0) ORDER BY id LIMIT {most}"
    );
    let rows: Vec<(String, String, String, Option<String>, String)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?
    });
    let ids: HashSet<&str> = rows.iter().map(|(id, ..)| id.as_str()).collect();
    this.postponed.keep(|id| ids.contains(id));
    let now = Instant::now();
    let due = rows.iter().filter(|(id, ..)| this.postponed.is_due(id, now));
    let saved = Saved::by(database, rows.iter().map(|row| row.4.as_str())).await?;
    let read = due.filter_map(|(id, accounts, request, progress, _)| {
        match read(id.clone(), accounts, request, progress.as_deref(), &saved) {
            Ok(abandoned) => Some(abandoned),
            // A row of another version, or changed by hand: the others are settled all the same.
            Err(error) => {
                if this.postponed.failed(id, now) {
                    tracing::error!(%error, request = id, "a hold can't be read, so it stands");
                }
                None
            }
        }
    });
    Ok(read.collect())
}

/// Gives a hold of this process to whoever can settle it.
pub(super) async fn leave(database: &Database, id: RequestId) -> Result<(), Error> {
    let sql = format!("UPDATE {} SET owner = '' WHERE id = $1", database.table("token_tracking_hold"));
    on_pool!(database, pool => {
        sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).execute(pool).await?;
    });
    Ok(())
}

/// Owners not declared dead: id, process, and whether the lease has run out.
async fn living(database: &Database) -> Result<Vec<(OwnerId, String, bool)>, Error> {
    let sql = select_living(database);
    let rows: Vec<(String, String, i64)> =
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
    rows.into_iter().map(|(id, process, lapsed)| Ok((id.parse()?, process, lapsed == 1))).collect()
}

/// A process that holds a live lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveOwner {
    /// Whether it runs on this host.
    pub is_here: bool,
    description: String,
}

impl std::fmt::Display for LiveOwner {
    /// As people can find it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description)
    }
}

/// The processes that hold a live lease; with a schema, only those whose program does not know it. For a transaction that
/// must be alone.
macro_rules! live_owners {
    ($transaction:expr, $database:expr, $schema:expr) => {{
        let sql = $crate::ledger::select_live($database, $schema);
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *$transaction).await?;
        $crate::ledger::live(rows)
    }};
}
pub(crate) use live_owners;

/// The query behind [`live_owners`].
pub(crate) fn select_live(database: &Database, unknown_schema: Option<i64>) -> String {
    let living = select_living(database);
    match unknown_schema {
        None => living,
        Some(schema) => {
            living.replace(" ORDER BY", &format!(" AND COALESCE(program_schema, 2) < {schema} ORDER BY"))
        }
    }
}

/// The query for owners not declared dead: id, process, and whether the lease has run out.
pub(crate) fn select_living(database: &Database) -> String {
    let now = now(database.kind());
    format!(
        "SELECT id, process, CASE WHEN renewed_at < {now} - {LEASE} THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS lapsed \
         FROM {} WHERE dead = 0 ORDER BY started_at",
        database.table("token_tracking_owner")
    )
}

/// Those of them that live: where the process of each is.
pub(crate) fn live(rows: Vec<(String, String, i64)>) -> Vec<LiveOwner> {
    let living = rows.into_iter().filter(|(_, process, lapsed)| *lapsed == 0 && !is_gone(process));
    living
        .map(|(owner, process, _)| {
            let mut parts = process.rsplitn(3, '/');
            let (pid, its_host) = (parts.nth(1).map(str::to_owned), parts.next());
            let is_here = pid.is_some() && its_host.map(str::to_owned) == host();
            let description = match pid {
                Some(pid) if is_here => format!("process {pid}"),
                Some(pid) => format!("process {pid} of another host or container"),
                None => format!("owner {owner}"),
            };
            LiveOwner { is_here, description }
        })
        .collect()
}

/// Removes owners that are dead and hold nothing.
async fn forget_dead(database: &Database) -> Result<(), Error> {
    let (hold, owner) = (database.table("token_tracking_hold"), database.table("token_tracking_owner"));
    let sql = format!(
        "DELETE FROM {owner} WHERE dead = 1 AND renewed_at < {} - 300 * $1 AND id NOT IN (SELECT owner FROM {hold})",
        now(database.kind())
    );
    on_pool!(database, pool => {
        sqlx::query(AssertSqlSafe(sql)).bind(LEASE).execute(pool).await?;
    });
    Ok(())
}

/// Why a hold can't be read here, if it can't: then it is a newer program's to settle.
pub(crate) fn unreadable(id: String, accounts: &str, request: &str, progress: Option<&str>) -> Option<Error> {
    read(id, accounts, request, progress, &Saved::default()).err()
}

/// The hold that a row is. Any word in it that this program does not know may change what it costs, so that it is nobody's
/// but a newer program's to settle.
fn read(
    id: String,
    accounts: &str,
    request: &str,
    progress: Option<&str>,
    saved: &Saved,
) -> Result<Abandoned, Error> {
    let wrong = |column: &str, why: String| Error::NewerData {
        what: format!("the hold {id}"),
        value: format!("a value in `{column}` ({why})"),
    };
    let keys: Vec<String> =
        serde_json::from_str(accounts).map_err(|error| wrong("accounts", error.to_string()))?;
    let accounts = keys.iter().map(|key| key.parse()).collect::<Result<Vec<AccountKey>, _>>();
    let accounts = accounts.map_err(|error| wrong("accounts", error.to_string()))?;
    let record = serde_json::from_str(request).map_err(|error| wrong("request", error.to_string()))?;
    let progress = saved.latest(&id, progress).map_err(|error| wrong("progress", error.to_string()))?;
    Ok(Abandoned { id: id.parse()?, accounts, record, progress })
}

/// What tells this process from all others, as `boot/namespace/pid/start`; empty where the system does not say.
fn this_process() -> String {
    let pid = std::process::id();
    match (host(), started(pid)) {
        (Some(host), Some(start)) => format!("{host}/{pid}/{start}"),
        _ => String::new(),
    }
}

/// Whether that process ran on this host and is gone. Unknown is not gone.
fn is_gone(process: &str) -> bool {
    let mut parts = process.rsplitn(3, '/');
    let (Some(start), Some(pid), Some(its_host)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    host().is_some_and(|host| host == its_host) && started(pid).is_none_or(|now| now != start)
}

/// This boot of this host, and the namespace in which process ids count.
fn host() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), namespace.display()))
}

/// When that process started, in ticks since boot: the 22nd field of its `stat`, behind the command's parentheses.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    // A zombie holds nothing any more: it only waits for its parent to take note.
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_another_one_is() {
        let this = this_process();
        assert!(!is_gone(&this));
        let (rest, _) = this.rsplit_once('/').unwrap();
        assert!(is_gone(&format!("{rest}/1")), "the same id, started at another time");
        assert!(!is_gone("another-boot/pid:[1]/1/1"), "another host: only its lease tells");
        assert!(!is_gone(""));
    }
}
