//! `GET /local/models`: the models that have a price.

use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    provider: Option<String>,
}

pub(super) async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let snapshot = gateway.meter.catalogue().snapshot().await.map_err(ApiError::of_storage)?;
    let provider = wanted.provider.map(|provider| provider.to_lowercase());
    let is_wanted = |model: &&storage::PricedModel| {
        provider.as_deref().is_none_or(|provider| model.provider.as_str() == provider)
    };
    let mut found: Vec<_> = snapshot.models().filter(is_wanted).collect();
    found.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    let models: Vec<Value> = found
        .into_iter()
        .map(|model| {
            json!({
                "provider": model.provider.as_str(),
                "id": model.model.as_str(),
                "name": model.name,
                "free": model.price.is_free(),
            })
        })
        .collect();
    Ok(Json(json!({ "models": models })))
}
