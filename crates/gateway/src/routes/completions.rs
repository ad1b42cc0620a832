//! `POST /v1/completions`: a prompt that a model goes on with, for models whose provider has OpenAI's older API.

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
    answered(&gateway, Shape::Completions, headers, body).await
}
