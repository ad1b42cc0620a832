//! The roll-up: usage summed for each day that is over, so that reports need not read the whole ledger.
//!
//! A day is over everywhere in the world twelve hours after it ended in UTC. Until then it is read from the ledger; an hour
//! later it is summed; and whatever is written into it after it was over opens it again, in the transaction that writes it
//! ([`reopen`]). So a summed day is complete, in whichever time zone it was counted. A day is summed from a snapshot that
//! is taken after the day was claimed, and counts only if the claim still stands when it is written: a late entry takes it away.

pub(crate) mod sums;

use std::collections::BTreeMap;
use std::time::Duration;

use accounting::{Clock, Day};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, QueryBuilder};
use tokio::time::Instant;

use crate::database::{in_snapshot, in_transaction};
use crate::ledger::Turn;
use crate::reading::{Reading, Row, aside};
use crate::{Database, Error, new_id};
pub use sums::Sums;
use sums::{COLUMNS, FIRST_ID, Grain, KEYS, ROLLUP, Wanted, midnight, next, previous};

const HOUR: i64 = 3_600_000;
/// Twelve hours after a day ends in UTC, it is over everywhere.
const OVER: i64 = 12 * HOUR;
/// For so long no other process tries a day that one has claimed.
const CLAIM: i64 = 2 * 60 * 1000;
/// So many days are summed with one reading.
pub(crate) const AT_ONCE: usize = 8;
/// So many rows are written with one statement.
const ROWS: usize = 200;

/// What a row of the roll-up is for: the values of [`KEYS`] without the day.
pub(crate) type Cell = [String; 5];

/// A day's sums, and of how many rows of the ledger.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DaySums {
    pub entries: i64,
    pub cells: BTreeMap<Cell, Sums>,
}

impl DaySums {
    /// Adds a row that begins with [`KEYS`].
    pub(crate) fn add(&mut self, row: &Row<'_>) -> Result<(), Error> {
        let mut cell = Cell::default();
        for (index, part) in cell.iter_mut().enumerate() {
            *part = row.some_text(index + 1)?.to_owned();
        }
        self.cells.entry(cell).or_default().add(&Sums::read(row, KEYS.len())?)
    }

    /// The same, as finely as that; '' in the columns that it does not have.
    pub(crate) fn coarse(&self, grain: Grain) -> Result<BTreeMap<Cell, Sums>, Error> {
        let mut coarse: BTreeMap<Cell, Sums> = BTreeMap::new();
        for (cell, sums) in &self.cells {
            let mut cell = cell.clone();
            for (part, column) in cell.iter_mut().zip(&KEYS[1..]) {
                if !grain.has(column) {
                    part.clear();
                }
            }
            coarse.entry(cell).or_default().add(sums)?;
        }
        Ok(coarse)
    }
}

/// The first day that is not over everywhere at that moment.
pub(crate) fn first_open_day(now: Timestamp) -> Day {
    let then = Timestamp::from_millisecond(now.as_millisecond().saturating_sub(OVER)).unwrap_or(now);
    accounting::Zone::UTC.day(then)
}

/// Takes a day out of the roll-up, in the transaction that writes into it. One parameter: the day.
pub(crate) fn reopen(table: &str) -> String {
    format!("INSERT INTO {table} AS kept (day) VALUES ($1) {REOPENED}")
}

/// What becomes of a day that is there already.
pub(crate) const REOPENED: &str =
    "ON CONFLICT (day) DO UPDATE SET rolled_at = NULL, claim = NULL WHERE kept.pruned = 0";

/// A day, when it was summed, and who claims it.
type Noted = (String, Option<i64>, Option<String>);

/// The days that are over and not summed, oldest first.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn due(database: &Database, clock: &dyn Clock) -> Result<Vec<Day>, Error> {
    let first = format!(
        "SELECT id FROM {} WHERE id > $1 ORDER BY id LIMIT 1",
        database.table("token_tracking_ledger")
    );
    let days = format!("SELECT day, rolled_at, claim FROM {}", database.table("token_tracking_rollup_day"));
    let (first, days): (Option<String>, Vec<Noted>) = in_snapshot!(database, transaction => (
        sqlx::query_scalar(AssertSqlSafe(first)).bind(FIRST_ID).fetch_optional(&mut *transaction).await?,
        sqlx::query_as(AssertSqlSafe(days)).fetch_all(&mut *transaction).await?,
    ));
    let Some(first) = first.and_then(|id| moment(&id)) else { return Ok(Vec::new()) };
    let now = clock.now().as_millisecond();
    let settled = |(day, rolled_at, claim): Noted| {
        let claimed = claim.and_then(|claim| moment(&claim));
        let taken =
            claimed.is_some_and(|at| (at.as_millisecond()..at.as_millisecond() + CLAIM).contains(&now));
        (rolled_at.is_some() || taken).then(|| day.parse().ok()).flatten()
    };
    let settled: std::collections::HashSet<Day> = days.into_iter().filter_map(settled).collect();
    // A request of the west may have been admitted on the day before that of UTC.
    let mut day = previous(accounting::Zone::UTC.day(first));
    let mut due = Vec::new();
    while let Some(this) = day.filter(|day| midnight(*day) + 24 * HOUR + OVER + HOUR <= now) {
        if !settled.contains(&this) {
            due.push(this);
        }
        day = next(this);
    }
    Ok(due)
}

/// Sums the days that are due, until so much time has passed; `each` is told of each day done, and of how many are left.
/// Returns how many days were summed. Several processes may do so at once: they take different days.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy; what was summed stays.
pub async fn roll_up(
    database: &Database,
    clock: &dyn Clock,
    at_most: Option<Duration>,
    mut each: impl FnMut(Day, usize),
) -> Result<usize, Error> {
    let due = due(database, clock).await?;
    let began = Instant::now();
    let (mut done, mut left) = (0, due.len());
    // One reading takes a range of ids.
    for days in due.chunk_by(|day, after| next(*day) == Some(*after)).flat_map(|days| days.chunks(AT_ONCE)) {
        if at_most.is_some_and(|most| began.elapsed() >= most) {
            break;
        }
        let mut claimed = Vec::new();
        for day in days {
            let claim = new_id().simple().to_string();
            if self::claim(database, *day, &claim).await? {
                claimed.push((*day, claim));
            }
        }
        let (Some((from, _)), Some((to, _))) = (claimed.first(), claimed.last()) else { continue };
        let mut sums = aside(database, read(database.clone(), *from, *to)).await?;
        for (day, claim) in claimed {
            let sums = sums.remove(&day).unwrap_or_default();
            done += usize::from(write(database, day, &claim, sums, clock.now()).await?);
            left -= 1;
            each(day, left);
        }
    }
    Ok(done)
}

async fn claim(database: &Database, day: Day, claim: &str) -> Result<bool, Error> {
    let sql = format!(
        "INSERT INTO {} AS kept (day, claim) VALUES ($1, $2) \
         ON CONFLICT (day) DO UPDATE SET claim = excluded.claim WHERE kept.rolled_at IS NULL",
        database.table("token_tracking_rollup_day")
    );
    Ok(in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(day.to_string()).bind(claim);
        query.execute(&mut *transaction).await?.rows_affected() == 1
    }))
}

async fn read(database: Database, from: Day, to: Day) -> Result<BTreeMap<Day, DaySums>, Error> {
    let mut reading = Reading::begin(&database).await?;
    sums_of(&mut reading, &database, from, to).await
}

/// The sums of the ledger for these days.
pub(crate) async fn sums_of(
    reading: &mut Reading,
    database: &Database,
    from: Day,
    to: Day,
) -> Result<BTreeMap<Day, DaySums>, Error> {
    let mut days: BTreeMap<Day, DaySums> = BTreeMap::new();
    let wanted = Wanted { database, keys: &KEYS, grouped: true, filters: &[] };
    for query in wanted.ledger(Some(from), Some(to)) {
        reading
            .each(query, |row| {
                let day = days.entry(row.some_text(0)?.parse()?).or_default();
                day.entries += row.some_number(KEYS.len() + COLUMNS)?;
                day.add(row)
            })
            .await?;
    }
    Ok(days)
}

/// Writes a day's sums, if nothing was written into the day since it was claimed.
async fn write(
    database: &Database,
    day: Day,
    claim: &str,
    sums: DaySums,
    now: Timestamp,
) -> Result<bool, Error> {
    let days = database.table("token_tracking_rollup_day");
    let table = database.table("token_tracking_rollup");
    let done =
        format!("UPDATE {days} SET rolled_at = $1, entries = $2, claim = NULL WHERE day = $3 AND claim = $4");
    let clear = format!("DELETE FROM {table} WHERE day = $1");
    let insert = format!("INSERT INTO {table} (grain, {}, {}) ", KEYS.join(", "), ROLLUP.join(", "));
    let day = day.to_string();
    let mut rows: Vec<(i64, Cell, Sums)> = Vec::new();
    for grain in Grain::EACH {
        rows.extend(sums.coarse(grain)?.into_iter().map(|(cell, sums)| (grain.number(), cell, sums)));
    }
    let names = keep_names(database).await?;
    let _turn = Turn::take(database).await;
    Ok(in_transaction!(database, transaction => {
        let query = sqlx::query(AssertSqlSafe(done)).bind(now.as_microsecond()).bind(sums.entries);
        let stands = query.bind(&day).bind(claim).execute(&mut *transaction).await?.rows_affected() == 1;
        if stands {
            sqlx::query(AssertSqlSafe(clear)).bind(&day).execute(&mut *transaction).await?;
            for rows in rows.chunks(ROWS) {
                let mut insert = QueryBuilder::new(&insert);
                insert.push_values(rows, |mut values, (grain, cell, sums)| {
                    values.push_bind(*grain).push_bind(&day);
                    cell.iter().for_each(|part| { values.push_bind(part); });
                    sums.values().iter().for_each(|value| { values.push_bind(*value); });
                });
                insert.build().execute(&mut *transaction).await?;
            }
            if let Some(names) = names {
                let query = sqlx::query(AssertSqlSafe(names)).bind(&day).bind(now.as_microsecond());
                query.execute(&mut *transaction).await?;
            }
        }
        stands
    }))
}

/// Keeps the present names of those who used something on a day, if Open WebUI is beside us: it tells nobody when it deletes a
/// user. Parameters: the day, and when.
async fn keep_names(database: &Database) -> Result<Option<String>, Error> {
    if !database.has_table("user").await? {
        return Ok(None);
    }
    Ok(Some(format!(
        "INSERT INTO {} AS kept (kind, id, name, kept_at) \
         SELECT 'user', CAST(known.id AS TEXT), CAST(known.name AS TEXT), $2 FROM {} AS known \
         WHERE known.name IS NOT NULL AND known.id IN (SELECT user_id FROM {} WHERE day = $1 AND grain = {}) \
         ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, kept_at = excluded.kept_at \
         WHERE kept.name <> excluded.name",
        database.table("token_tracking_name"),
        database.table("user"),
        database.table("token_tracking_rollup"),
        Grain::Users.number()
    )))
}

/// The moment in an id.
fn moment(id: &str) -> Option<Timestamp> {
    let milliseconds = i64::from_str_radix(id.get(..12)?, 16).ok()?;
    Timestamp::from_millisecond(milliseconds).ok()
}
