//! The id of each answer, refusals included, where clients look for one.

use accounting::RequestId;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use storage::new_id;

use super::REQUEST;
use crate::Gateway;

/// OpenAI's and Anthropic's names of it.
const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];

/// Gives an answer its id: that of the ledger, else one of its own. Where it refuses its request, both are in the log.
pub(crate) async fn mark(State(gateway): State<Gateway>, mut response: Response) -> Response {
    let known = response.headers().get(REQUEST).cloned();
    let Some(id) = known.or_else(|| fresh(&response)) else { return response };
    gateway.refusals.note(&mut response, id.to_str().unwrap_or_default());
    for name in NAMES {
        response.headers_mut().insert(name, id.clone());
    }
    response
}

fn fresh(response: &Response) -> Option<HeaderValue> {
    let id = RequestId::new(new_id()).to_string();
    tracing::debug!(id, status = response.status().as_u16(), "answered without a request in the ledger");
    HeaderValue::from_str(&id).ok()
}
