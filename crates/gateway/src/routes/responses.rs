//! `POST /v1/responses`: OpenAI's Responses API, for models whose provider has it. The body passes as it is.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::Shape;

use super::answered;
use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answered(&gateway, Shape::Responses, headers, body).await
}
