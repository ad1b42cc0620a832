//! What usage is summed by, and how it is read out of the ledger and the roll-up.

use accounting::{Credits, Day};

use crate::reading::{Query, Row};
use crate::{Database, Error};

/// Sums of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Requests, those that the original served among them.
    pub requests: i64,
    /// Of which the original served.
    pub imported: i64,
    /// Input tokens, all classes.
    pub input: i64,
    /// Of which read from a cache.
    pub cached_input: i64,
    /// Of which written to a cache.
    pub cache_write: i64,
    /// Output tokens, all classes.
    pub output: i64,
    /// Of which reasoning.
    pub reasoning: i64,
    /// What was charged.
    pub credits: Credits,
    /// Requests whose charge is estimated.
    pub estimated: i64,
    /// What was charged for them.
    pub estimated_credits: Credits,
}

/// How many columns they are.
pub(crate) const COLUMNS: usize = 10;
/// Those columns in the roll-up.
pub(crate) const ROLLUP: [&str; COLUMNS] = [
    "requests",
    "imported_requests",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "charge",
    "estimated_requests",
    "estimated_charge",
];
/// What they are in a row of the ledger.
pub(crate) const LEDGER: [&str; COLUMNS] = [
    "CAST(CASE WHEN kind = 'correction' THEN 0 ELSE 1 END AS BIGINT)",
    "CAST(CASE WHEN kind = 'import' THEN 1 ELSE 0 END AS BIGINT)",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens + cache_write_long_tokens",
    "output_tokens",
    "reasoning_tokens",
    "charge",
    "CAST(CASE WHEN estimated IS NOT NULL AND kind <> 'correction' THEN 1 ELSE 0 END AS BIGINT)",
    "CAST(CASE WHEN estimated IS NOT NULL THEN charge ELSE 0 END AS BIGINT)",
];

/// What an owner's correction changes beyond its own sums: the request whose charge a recovery had guessed is as sure as what its
/// owner says, all of its charge included. How many requests more are estimated, and what was charged for them.
pub(crate) const SURER: [&str; 2] = [
    "CAST(CASE WHEN guess.estimated IS NOT NULL AND entry.estimated IS NULL THEN -1 \
               WHEN guess.estimated IS NULL AND entry.estimated IS NOT NULL THEN 1 ELSE 0 END AS BIGINT)",
    "CAST(CASE WHEN guess.estimated IS NOT NULL AND entry.estimated IS NULL THEN -guess.charge \
               WHEN guess.estimated IS NULL AND entry.estimated IS NOT NULL THEN guess.charge ELSE 0 END AS BIGINT)",
];

/// The owners' corrections with what they correct, for [`SURER`].
pub(crate) fn corrections(database: &Database) -> String {
    let table = database.table("token_tracking_ledger");
    format!(
        "{table} AS entry JOIN {table} AS guess ON guess.id = entry.corrects \
         WHERE entry.kind = 'correction' AND entry.outcome <> 'recovered'"
    )
}

/// A column of [`KEYS`] as a correction has it.
pub(crate) fn key_of_entry(key: &str) -> String {
    match key {
        "sponsored_id" | "task" => format!("COALESCE(entry.{key}, '')"),
        key => format!("entry.{key}"),
    }
}

/// By what a row of the roll-up is told from others. In the ledger NULL stands for ''.
pub(crate) const KEYS: [&str; 6] = ["day", "user_id", "provider", "model", "sponsored_id", "task"];

/// How finely the rows of the roll-up are told apart. A report reads the coarsest that has the columns it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grain {
    /// By all columns.
    All = 0,
    /// Without users.
    WithoutUser = 1,
    /// By users alone.
    Users = 2,
}

impl Grain {
    /// All there are, the one with the fewest rows first.
    pub(crate) const EACH: [Self; 3] = [Self::WithoutUser, Self::Users, Self::All];

    /// As the database names it.
    pub(crate) const fn number(self) -> i64 {
        self as i64
    }

    /// Whether it has that column of [`KEYS`].
    pub(crate) fn has(self, column: &str) -> bool {
        match self {
            Self::All => true,
            Self::WithoutUser => column != "user_id",
            Self::Users => matches!(column, "day" | "user_id"),
        }
    }
}

/// Which rows of the ledger are usage: an administrator's adjustments and carried sums are not.
pub(crate) const USAGE: &str = "kind IN ('request', 'correction', 'import')";

impl Sums {
    /// Reads them from a row, beginning at that column.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> Result<Self, Error> {
        let number = |index: usize| row.some_number(first + index);
        Ok(Self {
            requests: number(0)?,
            imported: number(1)?,
            input: number(2)?,
            cached_input: number(3)?,
            cache_write: number(4)?,
            output: number(5)?,
            reasoning: number(6)?,
            credits: Credits::from_micro(number(7)?),
            estimated: number(8)?,
            estimated_credits: Credits::from_micro(number(9)?),
        })
    }

    /// In the order of the columns.
    pub(crate) const fn values(&self) -> [i64; COLUMNS] {
        [
            self.requests,
            self.imported,
            self.input,
            self.cached_input,
            self.cache_write,
            self.output,
            self.reasoning,
            self.credits.micro(),
            self.estimated,
            self.estimated_credits.micro(),
        ]
    }

    /// Adds others.
    ///
    /// # Errors
    /// If a sum leaves its range.
    pub fn add(&mut self, other: &Self) -> Result<(), Error> {
        let sum = |a: i64, b: i64| a.checked_add(b).ok_or(accounting::Error::Overflow);
        *self = Self {
            requests: sum(self.requests, other.requests)?,
            imported: sum(self.imported, other.imported)?,
            input: sum(self.input, other.input)?,
            cached_input: sum(self.cached_input, other.cached_input)?,
            cache_write: sum(self.cache_write, other.cache_write)?,
            output: sum(self.output, other.output)?,
            reasoning: sum(self.reasoning, other.reasoning)?,
            credits: self.credits.plus(other.credits)?,
            estimated: sum(self.estimated, other.estimated)?,
            estimated_credits: self.estimated_credits.plus(other.estimated_credits)?,
        };
        Ok(())
    }

    /// How much of the charge is estimated, in tenths of a percent, rounded to the nearest.
    pub fn estimated_permille(&self) -> i64 {
        let (part, whole) = (i128::from(self.estimated_credits.micro()), i128::from(self.credits.micro()));
        if whole <= 0 { 0 } else { i64::try_from((2000 * part + whole) / (2 * whole)).unwrap_or(0) }
    }
}

/// A column of [`KEYS`] as the ledger has it.
pub(crate) fn ledger_key(key: &str) -> String {
    match key {
        "sponsored_id" | "task" => format!("COALESCE({key}, '')"),
        key => key.to_owned(),
    }
}

/// The ids of all requests that may have been admitted on these days, whichever zone a day was counted in: from the first,
/// and up to the second without it.
///
/// Ids are in the order of their requests' start (UUIDv7). A day begins 14 hours before it does in UTC in the east of the
/// world, and ends 12 hours after it does there in the west; an hour more is for clocks and for waiting requests.
pub(crate) fn ids(from: Option<Day>, to: Option<Day>) -> (String, String) {
    let end = to.and_then(next).map_or(i64::MAX, |day| midnight(day).saturating_add(13 * HOUR));
    (id_from(from.map_or(0, |day| midnight(day) - 15 * HOUR)), id_from(end))
}

const HOUR: i64 = 3_600_000;
/// Entries that stand for others have ids before all requests.
pub(crate) const FIRST_ID: &str = "00000000ffffffffffffffffffffffff";

/// The least id of that millisecond.
fn id_from(millisecond: i64) -> String {
    let most = (1_i64 << 48) - 1;
    format!("{:012x}00000000000000000000", millisecond.clamp(0, most))
}

/// When a day begins in UTC, in milliseconds.
pub(crate) fn midnight(day: Day) -> i64 {
    let midnight = day.date().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    midnight.map_or(0, |zoned| zoned.timestamp().as_millisecond())
}

/// The day after.
pub(crate) fn next(day: Day) -> Option<Day> {
    day.date().tomorrow().ok().map(Day::new)
}

/// The day before.
pub(crate) fn previous(day: Day) -> Option<Day> {
    day.date().yesterday().ok().map(Day::new)
}

/// What is looked for in both places: `select` fills in the columns, `conditions` narrow it.
pub(crate) struct Wanted<'a> {
    pub database: &'a Database,
    /// Columns of [`KEYS`].
    pub keys: &'a [&'static str],
    /// Whether the database sums; else each row comes by itself.
    pub grouped: bool,
    /// Values that columns of [`KEYS`] must have.
    pub filters: &'a [(&'static str, String)],
}

impl Wanted<'_> {
    fn head(&self, columns: &[&str; COLUMNS], key: impl Fn(&str) -> String) -> Query {
        let mut parts: Vec<String> = self.keys.iter().map(|name| key(name)).collect();
        parts.extend(columns.iter().map(|column| match self.grouped {
            true => format!("CAST(COALESCE(SUM({column}), 0) AS BIGINT)"),
            false => (*column).to_owned(),
        }));
        Query::new(format!("SELECT {}", parts.join(", ")))
    }

    fn narrow(&self, query: &mut Query, key: impl Fn(&str) -> String) {
        for (name, value) in self.filters {
            query.push(&format!(" AND {} = ", key(name))).text(value.clone());
        }
        if self.grouped && !self.keys.is_empty() {
            let groups: Vec<String> = (1..=self.keys.len()).map(|number| number.to_string()).collect();
            query.push(&format!(" GROUP BY {}", groups.join(", ")));
        }
    }

    /// From the ledger, for these days; behind the sums, of how many rows they are.
    pub(crate) fn ledger(&self, from: Option<Day>, to: Option<Day>) -> [Query; 2] {
        let (first, end) = ids(from, to);
        // A correction has a later id than what it corrects, and an index by the latter.
        [("id", "corrects IS NULL"), ("corrects", "corrects IS NOT NULL")].map(|(id, which)| {
            let mut query = self.head(&LEDGER, ledger_key);
            let count = if self.grouped { "COUNT(*)" } else { "1" };
            query.push(&format!(
                ", CAST({count} AS BIGINT) FROM {} WHERE {which} AND {USAGE} AND {id} >= ",
                self.database.table("token_tracking_ledger")
            ));
            query.text(&first).push(&format!(" AND {id} < ")).text(&end);
            within(&mut query, from, to);
            self.narrow(&mut query, ledger_key);
            query
        })
    }

    /// What corrections add to both, for days whose rows are kept: see [`SURER`].
    pub(crate) fn corrected(&self, from: Option<Day>, to: Option<Day>) -> Query {
        let (first, end) = ids(from, to);
        let mut columns = ["CAST(0 AS BIGINT)"; COLUMNS];
        columns[COLUMNS - 2..].copy_from_slice(&SURER);
        let mut query = self.head(&columns, key_of_entry);
        query.push(&format!(" FROM {} AND entry.corrects >= ", corrections(self.database)));
        query.text(&first).push(" AND entry.corrects < ").text(&end);
        for (is, day) in [(">=", from), ("<=", to)] {
            if let Some(day) = day {
                query.push(&format!(" AND entry.day {is} ")).text(day.to_string());
            }
        }
        self.narrow(&mut query, key_of_entry);
        query
    }

    /// From the roll-up, for those of these days that are in it.
    pub(crate) fn rollup(&self, from: Option<Day>, to: Option<Day>) -> Query {
        let needed = || self.keys.iter().chain(self.filters.iter().map(|(name, _)| name));
        let fits = |grain: &Grain| needed().all(|column| grain.has(column));
        self.grain(Grain::EACH.into_iter().find(fits).unwrap_or(Grain::All), from, to)
    }

    /// The same, as finely as that.
    pub(crate) fn grain(&self, grain: Grain, from: Option<Day>, to: Option<Day>) -> Query {
        let mut query = self.head(&ROLLUP, str::to_owned);
        let table = |name| self.database.table(name);
        query.push(&format!(
            " FROM {} WHERE grain = {} AND day IN (SELECT day FROM {} WHERE rolled_at IS NOT NULL)",
            table("token_tracking_rollup"),
            grain.number(),
            table("token_tracking_rollup_day")
        ));
        within(&mut query, from, to);
        self.narrow(&mut query, str::to_owned);
        query
    }
}

fn within(query: &mut Query, from: Option<Day>, to: Option<Day>) {
    if let Some(from) = from {
        query.push(" AND day >= ").text(from.to_string());
    }
    if let Some(to) = to {
        query.push(" AND day <= ").text(to.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_days_ids_are_found_in_every_zone() {
        let day: Day = "2026-11-24".parse().unwrap();
        let (first, end) = ids(Some(day), Some(day));
        // The first moment of the day on Kiritimati, and its last on Baker Island.
        for moment in ["2026-11-23T10:00:00Z", "2026-11-25T11:59:59.999Z"] {
            let moment: jiff::Timestamp = moment.parse().unwrap();
            let id = id_from(moment.as_millisecond());
            assert!(first < id && id < end, "{moment}");
        }
    }

    #[test]
    fn shares_are_exact() {
        let sums = |part, whole| Sums {
            estimated_credits: Credits::from_micro(part),
            credits: Credits::from_micro(whole),
            ..Sums::default()
        };
        for (part, whole, permille) in
            [(0, 0, 0), (1, 3, 333), (2, 3, 667), (1, 2000, 1), (1, 2001, 0), (i64::MAX, i64::MAX, 1000)]
        {
            assert_eq!(sums(part, whole).estimated_permille(), permille, "{part}/{whole}");
        }
    }
}
