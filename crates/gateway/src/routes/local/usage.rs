//! `POST /local/usage`: a request that has ended, charged without a hold.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use metering::Used;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{asked, bill, usage_of};
use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
struct Reported {
    usage: Box<RawValue>,
}

pub(super) async fn create(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (asking, reported) = asked::<Reported>(&gateway, &headers, sent).await?;
    let used =
        Used { provider: asking.provider()?, model: asking.model.clone(), usage: usage_of(&reported.usage)? };
    let requester = asking.requester(&gateway).await?;
    let charged = gateway.meter.used(requester, asking.labels(&gateway), used).await;
    let charged = charged.map_err(|error| ApiError::of_meter(error, gateway.contact()))?;
    Ok((StatusCode::CREATED, Json(bill(None, &charged))))
}
