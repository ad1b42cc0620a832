//! Rows of the original's usage log: those that it wrote and that become entries here, and those that mirror our own entries,
//! so that it counts them.

use std::fmt::Write;

use accounting::{Day, Zone};
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};

use super::entry::{EntryKind, Settlement};
use super::plan::Entry;
use crate::Error;

/// What stands in `tracking_id` of a row that can't become an entry: one without a user, a model or a date.
pub(crate) const UNUSABLE: &str = "unusable";

/// A row that the original wrote, and the entry that it becomes; `None` if it can't be one, and is only marked.
#[derive(Debug)]
pub(crate) struct ForeignRow {
    /// Where the database has it.
    pub place: String,
    pub settlement: Option<Settlement>,
}

/// Whether the original is told of an entry. It only adds up: of a correction it learns what was more, not what was less, and
/// of an administrator's adjustments nothing.
pub(super) fn is_mirrored(entry: &Entry<'_>) -> bool {
    let (input, output) = (entry.counts[0], entry.counts[5]);
    match entry.kind {
        EntryKind::Request => true,
        EntryKind::Correction => input >= 0 && output >= 0 && input.saturating_add(output) > 0,
        EntryKind::Adjustment | EntryKind::Import | EntryKind::Carried => false,
    }
}

/// The error for rows that another process has entered meanwhile.
pub(super) fn taken() -> Error {
    Error::Conflict { what: "another process has entered these rows of the usage log meanwhile".into() }
}

/// A count of tokens as the original's 32-bit column takes it.
pub(super) fn clamped(count: i64) -> i64 {
    count.clamp(0, i64::from(i32::MAX))
}

/// When it began, as the original writes it on SQLite: local time without a zone. Always within its day, which was decided when
/// it was admitted, by the zone of then.
pub(super) fn log_date(zone: &Zone, started_at: i64, day: Day) -> String {
    let local = Timestamp::from_microsecond(started_at).map(|moment| zone.local(moment)).unwrap_or_default();
    let date = day.date();
    let within = match local.date().cmp(&date) {
        std::cmp::Ordering::Less => DateTime::from_parts(date, Time::MIN),
        std::cmp::Ordering::Equal => local,
        std::cmp::Ordering::Greater => DateTime::from_parts(date, Time::MAX),
    };
    let mut text = String::with_capacity(26);
    // Writing to a text does not fail.
    let _ = write!(
        text,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}",
        within.year(),
        within.month(),
        within.day(),
        within.hour(),
        within.minute(),
        within.second(),
        within.subsec_nanosecond() / 1000
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_local_and_within_their_day() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        for (moment, day, expected) in [
            ("2026-11-24T22:59:59.000001Z", "2026-11-24", "2026-11-24 23:59:59.000001"),
            ("2026-11-24T23:30:00Z", "2026-11-24", "2026-11-24 23:59:59.999999"),
            ("2026-11-24T22:00:00Z", "2026-11-25", "2026-11-25 00:00:00.000000"),
            ("2026-07-01T10:00:00Z", "2026-07-01", "2026-07-01 12:00:00.000000"),
        ] {
            assert_eq!(log_date(&zone, at(moment), day.parse().unwrap()), expected);
        }
    }
}
