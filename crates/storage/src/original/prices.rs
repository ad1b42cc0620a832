//! The original's price table against ours. It is a mirror of ours: one row for each model id, in whole credits. Whatever
//! differs there was written by the original, or by hand, and becomes ours:
//!
//! * a row that was edited: a new version. Only a rate that was edited is taken from it; one that merely shows ours rounded keeps
//!   its digits, and classes that the original has no word for (cached input, tiers, …) stay as they were;
//! * a row that was added, or given to another provider: a price of that provider. Prices of others stay;
//! * a row that was deleted: the end of the model's price, if only one provider has one. If several do, nobody knows whose was
//!   meant, and the row is put back;
//! * a row that can't be a price (no rate, no number of tokens): put back, or left alone where we have no price either.
//!
//! The row itself is never touched on the way, so the original finds it as it was written.

use std::collections::{BTreeMap, BTreeSet};

use accounting::{Credits, Label, ModelId, Price, PriceVersion, ProviderName, Rate, is_hidden};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use crate::admin::audit::{Change, note};
use crate::admin::price_list::show;
use crate::admin::prices::{
    ANY, CLOCKS, NewPrice, Source, insert, kept_versions, mirror, mirror_due, mirrored, not_before, whole,
};
use crate::catalogue::{PriceRow, select_prices};
use crate::database::{in_snapshot, in_transaction};
use crate::{Database, Error, Kind, PricedModel, on_pool};

/// Who is said to have changed a price there.
const SOMEBODY: &str = "the original's price table";
const ACTION: &str = "database sync";
const TABLE: &str = "token_tracking_model_pricing";

/// What was taken over from the original's price table: how many prices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Prices that were not here.
    pub adopted: usize,
    /// Prices that were edited there.
    pub changed: usize,
    /// Prices that were deleted there.
    pub ended: usize,
    /// Rows that were put back as our price says.
    pub restored: usize,
}

impl Absorbed {
    /// Whether there was nothing to take over.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A row of the original's price table.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    id: String,
    provider: Option<String>,
    name: Option<String>,
    /// Credits, in digits: on SQLite somebody may have written fractions by hand.
    input_cost: Option<String>,
    per_input: Option<i64>,
    output_cost: Option<String>,
    per_output: Option<i64>,
}

/// What is to be done about a row, or about one that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Adopt(NewPrice),
    Change { from: Box<PricedModel>, to: NewPrice },
    End(PricedModel),
    Restore(PricedModel),
}

/// Both tables in a transaction: the original's rows, and the prices of ours that hold.
macro_rules! read {
    ($transaction:expr, $database:expr, $now:expr) => {{
        let rows: Vec<Row> =
            sqlx::query_as(AssertSqlSafe(select_rows($database))).fetch_all(&mut *$transaction).await?;
        let ours: Vec<PriceRow> = sqlx::query_as(AssertSqlSafe(select_shown($database, true)))
            .bind(soon($now))
            .fetch_all(&mut *$transaction)
            .await?;
        let ours = shown(ours);
        (rows, ours)
    }};
}

/// Takes over what differs in the original's price table. Cheap where nothing does: two readings, no lock.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away or busy.
pub(crate) async fn sync(database: &Database, now: Timestamp) -> Result<Absorbed, Error> {
    mirror_due(database, now).await?;
    let due = in_snapshot!(database, transaction => {
        let (rows, ours) = read!(transaction, database, now);
        steps(&rows, &ours)
    });
    if due.is_empty() {
        return Ok(Absorbed::default());
    }
    let database = &database.clone().acting_as(SOMEBODY);
    in_transaction!(database, transaction => {
        let (rows, ours) = read!(transaction, database, now);
        let mut absorbed = Absorbed::default();
        for step in steps(&rows, &ours) {
            absorbed.count(&step);
            let (before, new, ends) = match step {
                Step::Adopt(new) => (None, new, false),
                Step::Change { from, to } => (Some(*from), to, false),
                Step::End(priced) => (Some(priced.clone()), NewPrice::from(priced), true),
                Step::Restore(priced) => {
                    mirror!(transaction, database, priced.model.as_str(), now);
                    continue;
                }
            };
            let (kept, _) = kept_versions!(transaction, database, new.model.as_str(), Some(&new.provider));
            let (from, source) = (not_before(&kept, now, now), Source::Original.as_str());
            insert!(transaction, database, &new, source, None, from, true, ends);
            let subject = format!("{}/{}", new.provider, new.model);
            let before = before.as_ref().map(show);
            let after = (!ends).then(|| show(&priced(new)));
            note!(transaction, database, Change { action: ACTION, subject: &subject, before, after });
        }
        Ok(absorbed)
    })
}

/// What would become of prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricesPreview {
    /// What would be taken over from the original's table.
    pub absorbed: Absorbed,
    /// How many of those offered would be added: models that never had a price.
    pub added: usize,
    /// All that would hold then.
    pub prices: Vec<PricedModel>,
}

/// What would become of prices if what differs were taken over and `offered` were written where there never was one; changes
/// nothing, and does not need our tables.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn preview(
    database: &Database,
    offered: &[NewPrice],
    now: Timestamp,
) -> Result<PricesPreview, Error> {
    let (mut ours, mut ever): (Ours, BTreeSet<(String, String)>) = Default::default();
    if database.has_table("token_tracking_price").await? {
        let marked = database.has_column("token_tracking_price", "mirrored").await?;
        let select = select_shown(database, marked);
        ours = shown(on_pool!(database, pool => {
            sqlx::query_as(AssertSqlSafe(select)).bind(soon(now)).fetch_all(pool).await?
        }));
        let sql = format!("SELECT DISTINCT provider, model FROM {}", database.table("token_tracking_price"));
        let known: Vec<(String, String)> =
            on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?);
        ever.extend(known);
    }
    let rows: Vec<Row> = if database.has_table(TABLE).await? {
        on_pool!(database, pool => sqlx::query_as(AssertSqlSafe(select_rows(database))).fetch_all(pool).await?)
    } else {
        Vec::new()
    };
    let mut absorbed = Absorbed::default();
    let mut all: BTreeMap<(String, String), PricedModel> = BTreeMap::new();
    let key = |provider: &ProviderName, model: &ModelId| (provider.to_string(), model.to_string());
    for priced in &ours.prices {
        all.insert(key(&priced.provider, &priced.model), priced.clone());
    }
    for step in steps(&rows, &ours) {
        absorbed.count(&step);
        match step {
            Step::Adopt(new) | Step::Change { to: new, .. } => {
                all.insert(key(&new.provider, &new.model), priced(new));
            }
            Step::End(priced) => {
                all.remove(&key(&priced.provider, &priced.model));
            }
            Step::Restore(_) => {}
        }
    }
    let mut added = 0;
    for new in offered {
        let key = key(&new.provider, &new.model);
        if !ever.contains(&key) && !all.contains_key(&key) {
            added += 1;
            all.insert(key, priced(new.clone()));
        }
    }
    Ok(PricesPreview { absorbed, added, prices: all.into_values().collect() })
}

/// A price that has no version yet.
pub fn priced(new: NewPrice) -> PricedModel {
    let NewPrice { provider, model, name, price, max_output_tokens, context_tokens } = new;
    let version = PriceVersion(0);
    PricedModel { provider, model, name, version, price, max_output_tokens, context_tokens }
}

fn select_rows(database: &Database) -> String {
    let credits = |column: &str| match database.kind() {
        // A number with a fraction is a float there: as exact as one is, to the microcredit.
        Kind::Sqlite => format!(
            "CASE typeof({column}) WHEN 'real' THEN printf('%.6f', {column}) ELSE CAST({column} AS TEXT) END"
        ),
        Kind::Postgres => format!("CAST({column} AS TEXT)"),
    };
    format!(
        "SELECT CAST(id AS TEXT) AS id, CAST(provider AS TEXT) AS provider, CAST(name AS TEXT) AS name, \
           {} AS input_cost, CAST(per_input_tokens AS BIGINT) AS per_input, \
           {} AS output_cost, CAST(per_output_tokens AS BIGINT) AS per_output \
         FROM {} ORDER BY 1",
        credits("input_cost_credits"),
        credits("output_cost_credits"),
        database.table(TABLE)
    )
}

/// The prices that the original's table shows: those that hold, or will within the time by which clocks differ. `$1` is its end.
fn select_shown(database: &Database, marked: bool) -> String {
    let table = database.table("token_tracking_price");
    // Before the mark there were no prices from a later date.
    let (shown, later) = if marked { ("mirrored = 1", "later.mirrored = 1") } else { ("1 = 1", "1 = 1") };
    format!(
        "{} AS kept WHERE {shown} AND provider <> '{ANY}' AND valid_from <= $1 AND NOT EXISTS ( \
           SELECT 1 FROM {table} AS later WHERE later.provider = kept.provider AND later.model = kept.model \
             AND {later} AND later.valid_from <= $1 AND (later.valid_from > kept.valid_from \
               OR (later.valid_from = kept.valid_from AND later.version > kept.version)))",
        select_prices(database)
    )
}

/// Until when a price may begin that is meant for now.
fn soon(now: Timestamp) -> i64 {
    now.saturating_add(CLOCKS).unwrap_or(now).as_microsecond()
}

/// Prices of ours, as they are read.
#[derive(Debug, Default)]
struct Ours {
    prices: Vec<PricedModel>,
    /// Models with a price that can't be read here, as of a newer version. Their rows in the original's table are left alone: to
    /// take them over would put a price in its place that charges less.
    unreadable: BTreeSet<String>,
}

fn shown(rows: Vec<PriceRow>) -> Ours {
    let mut ours = Ours::default();
    for row in rows.into_iter().filter(|row| row.deleted == 0) {
        let model = row.model.clone();
        match row.read() {
            Ok(priced) => ours.prices.push(priced),
            Err(_) => drop(ours.unreadable.insert(model)),
        }
    }
    ours
}

impl Absorbed {
    fn count(&mut self, step: &Step) {
        match step {
            Step::Adopt(_) => self.adopted += 1,
            Step::Change { .. } => self.changed += 1,
            Step::End(_) => self.ended += 1,
            Step::Restore(_) => self.restored += 1,
        }
    }
}

/// What differs, and what follows from it.
fn steps(rows: &[Row], ours: &Ours) -> Vec<Step> {
    let mut by_model: BTreeMap<&str, Vec<&PricedModel>> = BTreeMap::new();
    for priced in ours.prices.iter().filter(|priced| !ours.unreadable.contains(priced.model.as_str())) {
        by_model.entry(priced.model.as_str()).or_default().push(priced);
    }
    let mut steps = Vec::new();
    for row in rows.iter().filter(|row| !ours.unreadable.contains(&row.id)) {
        let there = by_model.remove(row.id.as_str()).unwrap_or_default();
        let provider = row.provider.as_deref().unwrap_or_default().to_lowercase();
        let held = there.iter().find(|priced| priced.provider.as_str() == provider).copied();
        match (row.read(), held) {
            (Some(new), None) => steps.push(Step::Adopt(new)),
            (Some(new), Some(held)) => {
                let to = edited(held, new, row);
                if to != NewPrice::from(held.clone()) {
                    steps.push(Step::Change { from: Box::new(held.clone()), to });
                }
            }
            (None, Some(held)) => steps.push(Step::Restore(held.clone())),
            (None, None) => {
                tracing::debug!(model = row.id, "a row of the original's price table is no price")
            }
        }
    }
    for (_, providers) in by_model {
        match providers.as_slice() {
            [only] => steps.push(Step::End((*only).clone())),
            [first, ..] => steps.push(Step::Restore((*first).clone())),
            [] => {}
        }
    }
    steps
}

/// Our price with what was edited in its row.
fn edited(held: &PricedModel, new: NewPrice, row: &Row) -> NewPrice {
    let mut to = NewPrice::from(held.clone());
    // As our rate shows itself there, it was not edited.
    let shows = |rate: Rate, cost: Option<&String>, per: Option<i64>| {
        let (credits, tokens) = whole(rate);
        let cost = cost.and_then(|cost| cost.parse::<Credits>().ok());
        (cost, per) == (Credits::from_whole(i64::from(credits)).ok(), Some(i64::from(tokens)))
    };
    if !shows(held.price.input, row.input_cost.as_ref(), row.per_input) {
        to.price.input = new.price.input;
    }
    if !shows(held.price.output, row.output_cost.as_ref(), row.per_output) {
        to.price.output = new.price.output;
    }
    if row.clean_name().is_some_and(|name| name != mirrored(held).name) {
        to.name.clone_from(&new.name);
    }
    match to.price.clone().checked() {
        Ok(_) => to,
        // Such as token counts without a common multiple: the two rates of the row itself always are a price.
        Err(_) => new,
    }
}

impl Row {
    /// Its name, without what does not show.
    fn clean_name(&self) -> Option<String> {
        let name = self.name.as_deref()?;
        Some(if name.chars().any(is_hidden) { Label::new(name).into() } else { name.to_owned() })
    }

    /// The price that it is; `None` if it is none.
    fn read(&self) -> Option<NewPrice> {
        let rate = |cost: Option<&String>, per: Option<i64>| {
            let tokens = u64::try_from(per?).ok().filter(|tokens| *tokens > 0)?;
            let credits = cost?.parse::<Credits>().ok().filter(|credits| !credits.is_negative())?;
            Some(Rate::new(credits, tokens))
        };
        let input = rate(self.input_cost.as_ref(), self.per_input)?;
        let price = Price::new(input, rate(self.output_cost.as_ref(), self.per_output)?);
        Some(NewPrice {
            provider: ProviderName::new(self.provider.as_deref()?).ok()?,
            model: ModelId::new(self.id.clone()).ok()?,
            name: self.clean_name().unwrap_or_else(|| self.id.clone()),
            price: price.checked().ok()?,
            max_output_tokens: None,
            context_tokens: None,
        })
    }
}
