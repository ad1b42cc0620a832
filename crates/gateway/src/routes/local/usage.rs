//! `POST /local/usage`: a request that has ended, charged without a hold.
//!
//! The rule it protects: what has happened is never lost. What a rule would have refused is recorded too, and told.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use metering::{Recorded, Remark, Used};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

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
    let (asking, reported, _counted) = asked::<Reported>(&gateway, &headers, sent).await?;
    let used =
        Used { provider: asking.provider()?, model: asking.model.clone(), usage: usage_of(&reported.usage)? };
    let (requester, is_known) = asking.whoever(&gateway).await?;
    let remarks = if is_known { Vec::new() } else { vec![Remark::unknown_user(&requester.user)] };
    let recorded = gateway.meter.used(requester, asking.labels(&gateway), used, remarks).await;
    let Recorded { bill: charged, remarks } =
        recorded.map_err(|error| ApiError::of_meter(error, gateway.contact()))?;
    let mut shown = bill(None, &charged);
    shown["remarks"] =
        remarks.iter().map(|remark| json!({"code": remark.code, "message": remark.message})).collect();
    Ok((StatusCode::CREATED, Json(shown)))
}
