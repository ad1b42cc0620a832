//! Whether the books are right: every account against its ledger rows and its open holds, and every day of the roll-up
//! against the ledger, all read at one moment, also while requests are served.

use std::collections::{BTreeMap, HashMap};

use accounting::{Credits, Day};

use crate::ledger::TEXTS_REMOVED;
use crate::reading::{Query, Reading, Row, aside};
use crate::reports::health::select_stuck;
use crate::reports::recovered::Recovered;
use crate::rollup::sums::{Grain, KEYS, USAGE, Wanted, next};
use crate::rollup::{AT_ONCE, Cell, DaySums, Sums, sums_of};
use crate::{Database, Error, Kind};

/// What was compared, and where it differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Accounts compared.
    pub accounts: usize,
    /// Rows of the ledger.
    pub entries: i64,
    /// Open holds.
    pub holds: usize,
    /// Requests that cost more than their strict hold.
    pub over_hold: i64,
    /// Entries that the database took only without their labels.
    pub texts_removed: i64,
    /// Open holds that nobody settles although somebody could.
    pub stuck: i64,
    /// What was charged for dead processes, and what became of it.
    pub recovered: Recovered,
    /// Where an account is not the sum of its rows.
    pub differences: Vec<Difference>,
    /// Days of the roll-up compared. Those whose ledger rows are not kept any more can't be.
    pub days: usize,
    /// Days that are not the sum of their rows.
    pub wrong_days: Vec<WrongDay>,
}

/// An account that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The account's key.
    pub account: String,
    /// `spent` or `held`.
    pub what: &'static str,
    /// As the account says.
    pub recorded: Credits,
    /// As its rows add up.
    pub computed: Credits,
}

/// A day that is wrong in the roll-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongDay {
    /// The day.
    pub day: Day,
    /// As the roll-up has it.
    pub recorded: Sums,
    /// As the ledger adds up.
    pub computed: Sums,
}

impl Verification {
    /// Whether nothing differs, and no hold is stuck.
    pub fn is_clean(&self) -> bool {
        self.adds_up() && self.stuck == 0
    }

    /// Whether nothing differs.
    pub fn adds_up(&self) -> bool {
        self.differences.is_empty() && self.wrong_days.is_empty()
    }
}

/// Recomputes everything.
///
/// # Errors
/// [`Error::Inconsistency`] if a row can't be read.
pub async fn verify(database: &Database) -> Result<Verification, Error> {
    verify_with(database, |_, _| {}).await
}

/// The same; `progress` is told how many rows of the ledger were read, and how many there are to read.
///
/// # Errors
/// [`Error::Inconsistency`] if a row can't be read.
pub async fn verify_with(
    database: &Database,
    progress: impl FnMut(i64, i64) + Send + 'static,
) -> Result<Verification, Error> {
    aside(database, check(database.clone(), progress)).await
}

async fn check(
    database: Database,
    mut progress: impl FnMut(i64, i64) + Send + 'static,
) -> Result<Verification, Error> {
    let mut reading = Reading::begin(&database).await?;
    let rolled = rolled_days(&mut reading, &database).await?;
    let count = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {}", database.table("token_tracking_ledger"));
    let counts = reading.all(Query::new(count), |row| row.some_number(0)).await?;
    let rows = counts.first().copied().unwrap_or_default();
    // The days are read once more, day by day.
    let all_rows = rows + rolled.values().sum::<i64>();
    let ledger = read_ledger(&mut reading, &database, |read| progress(read, all_rows)).await?;
    let mut found = accounts(&mut reading, &database, &ledger).await?;
    let stuck = reading.all(Query::new(select_stuck(&database)), |row| row.some_number(0)).await?;
    found.stuck = stuck.first().copied().unwrap_or_default();
    found.recovered = Recovered::read(&mut reading, &database).await?;
    let mut read = rows;
    let days: Vec<Day> = rolled.keys().copied().collect();
    // One reading takes a range of ids.
    for days in days.chunk_by(|day, after| next(*day) == Some(*after)).flat_map(|days| days.chunks(AT_ONCE)) {
        let (Some(from), Some(to)) = (days.first(), days.last()) else { continue };
        let mut summed = Vec::new();
        for grain in Grain::EACH {
            summed.push((grain, recorded(&mut reading, &database, grain, *from, *to).await?));
        }
        let mut computed = sums_of(&mut reading, &database, *from, *to).await?;
        for day in days {
            let entries = rolled.get(day).copied().unwrap_or_default();
            let computed = computed.remove(day).unwrap_or_default();
            // Counted in two ways, because a row with an id of another day would not be found as the day's.
            let all = ledger.usage_by_day.get(&day.to_string()).copied().unwrap_or_default();
            let counted = computed.entries == entries && all == entries;
            let mut wrong = None;
            for (grain, days) in &mut summed {
                let recorded = days.remove(day).unwrap_or_default().cells;
                let computed = computed.coarse(*grain)?;
                if recorded != computed || !counted {
                    wrong = Some((total(&recorded)?, total(&computed)?));
                }
            }
            if let Some((recorded, computed)) = wrong {
                found.wrong_days.push(WrongDay { day: *day, recorded, computed });
            }
            found.days += 1;
            read += entries;
        }
        progress(read, all_rows);
    }
    Ok(found)
}

/// The days that are summed and can be compared, with the number of their rows.
async fn rolled_days(reading: &mut Reading, database: &Database) -> Result<BTreeMap<Day, i64>, Error> {
    let sql = format!(
        "SELECT day, entries FROM {} WHERE rolled_at IS NOT NULL AND pruned = 0",
        database.table("token_tracking_rollup_day")
    );
    let days =
        reading.all(Query::new(sql), |row| Ok((row.some_text(0)?.parse()?, row.some_number(1)?))).await?;
    Ok(days.into_iter().collect())
}

/// The roll-up of these days.
async fn recorded(
    reading: &mut Reading,
    database: &Database,
    grain: Grain,
    from: Day,
    to: Day,
) -> Result<BTreeMap<Day, DaySums>, Error> {
    let wanted = Wanted { database, keys: &KEYS, grouped: false, filters: &[] };
    let mut days: BTreeMap<Day, DaySums> = BTreeMap::new();
    let add = |row: &Row<'_>| days.entry(row.some_text(0)?.parse()?).or_default().add(row);
    reading.each(wanted.grain(grain, Some(from), Some(to)), add).await?;
    Ok(days)
}

fn total(cells: &BTreeMap<Cell, Sums>) -> Result<Sums, Error> {
    let mut total = Sums::default();
    cells.values().try_for_each(|sums| total.add(sums))?;
    Ok(total)
}

/// What the whole ledger adds up to.
#[derive(Default)]
struct Ledger {
    entries: i64,
    over_hold: i64,
    texts_removed: i64,
    /// For each list of accounts, as the rows have it.
    charges: HashMap<String, Credits>,
    /// Rows of usage.
    usage_by_day: HashMap<String, i64>,
}

async fn read_ledger(
    reading: &mut Reading,
    database: &Database,
    mut progress: impl FnMut(i64) + Send,
) -> Result<Ledger, Error> {
    let ledger = database.table("token_tracking_ledger");
    let is_usage = format!("CAST(CASE WHEN {USAGE} THEN 1 ELSE 0 END AS BIGINT)");
    let is_bare =
        format!("CAST(CASE WHEN provider_request_id = '{TEXTS_REMOVED}' THEN 1 ELSE 0 END AS BIGINT)");
    // PostgreSQL sums by hashing; SQLite would sort all rows.
    let sql = match database.kind() {
        Kind::Sqlite => {
            format!("SELECT accounts, day, charge, over_hold, {is_usage}, 1, {is_bare} FROM {ledger}")
        }
        Kind::Postgres => format!(
            "SELECT accounts, day, CAST(SUM(charge) AS BIGINT), CAST(SUM(over_hold) AS BIGINT), \
               CAST(SUM({is_usage}) AS BIGINT), COUNT(*), CAST(SUM({is_bare}) AS BIGINT) FROM {ledger} \
             GROUP BY accounts, day"
        ),
    };
    let mut found = Ledger::default();
    reading
        .each(Query::new(sql), |row| {
            let (accounts, day) = (row.some_text(0)?, row.some_text(1)?);
            let charge = Credits::from_micro(row.some_number(2)?);
            match found.charges.get_mut(accounts) {
                Some(sum) => *sum = sum.plus(charge)?,
                None => drop(found.charges.insert(accounts.to_owned(), charge)),
            }
            match found.usage_by_day.get_mut(day) {
                Some(count) => *count += row.some_number(4)?,
                None => drop(found.usage_by_day.insert(day.to_owned(), row.some_number(4)?)),
            }
            found.over_hold += row.some_number(3)?;
            found.texts_removed += row.some_number(6)?;
            let before = found.entries;
            found.entries += row.some_number(5)?;
            if before >> 16 != found.entries >> 16 {
                progress(found.entries);
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(found)
}

async fn accounts(
    reading: &mut Reading,
    database: &Database,
    ledger: &Ledger,
) -> Result<Verification, Error> {
    let held = format!("SELECT accounts, amount FROM {}", database.table("token_tracking_hold"));
    let held = reading
        .all(Query::new(held), |row| {
            Ok((row.some_text(0)?.to_owned(), Credits::from_micro(row.some_number(1)?)))
        })
        .await?;
    let holds = held.len();
    let charges = ledger.charges.iter().map(|(accounts, charge)| (accounts.as_str(), *charge));
    let spent = by_account("token_tracking_ledger", charges)?;
    let held = held.iter().map(|(accounts, amount)| (accounts.as_str(), *amount));
    let held = by_account("token_tracking_hold", held)?;
    let sql = format!("SELECT key, spent, held FROM {}", database.table("token_tracking_account"));
    let mut recorded: BTreeMap<String, (Credits, Credits)> = BTreeMap::new();
    reading
        .each(Query::new(sql), |row| {
            let amounts =
                (Credits::from_micro(row.some_number(1)?), Credits::from_micro(row.some_number(2)?));
            recorded.insert(row.some_text(0)?.to_owned(), amounts);
            Ok::<(), Error>(())
        })
        .await?;
    let (accounts, differences) = compare(recorded, &spent, &held);
    Ok(Verification {
        accounts,
        entries: ledger.entries,
        holds,
        over_hold: ledger.over_hold,
        texts_removed: ledger.texts_removed,
        differences,
        ..Verification::default()
    })
}

/// How many accounts there are, and where they differ from the sums of what was spent and is held.
pub(crate) fn compare(
    mut recorded: BTreeMap<String, (Credits, Credits)>,
    spent: &BTreeMap<String, Credits>,
    held: &BTreeMap<String, Credits>,
) -> (usize, Vec<Difference>) {
    for key in spent.keys().chain(held.keys()) {
        recorded.entry(key.clone()).or_default();
    }
    let mut differences = Vec::new();
    for (key, (was_spent, was_held)) in &recorded {
        for (what, recorded, sums) in [("spent", *was_spent, spent), ("held", *was_held, held)] {
            let computed = sums.get(key).copied().unwrap_or_default();
            if recorded != computed {
                differences.push(Difference { account: key.clone(), what, recorded, computed });
            }
        }
    }
    (recorded.len(), differences)
}

/// Sums for each account, from rows that name several.
pub(crate) fn by_account<'a>(
    table: &str,
    rows: impl IntoIterator<Item = (&'a str, Credits)>,
) -> Result<BTreeMap<String, Credits>, Error> {
    let mut sums: BTreeMap<String, Credits> = BTreeMap::new();
    for (accounts, amount) in rows {
        let keys: Vec<String> = serde_json::from_str(accounts).map_err(|_| Error::Inconsistency {
            table: table.into(),
            column: "accounts".into(),
            row: accounts.to_owned(),
        })?;
        for key in keys {
            let sum = sums.entry(key).or_default();
            *sum = sum.plus(amount)?;
        }
    }
    Ok(sums)
}
