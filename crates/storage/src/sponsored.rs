//! Sponsored allowances as requests need them, and the workspace models of Open WebUI that open them.

use std::collections::HashMap;

use accounting::{Credits, ModelId, SponsoredId};
use sqlx::AssertSqlSafe;

use crate::{Database, Error, Kind, on_pool};

/// Credits that a sponsor grants for named models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsoredAllowance {
    /// Its id.
    pub id: SponsoredId,
    /// Its name: what stands before `---` in the id of a workspace model that draws on it.
    pub name: String,
    /// Who pays: a user's id, or any name; empty if unknown.
    pub sponsor: String,
    /// The models that it covers, by id.
    pub models: Vec<ModelId>,
    /// What all users together may spend, ever.
    pub total: Credits,
    /// What each user may spend in a day; `None` for no limit.
    pub daily: Option<Credits>,
    /// When it was made, UTC, as `YYYY-MM-DD HH:MM:SS`.
    pub created_at: String,
}

impl SponsoredAllowance {
    /// Whether it pays for that model.
    pub fn covers(&self, model: &ModelId) -> bool {
        self.models.contains(model)
    }
}

/// A workspace model of Open WebUI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceModel {
    /// The model that it is made of, if of one.
    pub base: Option<String>,
    /// Whether an administrator made it.
    pub by_administrator: bool,
}

type Row = (String, Option<String>, Option<String>, i64, Option<i64>, Option<String>);

/// All allowances, by name.
pub(crate) async fn read(database: &Database) -> Result<Vec<SponsoredAllowance>, Error> {
    let allowances = database.table("token_tracking_sponsored_allowance");
    let created_at = match database.kind() {
        Kind::Sqlite => "substr(CAST(creation_date AS TEXT), 1, 19)",
        Kind::Postgres => "to_char(creation_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
    };
    let sql = format!(
        "SELECT CAST(id AS TEXT), name, sponsor_id, CAST(total_credit_limit AS BIGINT), \
           CAST(daily_credit_limit AS BIGINT), {created_at} FROM {allowances} ORDER BY lower(name), 1"
    );
    let covered = format!(
        "SELECT DISTINCT CAST(sponsored_allowance_id AS TEXT), base_model_id FROM {} \
         WHERE sponsored_allowance_id IS NOT NULL AND base_model_id IS NOT NULL ORDER BY 2",
        database.table("token_tracking_sponsored_allowance_base_models")
    );
    let (rows, covered): (Vec<Row>, Vec<(String, String)>) = on_pool!(database, pool => (
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?,
        sqlx::query_as(AssertSqlSafe(covered)).fetch_all(pool).await?,
    ));
    let mut models: HashMap<SponsoredId, Vec<ModelId>> = HashMap::new();
    for (id, model) in covered {
        models.entry(id.parse()?).or_default().push(ModelId::new(model)?);
    }
    let one = |(id, name, sponsor, total, daily, created_at): Row| {
        let wrong = |column: &str| Error::Inconsistency {
            table: "token_tracking_sponsored_allowance".into(),
            column: column.into(),
            row: id.clone(),
        };
        let parsed: SponsoredId = id.parse().map_err(|_| wrong("id"))?;
        Ok(SponsoredAllowance {
            id: parsed,
            name: name.ok_or_else(|| wrong("name"))?,
            sponsor: sponsor.unwrap_or_default(),
            models: models.remove(&parsed).unwrap_or_default(),
            total: Credits::from_whole(total)?,
            daily: daily.map(Credits::from_whole).transpose()?,
            created_at: created_at.unwrap_or_default(),
        })
    };
    rows.into_iter().map(one).collect()
}

/// The workspace model with that id, from Open WebUI's tables; `None` where they are not, or it is not in them.
pub(crate) async fn workspace_model(database: &Database, id: &str) -> Result<Option<WorkspaceModel>, Error> {
    if !(database.has_table("model").await? && database.has_table("user").await?) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT CAST(model.base_model_id AS TEXT), CAST(maker.role AS TEXT) FROM {} AS model \
         LEFT JOIN {} AS maker ON maker.id = model.user_id WHERE model.id = $1",
        database.table("model"),
        database.table("user")
    );
    let row: Option<(Option<String>, Option<String>)> = on_pool!(database, pool => {
        sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?
    });
    Ok(row.map(|(base, role)| WorkspaceModel {
        base: base.filter(|base| !base.is_empty()),
        by_administrator: role.as_deref() == Some("admin"),
    }))
}
