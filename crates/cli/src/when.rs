//! A moment on the command line: a day, which begins in the configured time zone, or a moment of time.

use accounting::Day;
use anyhow::Context;
use jiff::Timestamp;
use storage::{Database, Snapshot, SystemClock};

/// A day or a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// From its beginning.
    Day(Day),
    /// Exactly then.
    Moment(Timestamp),
}

/// Reads one.
pub(crate) fn when(text: &str) -> Result<When, String> {
    let day = text.parse().map(When::Day);
    day.or_else(|_| text.parse().map(When::Moment))
        .map_err(|_| "write a day such as 2026-11-24, or a moment such as 2026-11-24T12:00:00Z".into())
}

impl When {
    /// The moment.
    pub(crate) async fn moment(self, database: &Database) -> anyhow::Result<Timestamp> {
        match self {
            Self::Moment(moment) => Ok(moment),
            Self::Day(day) => {
                let snapshot = Snapshot::of(database, &SystemClock).await?;
                // A day begins where the one before it ends.
                let before = day.date().yesterday().context("that is too long ago")?;
                Ok(snapshot.settings().zone()?.end_of(Day::new(before))?)
            }
        }
    }
}
