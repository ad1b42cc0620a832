//! `/local/holds`: requests that foreign code sends by itself. It holds, says how far it has come, and settles or releases.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use metering::Outcome;
use providers::{ChatRequest, Shape, off_runtime, write_json};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{asked, bad, bill, body, number, usage_of};
use crate::Gateway;
use crate::error::ApiError;

/// What the request is, as far as its size goes: a whole one in OpenAI's form, or its text and its limit.
#[derive(Debug, Deserialize)]
struct Size {
    request: Option<Map<String, Value>>,
    #[serde(default)]
    input_text: String,
    max_tokens: Option<u64>,
    n: Option<u64>,
}

pub(super) async fn create(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (asking, size, counted) = asked::<Size>(&gateway, &headers, sent).await?;
    let requester = asking.requester(&gateway).await.map_err(|error| error.asked_by(asking.asker()))?;
    let request = size.request(&asking.model)?;
    // It is kept as long as the hold, to be counted.
    let kept = gateway.bounds.hand_over(counted.body, &requester.user)?;
    let held = gateway.meter.errand(requester, asking.labels(&gateway), &asking.provider()?, &request).await;
    let errand =
        held.map_err(|error| ApiError::of_meter(error, gateway.contact()).asked_by(asking.asker()))?;
    let held = json!({
        "id": errand.id().to_string(),
        "amount": number(errand.amount()),
        "max_tokens": errand.output_tokens(),
    });
    gateway.errands.add(errand, kept);
    Ok((StatusCode::CREATED, Json(held)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Noted {
    /// What was produced since the last call.
    text: String,
    /// What the provider reported in all.
    usage: Option<Box<RawValue>>,
}

pub(super) async fn progress(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Path(id): Path<String>,
    sent: Body,
) -> Result<StatusCode, ApiError> {
    let (noted, _counted): (Noted, _) = body(&gateway, &headers, sent).await?;
    let usage = noted.usage.as_deref().map(usage_of).transpose()?;
    let id = id.parse().map_err(bad)?;
    gateway.errands.with(id, |errand| errand.note(&noted.text, usage)).ok_or_else(ended)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Complete,
    ClientGone,
    ProviderFailed,
}

#[derive(Debug, Deserialize)]
struct Ended {
    outcome: End,
    #[serde(default)]
    text: String,
    usage: Option<Box<RawValue>>,
}

pub(super) async fn settle(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Path(id): Path<String>,
    sent: Body,
) -> Result<Json<Value>, ApiError> {
    let (Ended { outcome, text, usage }, _counted) = body(&gateway, &headers, sent).await?;
    let usage = usage.as_deref().map(usage_of).transpose()?;
    let id = id.parse().map_err(bad)?;
    let mut errand = gateway.errands.take(id).ok_or_else(ended)?;
    errand.note(&text, usage);
    let outcome = match outcome {
        End::Complete => Outcome::Complete,
        End::ClientGone => Outcome::ClientGone,
        End::ProviderFailed => Outcome::ProviderFailed,
    };
    let settled = errand.settle(&gateway.meter, outcome).await;
    let settled =
        settled.map_err(|error| ApiError::of_meter(error, gateway.contact()).of_request(Some(id)))?;
    Ok(Json(bill(Some(id), &settled)))
}

pub(super) async fn release(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    gateway.keys.administers(&headers)?;
    let id = id.parse().map_err(bad)?;
    gateway.errands.take(id).ok_or_else(ended)?.release().await;
    Ok(StatusCode::NO_CONTENT)
}

fn ended() -> ApiError {
    let message =
        "There is no such hold: it was settled or released before, or not heard of for two minutes.";
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", "hold_not_found", message)
}

impl Size {
    fn request(self, model: &str) -> Result<ChatRequest, ApiError> {
        let mut request = self.request.unwrap_or_else(|| {
            let text = self.input_text;
            Map::from_iter([("messages".to_owned(), json!([{"role": "user", "content": text}]))])
        });
        request.insert("model".into(), model.into());
        if let Some(tokens) = self.max_tokens {
            request.insert("max_tokens".into(), tokens.into());
        }
        if let Some(n) = self.n {
            request.insert("n".into(), n.into());
        }
        let text = write_json(&request)
            .map_err(|error| ApiError::bad_request(format!("The request: {error}."), None))?;
        drop(request);
        off_runtime(text.len(), || ChatRequest::parse_as(Shape::Chat, text.clone()))
            .map_err(|error| ApiError::bad_request(error.message, error.param))
    }
}
