//! `GET /v1/models`: the models that have a price and a provider. Needs a key, and no user.

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.access(&headers).await?;
    let models =
        gateway.meter.models().await.map_err(|error| ApiError::of_meter(error, gateway.contact()))?;
    let data: Vec<Value> = models
        .into_iter()
        .map(|model| json!({"id": model.id, "object": "model", "created": 0, "owned_by": model.provider, "name": model.name}))
        .collect();
    Ok(Json(json!({"object": "list", "data": data})))
}
