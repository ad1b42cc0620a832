//! `POST /v1/chat/completions`: a chat, streamed or not.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::ChatRequest;

use super::{admitted, respond};
use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let admitted = admitted(&gateway, &headers, body).await?;
    let labels = gateway.identity.labels(&headers)?;
    let request = ChatRequest::parse(admitted.body)
        .map_err(|error| ApiError::bad_request(error.message, error.param))?;
    match gateway.meter.chat(admitted.payer, labels, request).await {
        Ok(answer) => Ok(respond(answer, admitted.taken)),
        Err(error) => Err(ApiError::of_meter(error, gateway.contact())),
    }
}
