//! Open WebUI's workspace models, from its own tables.

use sqlx::AssertSqlSafe;

use crate::{Database, Error, on_pool};

/// A workspace model of Open WebUI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceModel {
    /// The model that it is made of, if of one.
    pub base: Option<String>,
    /// Whether an administrator made it.
    pub by_administrator: bool,
}

/// The workspace model with that id; `None` where Open WebUI's tables are not, or it is not in them.
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
