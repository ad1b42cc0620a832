//! One request as the ledger has it.

use accounting::{Credits, RequestId};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use crate::{Database, Error, on_pool};

/// A settled request, all corrections of it included: how it ended is what its owner says of it, where the owner has said
/// anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub user: String,
    /// The sponsored allowance that paid, by name; by id once its name is gone.
    pub sponsored: Option<String>,
    /// The price table's provider.
    pub provider: String,
    /// The model asked for.
    pub model: String,
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
    pub charge: Credits,
    /// Whether that rests on counted tokens.
    pub estimated: bool,
    /// Whether the provider's report contradicted itself, and was used where it can be right.
    pub adjusted: bool,
    /// How it ended.
    pub outcome: String,
    /// Open WebUI's task.
    pub task: Option<String>,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// The request with that id; `None` if it is not settled, or not known.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away, [`Error::Inconsistency`] for a bad row.
pub async fn request(database: &Database, id: RequestId) -> Result<Option<Request>, Error> {
    let ledger = database.table("token_tracking_ledger");
    let allowances = database.table("token_tracking_sponsored_allowance");
    let sql = format!(
        "WITH entries AS ( \
           SELECT * FROM {ledger} WHERE id = $1 UNION ALL SELECT * FROM {ledger} WHERE corrects = $1), \
         sums AS ( \
           SELECT CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, \
             CAST(SUM(cached_input_tokens) AS BIGINT) AS cached_input_tokens, \
             CAST(SUM(cache_write_tokens + cache_write_long_tokens) AS BIGINT) AS cache_write_tokens, \
             CAST(SUM(output_tokens) AS BIGINT) AS output_tokens, CAST(SUM(reasoning_tokens) AS BIGINT) AS reasoning_tokens, \
             CAST(SUM(charge) AS BIGINT) AS charge FROM entries), \
         ended AS ( \
           SELECT estimated, adjusted, outcome, ended_at FROM entries \
           ORDER BY CASE WHEN outcome = 'recovered' THEN 1 ELSE 0 END, id DESC LIMIT 1) \
         SELECT entry.user_id, entry.provider, entry.model, sums.input_tokens, sums.cached_input_tokens, \
           sums.cache_write_tokens, sums.output_tokens, sums.reasoning_tokens, sums.charge, ended.estimated, ended.adjusted, ended.outcome, \
           entry.task, entry.started_at, ended.ended_at, \
           COALESCE((SELECT name FROM {allowances} AS allowance WHERE {} = entry.sponsored_id), entry.sponsored_id) AS sponsored \
         FROM {ledger} AS entry CROSS JOIN sums CROSS JOIN ended WHERE entry.id = $1",
        match database.kind() {
            crate::Kind::Sqlite => "allowance.id",
            crate::Kind::Postgres => "replace(CAST(allowance.id AS TEXT), '-', '')",
        }
    );
    on_pool!(database, pool => {
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(pool).await?;
        let Some(row) = row else { return Ok(None) };
        let time = |column: &str| {
            Timestamp::from_microsecond(row.try_get(column)?).map_err(|_| Error::Inconsistency {
                table: "token_tracking_ledger".into(),
                column: column.into(),
                row: id.to_string(),
            })
        };
        Ok(Some(Request {
            id,
            user: row.try_get("user_id")?,
            sponsored: row.try_get("sponsored")?,
            provider: row.try_get("provider")?,
            model: row.try_get("model")?,
            input: row.try_get("input_tokens")?,
            cached_input: row.try_get("cached_input_tokens")?,
            cache_write: row.try_get("cache_write_tokens")?,
            output: row.try_get("output_tokens")?,
            reasoning: row.try_get("reasoning_tokens")?,
            charge: Credits::from_micro(row.try_get("charge")?),
            estimated: row.try_get::<Option<String>, _>("estimated")?.is_some(),
            adjusted: row.try_get::<i64, _>("adjusted")? != 0,
            outcome: row.try_get("outcome")?,
            task: row.try_get("task")?,
            started_at: time("started_at")?,
            ended_at: time("ended_at")?,
        }))
    })
}
