//! The original's usage log into our ledger: each of its rows becomes one entry, once, at the prices of now.
//!
//! A row that it wrote has no `tracking_id` yet. Entry, accounts and that mark are one transaction, written by the ledger's own
//! writer under its locks.

use std::collections::BTreeMap;

use accounting::{
    AccountKey, Clock, Credits, Day, ModelId, Policy, PriceVersion, ProviderName, RequestId, SponsoredId,
    Usage, UserId, Zone, charge,
};
use jiff::Timestamp;
use jiff::civil::DateTime;
use sqlx::AssertSqlSafe;

use super::schema::USAGE_LOG;
use crate::ids::id_at;
use crate::ledger::{ForeignRow, Ledger, Outcome, RequestRecord, Settlement, WayIn};
use crate::{Database, Error, Kind, PricedModel, Snapshot, on_pool};

/// So many rows are entered in one transaction: they keep the database's write lock for some tens of milliseconds.
const BATCH: i64 = 2000;
/// So often others may be quicker.
const MOST_RACES: u32 = 100;

/// What became of rows of the usage log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows that became entries.
    pub rows: u64,
    /// What they are charged, together.
    pub charge: Credits,
    /// Of those, rows whose model has no price: charged nothing.
    pub unpriced: Unpriced,
    /// Rows that can't become entries, because they name no user, no model or no date. They stay as they are.
    pub unusable: u64,
    /// Of the rows, those whose day here is not their day in the time zone of PostgreSQL's sessions, in which the original's
    /// local times were taken for moments.
    pub moved: u64,
    /// What is charged to each sponsored allowance.
    pub sponsored: BTreeMap<SponsoredId, Credits>,
}

/// Rows without a price by provider and model, as the log names them.
pub type Unpriced = BTreeMap<(String, String), u64>;

/// A row as it is read; its date in the form of its database.
type Row = (
    String,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

/// What the rows are charged at, and where their days begin.
struct Terms<'a> {
    price: &'a (dyn Fn(&ProviderName, &ModelId) -> Option<&'a PricedModel> + Sync),
    zone: &'a Zone,
    /// That of PostgreSQL's sessions.
    server: Option<Zone>,
}

/// Whether there are rows to enter.
pub(crate) async fn is_due(database: &Database) -> Result<bool, Error> {
    let sql = format!("SELECT 1 FROM {} WHERE tracking_id IS NULL LIMIT 1", database.table(USAGE_LOG));
    let found: Option<i32> =
        on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(pool).await?);
    Ok(found.is_some())
}

/// Enters all rows that are not in the ledger yet, the latest first: the limits of today hold before all else. `progress` is told how many are entered so far.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy; what was entered until then stays.
pub async fn import(
    ledger: &Ledger,
    clock: &dyn Clock,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Imported, Error> {
    let database = ledger.database();
    let mut done = Imported::default();
    if !is_due(database).await? {
        return Ok(done);
    }
    let snapshot = Snapshot::of(database, clock).await?;
    let price = |provider: &ProviderName, model: &ModelId| snapshot.price(provider, model);
    let server = server_zone(database).await?;
    let terms = Terms { price: &price, zone: snapshot.settings().zone()?, server };
    let (select, mut races) =
        (select(database, "WHERE tracking_id IS NULL ORDER BY log_date DESC LIMIT $1"), 0);
    loop {
        let rows: Vec<Row> = on_pool!(database, pool => {
            sqlx::query_as(AssertSqlSafe(select.clone())).bind(BATCH).fetch_all(pool).await?
        });
        if rows.is_empty() {
            return Ok(done);
        }
        let mut batch = done.clone();
        let rows = rows.into_iter().map(|row| batch.row(row, &terms)).collect::<Result<_, _>>()?;
        match ledger.import(rows).await {
            Ok(()) => {
                done = batch;
                progress(done.rows + done.unusable);
            }
            Err(Error::Conflict { .. }) if races < MOST_RACES => races += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What an import would do, with these prices; changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn preview(database: &Database, zone: &Zone, prices: &[PricedModel]) -> Result<Imported, Error> {
    let mut done = Imported::default();
    if !database.has_table(USAGE_LOG).await? {
        return Ok(done);
    }
    let new =
        if database.has_column(USAGE_LOG, "tracking_id").await? { "tracking_id IS NULL" } else { "1 = 1" };
    let all: BTreeMap<(&str, &str), &PricedModel> =
        prices.iter().map(|priced| ((priced.provider.as_str(), priced.model.as_str()), priced)).collect();
    let price =
        |provider: &ProviderName, model: &ModelId| all.get(&(provider.as_str(), model.as_str())).copied();
    let terms = Terms { price: &price, zone, server: server_zone(database).await? };
    let select = if database.has_column(USAGE_LOG, "sponsored_allowance_id").await? {
        select(database, &format!("WHERE {new}"))
    } else {
        select_old(database)
    };
    on_pool!(database, pool => {
        use futures_util::TryStreamExt;
        let mut rows = sqlx::query_as::<_, Row>(AssertSqlSafe(select)).fetch(pool);
        while let Some(row) = rows.try_next().await? {
            done.row(row, &terms)?;
        }
    });
    Ok(done)
}

/// The time zone of PostgreSQL's sessions; none on SQLite, or if it has a name that nobody else knows.
async fn server_zone(database: &Database) -> Result<Option<Zone>, Error> {
    let name = crate::reports::health::server_zone(database).await?;
    Ok(name.and_then(|name| Zone::named(&name).ok()))
}

/// The rows: place, date as text, date in microseconds, user, provider, model, tokens, sponsored allowance.
fn select(database: &Database, which: &str) -> String {
    columns(database, "CAST(sponsored_allowance_id AS TEXT)", which)
}

/// The same before the original knew sponsored allowances.
fn select_old(database: &Database) -> String {
    columns(database, "CAST(NULL AS TEXT)", "")
}

fn columns(database: &Database, sponsored: &str, which: &str) -> String {
    let (place, text, moment) = match database.kind() {
        Kind::Sqlite => ("CAST(rowid AS TEXT)", "CAST(log_date AS TEXT)", "CAST(NULL AS BIGINT)"),
        Kind::Postgres => (
            "CAST(ctid AS TEXT)",
            "CAST(NULL AS TEXT)",
            // Infinite dates, and those whose microseconds no number of ours holds, are none.
            "CASE WHEN log_date >= '0001-01-01' AND log_date < '10000-01-01' \
               THEN CAST(EXTRACT(EPOCH FROM log_date) * 1000000 AS BIGINT) END",
        ),
    };
    format!(
        "SELECT {place}, {text}, {moment}, CAST(user_id AS TEXT), CAST(provider AS TEXT), CAST(model_id AS TEXT), \
           CAST(prompt_tokens AS BIGINT), CAST(response_tokens AS BIGINT), {sponsored} FROM {} {which}",
        database.table(USAGE_LOG)
    )
}

impl Imported {
    /// Counts a row, and says what it becomes.
    fn row(&mut self, row: Row, terms: &Terms<'_>) -> Result<ForeignRow, Error> {
        let place = row.0.clone();
        let named = (row.4.clone().unwrap_or_default(), row.5.clone().unwrap_or_default());
        let settlement = settlement(row, terms);
        match &settlement {
            Some(settlement) => {
                self.rows += 1;
                self.charge = self.charge.plus(settlement.charge)?;
                if let Some(server) = &terms.server {
                    self.moved += u64::from(server.day(settlement.ended_at) != settlement.record.day);
                }
                if let Some(id) = settlement.record.sponsored {
                    let spent = self.sponsored.entry(id).or_default();
                    *spent = spent.saturating_plus(settlement.charge);
                }
                if settlement.price_version.is_none() {
                    *self.unpriced.entry(named).or_default() += 1;
                }
            }
            None => self.unusable += 1,
        }
        Ok(ForeignRow { place, settlement })
    }
}

/// What a row becomes; `None` if it can't become an entry.
fn settlement(row: Row, terms: &Terms<'_>) -> Option<Settlement> {
    let (_, text, micro, user, provider, model, input, output, sponsored) = row;
    let (moment, day) = when(text.as_deref(), micro, terms.zone)?;
    let (user, provider) = (UserId::new(user?).ok()?, ProviderName::new(provider?).ok()?);
    let model = ModelId::new(model?).ok()?;
    let sponsored = match sponsored {
        Some(id) => Some(id.parse::<SponsoredId>().ok()?),
        None => None,
    };
    let tokens = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).unwrap_or_default();
    let usage = Usage::tokens(tokens(input), tokens(output));
    let priced = (terms.price)(&provider, &model);
    let charge = match priced {
        Some(priced) => charge(&priced.price, &usage).ok()?,
        None => Credits::ZERO,
    };
    let price_version: Option<PriceVersion> = priced.map(|priced| priced.version);
    Some(Settlement {
        id: RequestId::new(id_at(moment)),
        accounts: accounts(day, &user, sponsored),
        record: RequestRecord {
            user,
            sponsored,
            day,
            provider,
            model,
            price_version,
            policy: Policy::OneCredit,
            way_in: WayIn::Original,
            task: None,
            chat_id: None,
            message_id: None,
            workspace_model: None,
            instance: None,
            started_at: moment.as_microsecond(),
            input_tokens: usage.input,
        },
        answered_model: None,
        price_version,
        usage,
        charge,
        estimated: None,
        outcome: Outcome::Complete,
        provider_request_id: None,
        first_byte_at: None,
        ended_at: moment,
    })
}

fn accounts(day: Day, user: &UserId, sponsored: Option<SponsoredId>) -> Vec<AccountKey> {
    let user = user.clone();
    match sponsored {
        Some(sponsored) => {
            vec![AccountKey::SponsoredUser { day, sponsored, user }, AccountKey::SponsoredTotal { sponsored }]
        }
        None => vec![AccountKey::User { day, user }],
    }
}

/// When a row was written, and on which local day. On SQLite the original writes local time without a zone, so its day is the one
/// that it says.
fn when(text: Option<&str>, micro: Option<i64>, zone: &Zone) -> Option<(Timestamp, Day)> {
    let moment = match (text, micro) {
        (None, micro) => Timestamp::from_microsecond(micro?).ok()?,
        (Some(text), _) => match text.parse::<Timestamp>() {
            Ok(moment) => moment,
            Err(_) => {
                let local: DateTime = text.parse().ok()?;
                return Some((zone.at(local)?, Day::new(local.date())));
            }
        },
    };
    Some((moment, zone.day(moment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_keep_their_day() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        for (text, moment, day) in [
            ("2025-02-19 00:00:00.000001", "2025-02-18T23:00:00.000001Z", "2025-02-19"),
            ("2025-02-19 13:16:21", "2025-02-19T12:16:21Z", "2025-02-19"),
            // An hour that clocks skip, and one that they show twice.
            ("2026-03-29 02:30:00.000000", "2026-03-29T01:30:00Z", "2026-03-29"),
            ("2026-10-25 02:30:00.000000", "2026-10-25T00:30:00Z", "2026-10-25"),
            ("2025-02-19 23:30:00+00:00", "2025-02-19T23:30:00Z", "2025-02-20"),
        ] {
            let (at, on) = when(Some(text), None, &zone).unwrap();
            assert_eq!((at, on.to_string()), (moment.parse().unwrap(), day.to_owned()), "{text}");
        }
        assert!(when(Some("yesterday"), None, &zone).is_none());
        assert!(when(None, None, &zone).is_none());
    }
}
