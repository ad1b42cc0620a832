//! `GET /local/requests/{id}`: a request as it was charged. Waits for its end, if asked to.

use std::time::Duration;

use accounting::RequestId;
use axum::Json;
use axum::extract::{Path, Query, State};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::reports::requests;

use super::{bad, number};
use crate::Gateway;
use crate::error::ApiError;

/// Seconds; nobody waits longer.
const LONGEST: u64 = 30;

#[derive(Debug, Deserialize)]
pub(super) struct Patience {
    #[serde(default)]
    wait: u64,
}

pub(super) async fn get(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(Patience { wait }): Query<Patience>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    gateway.keys.administers(&headers)?;
    let id: RequestId = id.parse().map_err(bad)?;
    let patience = Duration::from_secs(wait.min(LONGEST));
    if tokio::time::timeout(patience, gateway.meter.landed(id)).await.is_err() {
        return Ok((StatusCode::ACCEPTED, Json(json!({"settled": false}))));
    }
    let found = requests::request(&gateway.database, id).await.map_err(ApiError::of_storage)?;
    let Some(request) = found else {
        let message = "The ledger has no such request.";
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "request_not_found",
            message,
        ));
    };
    Ok((
        StatusCode::OK,
        Json(json!({
            "id": request.id.to_string(),
            "user": request.user,
            "provider": request.provider,
            "model": request.model,
            "input_tokens": request.input,
            "cached_tokens": request.cached_input,
            "cache_write_tokens": request.cache_write,
            "output_tokens": request.output,
            "reasoning_tokens": request.reasoning,
            "credits": number(request.charge),
            "estimated": request.estimated,
            "adjusted": request.adjusted,
            "outcome": request.outcome,
            "task": request.task,
            "sponsored": request.sponsored,
            "started_at": request.started_at.to_string(),
            "ended_at": request.ended_at.to_string(),
        })),
    ))
}
