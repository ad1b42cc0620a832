//! One request with everything that is kept about it, so that its charge can be computed again by hand.

use accounting::{Account, AccountKey, Credits};
use accounting::{Measure, PriceVersion, Rate, RequestId, Usage, charge};
use sqlx::AssertSqlSafe;

use super::balance::account;
use super::export::{COLUMNS, Value, select, values};
use crate::catalogue::{PriceRow, select_prices};
use crate::reading::{Reading, aside};
use crate::{Database, Error, PricedModel, on_pool};

/// A request of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its row and the rows that correct it: the name of each column with its value, as text.
    pub rows: Vec<Vec<(&'static str, Option<String>)>>,
    /// Its accounts as they are now.
    pub accounts: Vec<(AccountKey, Account)>,
    /// What it used and cost, all corrections included.
    pub usage: Usage,
    /// What was charged, all corrections included.
    pub charge: Credits,
    /// The price that it was charged at, if one is kept.
    pub price: Option<PricedModel>,
}

/// A part of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The class of usage.
    pub measure: Measure,
    /// How many.
    pub count: u64,
    /// The rate of that class.
    pub rate: Rate,
}

impl Entry {
    /// What the charge is made of: classes that cost something, at the rates of the price's tier; and the sum, rounded up to the
    /// microcredit.
    ///
    /// # Errors
    /// If its usage contradicts itself.
    pub fn computed(&self) -> Result<Option<(Vec<Part>, Credits)>, Error> {
        let Some(priced) = &self.price else { return Ok(None) };
        let level = priced.price.at(self.usage.input);
        let parts = self.usage.by_measure()?.into_iter().filter(|(_, count)| *count > 0);
        let parts = parts.map(|(measure, count)| Part { measure, count, rate: level.rate(measure) });
        let parts = parts.filter(|part| part.rate.credits > Credits::ZERO).collect();
        Ok(Some((parts, charge(&priced.price, &self.usage)?)))
    }
}

/// The request with that id; `None` if it is not in the ledger.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away, [`Error::Inconsistency`] for a bad row.
pub async fn entry(database: &Database, id: RequestId) -> Result<Option<Entry>, Error> {
    let rows = aside(database, rows(database.clone(), id)).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let wrong = |column: &str| Error::Inconsistency {
        table: "token_tracking_ledger".into(),
        column: column.into(),
        row: id.to_string(),
    };
    let text = |row: &[(&'static str, Option<String>)], name: &str| {
        row.iter().find(|(column, _)| *column == name).and_then(|(_, value)| value.clone())
    };
    let sum = |name: &str| {
        let one = |row: &Vec<(&'static str, Option<String>)>| {
            text(row, name).unwrap_or_default().parse::<i64>().map_err(|_| wrong(name))
        };
        let sum =
            rows.iter().map(one).try_fold(0_i64, |sum, next| Ok::<_, Error>(sum.saturating_add(next?)))?;
        u64::try_from(sum).map_err(|_| wrong(name))
    };
    let usage = Usage {
        input: sum("input_tokens")?,
        cached_input: sum("cached_input_tokens")?,
        cache_write: sum("cache_write_tokens")?,
        cache_write_long: sum("cache_write_long_tokens")?,
        input_audio: sum("input_audio_tokens")?,
        output: sum("output_tokens")?,
        reasoning: sum("reasoning_tokens")?,
        output_audio: sum("output_audio_tokens")?,
        images: sum("images")?,
        calls: sum("calls")?,
        // The last correction says what counts.
        adjusted: rows.last().and_then(|row| text(row, "adjusted")).is_some_and(|adjusted| adjusted != "0"),
    };
    let charges = rows
        .iter()
        .map(|row| text(row, "charge").unwrap_or_default().parse::<Credits>().map_err(|_| wrong("charge")));
    let charge = Credits::total(charges.collect::<Result<Vec<_>, _>>()?)?;
    let keys: Vec<String> =
        serde_json::from_str(&text(first, "accounts").unwrap_or_default()).map_err(|_| wrong("accounts"))?;
    let mut accounts = Vec::new();
    for key in keys {
        let key: AccountKey = key.parse()?;
        accounts.push((key.clone(), account(database, &key).await?));
    }
    // The last correction was computed at the price that counts.
    let version = rows.iter().rev().find_map(|row| text(row, "price_version")?.parse().ok());
    let price = match version {
        Some(version) => price(database, PriceVersion(version)).await?,
        None => None,
    };
    Ok(Some(Entry { rows, accounts, usage, charge, price }))
}

type Rows = Vec<Vec<(&'static str, Option<String>)>>;

async fn rows(database: Database, id: RequestId) -> Result<Rows, Error> {
    let mut reading = Reading::begin(&database).await?;
    let mut found = Vec::new();
    for condition in [" WHERE id = ", " WHERE corrects = "] {
        let mut query = select(&database);
        query.push(condition).text(id.to_string()).push(" ORDER BY id");
        let row = |row: &crate::reading::Row<'_>| {
            let values = values(row)?;
            Ok(COLUMNS.iter().zip(values).map(|(column, value)| (column.name, shown(value))).collect())
        };
        found.extend(reading.all(query, row).await?);
    }
    Ok(found)
}

fn shown(value: Value<'_>) -> Option<String> {
    match value {
        Value::Nothing => None,
        Value::Text(text) => Some(text.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Credits(credits) => Some(credits.to_string()),
        Value::Time(time) => Some(time.to_string()),
    }
}

async fn price(database: &Database, version: PriceVersion) -> Result<Option<PricedModel>, Error> {
    let sql = format!("{} WHERE version = $1", select_prices(database));
    let row: Option<PriceRow> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(version.0).fetch_optional(pool).await?
    });
    row.map(PriceRow::read).transpose()
}
