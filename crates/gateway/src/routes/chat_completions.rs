//! `POST /v1/chat/completions`: a chat, streamed or not.

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
    answered(&gateway, Shape::Chat, headers, body).await
}
