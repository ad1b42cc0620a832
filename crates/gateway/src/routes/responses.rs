//! `POST /v1/responses` and `/v1/responses/input_tokens`: OpenAI's Responses API, for models whose provider has it. The body
//! passes as it is.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::Shape;

use super::{answered, counted};
use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answered(&gateway, Shape::Responses, headers, body).await
}

/// How many tokens a request has. Free, but for those only who may ask the model.
pub(crate) async fn count_tokens(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    counted(&gateway, Shape::Responses, &headers, body).await
}
