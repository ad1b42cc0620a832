//! `GET /local/models`: the models that have a price, and those that sponsored allowances offer as models of their own.

use accounting::ProviderName;
use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bad;
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
    let named = wanted.provider.map(ProviderName::new).transpose().map_err(bad)?;
    let models: Vec<Value> = snapshot
        .models_of(named.as_ref())
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
    let sponsored = gateway.meter.sponsored_models(named.as_ref()).await;
    let sponsored: Vec<Value> = sponsored
        .map_err(|error| ApiError::of_meter(error, gateway.contact()))?
        .into_iter()
        .map(|model| {
            json!({"provider": model.provider, "id": model.id, "name": model.name, "model": model.model.as_str()})
        })
        .collect();
    Ok(Json(json!({ "models": models, "sponsored": sponsored })))
}
