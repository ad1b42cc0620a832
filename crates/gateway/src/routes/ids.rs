//! The id of each answer, refusals included, where clients look for one.

use accounting::RequestId;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use storage::new_id;

use super::REQUEST;

/// OpenAI's and Anthropic's names of it.
const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];

/// Gives an answer its id: that of the ledger, else one of its own, which is in the log.
pub(crate) async fn mark(mut response: Response) -> Response {
    let known = response.headers().get(REQUEST).cloned();
    let Some(id) = known.or_else(|| fresh(&response)) else { return response };
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
