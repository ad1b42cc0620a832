//! `GET, PUT /local/settings`: as the command `settings`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::admin::settings;

use super::body;
use crate::Gateway;
use crate::error::ApiError;

pub(super) async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let all = settings::list(&gateway.database).await.map_err(ApiError::of_storage)?;
    let all: Vec<Value> = all
        .into_iter()
        .map(|setting| {
            let settings::Setting { key, value, default, description } = setting;
            json!({"key": key, "value": value, "default": default, "description": description})
        })
        .collect();
    Ok(Json(json!({ "settings": all })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    settings: Vec<Entry>,
    /// Whether what was set before stays as it is.
    #[serde(default)]
    only_new: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    value: String,
    #[serde(default)]
    description: String,
}

pub(super) async fn write(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, ApiError> {
    let (Written { settings: entries, only_new }, _counted) = body(&gateway, &headers, sent).await?;
    let entries: Vec<(String, String, String)> =
        entries.into_iter().map(|entry| (entry.key, entry.value, entry.description)).collect();
    settings::init(&gateway.database, &entries, !only_new).await.map_err(ApiError::of_storage)?;
    Ok(StatusCode::NO_CONTENT)
}
