//! The versions of a model's price, and which of them holds at a moment: the one whose time came last, the newest of those
//! of the same time. So a price from a later date still comes into force if another is written for the time until then.

use accounting::{ModelId, ProviderName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use crate::catalogue::PriceRow;
use crate::{Database, Error, PricedModel, on_pool};

/// Which entry of a public list a price was taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The list with its version.
    pub list: String,
    /// The provider there.
    pub provider: String,
    /// The model there.
    pub model: String,
    /// Credits for one USD.
    pub credits_per_usd: accounting::Credits,
}

/// One version of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The price.
    pub priced: PricedModel,
    /// Where it came from: `administrator`, `built-in`, `original`, `genai-prices`.
    pub source: String,
    /// Its entry in a public list, if it is from there.
    pub upstream: Option<Upstream>,
    /// From when it holds.
    pub valid_from: Timestamp,
    /// Whether it says that the model has no price from then on.
    pub deleted: bool,
}

/// Versions of prices, and why others can't be read: a bad row, or one of a newer version of this program, hides no other.
#[derive(Debug, Default)]
pub struct Versions {
    /// Those that can be read.
    pub readable: Vec<Version>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

/// A version of a price that can't be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The provider and the model, as they are written there.
    pub of: (String, String),
    /// Why, and what to do.
    pub error: Error,
}

impl FromIterator<VersionRow> for Versions {
    fn from_iter<T: IntoIterator<Item = VersionRow>>(rows: T) -> Self {
        let mut versions = Self::default();
        for row in rows {
            let of = (row.row.provider.clone(), row.row.model.clone());
            match row.read() {
                Ok(version) => versions.readable.push(version),
                Err(error) => versions.unreadable.push(Unreadable { of, error }),
            }
        }
        versions
    }
}

#[derive(sqlx::FromRow)]
pub(crate) struct VersionRow {
    #[sqlx(flatten)]
    row: PriceRow,
    source: String,
    upstream: Option<String>,
    valid_from: i64,
}

impl VersionRow {
    pub(crate) fn read(self) -> Result<Version, Error> {
        let Self { row, source, upstream, valid_from } = self;
        let deleted = row.deleted != 0;
        let wrong = |column: &str| Error::Inconsistency {
            table: "token_tracking_price".into(),
            column: column.into(),
            row: row.version.to_string(),
        };
        let upstream = upstream.map(|text| serde_json::from_str(&text)).transpose();
        let (upstream, valid_from) = (
            upstream.map_err(|_| wrong("upstream"))?,
            Timestamp::from_microsecond(valid_from).map_err(|_| wrong("valid_from"))?,
        );
        Ok(Version { priced: row.read()?, source, upstream, valid_from, deleted })
    }
}

/// The head of each query for versions.
pub(crate) fn select(database: &Database) -> String {
    format!(
        "SELECT version, provider, model, name, price, max_output_tokens, context_tokens, deleted, source, upstream, \
           valid_from FROM {}",
        database.table("token_tracking_price")
    )
}

/// The version that holds at a moment; `None` if there is none or the model has no price then.
pub(crate) fn holding(versions: &[Version], at: Timestamp) -> Option<&Version> {
    let begun = versions.iter().filter(|version| version.valid_from <= at);
    begun
        .max_by_key(|version| (version.valid_from, version.priced.version))
        .filter(|version| !version.deleted)
}

/// All versions of a model's price, the oldest first; at one provider, or at all.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn history(
    database: &Database,
    model: &ModelId,
    provider: Option<&ProviderName>,
) -> Result<Versions, Error> {
    let sql = format!(
        "{} WHERE model = $1 AND ($2 IS NULL OR provider = $2) ORDER BY provider, valid_from, version",
        select(database)
    );
    let rows: Vec<VersionRow> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(model.as_str());
        query.bind(provider.map(ProviderName::as_str)).fetch_all(pool).await?
    });
    Ok(rows.into_iter().collect())
}

/// The versions that hold at a moment, with where they came from, by provider and model.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn present(
    database: &Database,
    provider: Option<&ProviderName>,
    at: Timestamp,
) -> Result<Versions, Error> {
    let table = database.table("token_tracking_price");
    let sql = format!(
        "{} AS kept WHERE deleted = 0 AND valid_from <= $1 AND (($2 IS NULL AND provider <> '{}') OR provider = $2) AND {} \
         ORDER BY provider, model",
        select(database),
        super::ANY,
        is_last(&table),
    );
    let rows: Vec<VersionRow> = on_pool!(database, pool => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(at.as_microsecond());
        query.bind(provider.map(ProviderName::as_str)).fetch_all(pool).await?
    });
    Ok(rows.into_iter().collect())
}

/// The condition that a row `kept` is the one of its model whose time came last before the moment `$1`.
pub(crate) fn is_last(table: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM {table} AS later WHERE later.provider = kept.provider AND later.model = kept.model \
           AND later.valid_from <= $1 AND (later.valid_from > kept.valid_from \
             OR (later.valid_from = kept.valid_from AND later.version > kept.version)))"
    )
}
