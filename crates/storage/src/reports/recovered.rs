//! Charges that were made for dead processes, and what became of them.

use accounting::Credits;

use crate::reading::{Query, Reading};
use crate::{Database, Error};

/// How many, and what they come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Entries.
    pub count: i64,
    /// Their credits; of corrections, what they added or took back.
    pub credits: Credits,
}

/// The entries that recoveries made, and those that correct them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Requests that were charged for a dead process.
    pub requests: Tally,
    /// Corrections by owners that were not dead: what they say replaced what was charged for them.
    pub corrected_by_owner: Tally,
    /// Corrections that recoveries made of what others had charged before. Only versions up to 0.2.0 made them.
    pub changed_by_recovery: Tally,
}

impl Recovered {
    pub(crate) async fn read(reading: &mut Reading, database: &Database) -> Result<Self, Error> {
        let sql = format!(
            "SELECT what, CAST(COUNT(*) AS BIGINT), CAST(SUM(charge) AS BIGINT) FROM ( \
               SELECT CASE WHEN corrects IS NULL THEN 'requests' WHEN outcome = 'recovered' THEN 'recoveries' ELSE 'owners' END \
                 AS what, charge \
               FROM {} WHERE outcome = 'recovered' OR corrects IS NOT NULL) AS entries GROUP BY what",
            database.table("token_tracking_ledger")
        );
        let mut found = Self::default();
        reading
            .each(Query::new(sql), |row| {
                let tally =
                    Tally { count: row.some_number(1)?, credits: Credits::from_micro(row.some_number(2)?) };
                match row.some_text(0)? {
                    "requests" => found.requests = tally,
                    "owners" => found.corrected_by_owner = tally,
                    _ => found.changed_by_recovery = tally,
                }
                Ok::<(), Error>(())
            })
            .await?;
        Ok(found)
    }
}
