//! Workspace models that open an allowance because an administrator says so.

use accounting::check_name;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::Which;
use crate::admin::audit::{Change, note};
use crate::database::in_transaction;
use crate::sponsored::{Rows, rows};
use crate::{Database, Error, SponsoredAllowance};

/// The most characters of a workspace model's id, as Open WebUI has it.
const LONGEST: usize = 256;

/// Lets a workspace model of Open WebUI open an allowance, whoever made it and whatever its id is.
///
/// # Errors
/// [`Error::NotFound`] if there is no such allowance, [`Error::Invalid`] for what can't be an id.
pub async fn register(
    database: &Database,
    workspace_model: &str,
    which: &Which,
) -> Result<SponsoredAllowance, Error> {
    let is_name = check_name(workspace_model, "an id", LONGEST).is_ok();
    if !is_name || workspace_model.chars().any(char::is_whitespace) {
        return Err(Error::Invalid {
            what: "a workspace model's id has 1 to 256 characters, and no spaces".into(),
        });
    }
    let sql = format!(
        "INSERT INTO {} (id, sponsored_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET sponsored_id = excluded.sponsored_id",
        database.table("token_tracking_sponsored_workspace_model")
    );
    in_transaction!(database, transaction => {
        let rows = rows!(database, transaction);
        let before = rows.registered()?.remove(workspace_model);
        let allowance = which.of(rows.allowances().0)?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(workspace_model).bind(allowance.id.to_string());
        query.execute(&mut *transaction).await?;
        note!(transaction, database, Change {
            action: "sponsored register",
            subject: workspace_model,
            before: before.map(|id| id.to_string().into()),
            after: Some(Value::from(allowance.id.to_string())),
        });
        Ok(allowance)
    })
}

/// Takes that back.
///
/// # Errors
/// [`Error::NotFound`] if it is not registered.
pub async fn unregister(database: &Database, workspace_model: &str) -> Result<(), Error> {
    let sql =
        format!("DELETE FROM {} WHERE id = $1", database.table("token_tracking_sponsored_workspace_model"));
    in_transaction!(database, transaction => {
        let before = rows!(database, transaction).registered()?.remove(workspace_model);
        let Some(before) = before else {
            return Err(Error::NotFound {
                what: "registered workspace model",
                name: workspace_model.to_owned(),
                hint: "; `owui-token-tracking sponsored registered` shows all".into(),
            });
        };
        sqlx::query(AssertSqlSafe(sql)).bind(workspace_model).execute(&mut *transaction).await?;
        let before = Some(Value::from(before.to_string()));
        note!(transaction, database, Change { action: "sponsored unregister", subject: workspace_model, before, after: None });
        Ok(())
    })
}

/// The workspace models that are registered, each with its allowance.
///
/// # Errors
/// [`Error::Unavailable`] if the database is away.
pub async fn registered(database: &Database) -> Result<Vec<(String, SponsoredAllowance)>, Error> {
    let rows = Rows::read(database).await?;
    let registered = rows.registered()?;
    let allowances = rows.allowances().0;
    let of =
        |(id, sponsored)| Some((id, allowances.iter().find(|allowance| allowance.id == sponsored)?.clone()));
    Ok(registered.into_iter().filter_map(of).collect())
}
