//! `POST /v1/embeddings`: vectors of texts.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::EmbeddingsRequest;

use super::{admitted, respond};
use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let admitted = admitted(&gateway, &headers, body).await?;
    let labels = gateway.identity.labels(&headers, gateway.way_in())?;
    let request = EmbeddingsRequest::parse(admitted.body)
        .map_err(|error| ApiError::bad_request(error.message, error.param))?;
    match gateway.meter.embeddings(admitted.requester, labels, admitted.server.as_ref(), request).await {
        Ok(answer) => Ok(respond(answer, admitted.taken)),
        Err(error) => Err(ApiError::of_meter(error, gateway.contact())),
    }
}
