//! `GET /v1/models`: the models that have a price and a provider, and those that sponsored allowances offer as models of
//! their own. Needs a key, and no user: Open WebUI keeps one list for all its users, and hides what it does not grant. The
//! holder of a bound key sees what they may use.

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use metering::Audience;
use serde_json::{Value, json};

use crate::Gateway;
use crate::error::ApiError;
use crate::keys::Access;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let access = gateway.keys.access(&headers).await?;
    let audience = match &access {
        Access::Forwarding => Audience::Anybody,
        Access::Bound(user) => Audience::User(user),
    };
    let models =
        gateway.meter.models(audience).await.map_err(|error| ApiError::of_meter(error, gateway.contact()))?;
    let data: Vec<Value> = models
        .into_iter()
        .map(|model| json!({"id": model.id, "object": "model", "created": 0, "owned_by": model.provider, "name": model.name}))
        .collect();
    Ok(Json(json!({"object": "list", "data": data})))
}
