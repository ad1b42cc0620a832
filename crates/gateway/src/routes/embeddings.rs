//! `POST /v1/embeddings`: vectors of texts.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::{EmbeddingsRequest, Outline, off_runtime};

use super::{Admitted, admitted, respond, room};
use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut admitted = admitted(&gateway, &headers, body).await?;
    let request = match embeddings_request(&gateway, &mut admitted).await {
        Ok(request) => request,
        Err(error) => return Err(error.asked_by(admitted.asker)),
    };
    let Admitted { requester, labels, server, mut share, began, asker, .. } = admitted;
    let answer = gateway.meter.embeddings(requester, labels, server.as_ref(), request, &mut share).await;
    share.leave_made();
    match answer {
        Ok(answer) => Ok(respond(&gateway, answer, share, began)),
        Err(unserved) => Err(ApiError::of_unserved(unserved, gateway.contact()).asked_by(asker)),
    }
}

/// The body, read, with room for what is made of it.
async fn embeddings_request(
    gateway: &Gateway,
    admitted: &mut Admitted,
) -> Result<EmbeddingsRequest, ApiError> {
    let body = std::mem::take(&mut admitted.body);
    let length = body.len();
    let outline = off_runtime(length, || Outline::of_embeddings(&body));
    room(gateway, admitted, outline).await?;
    off_runtime(length, || EmbeddingsRequest::parse(body))
        .map_err(|error| ApiError::bad_request(error.message, error.param))
}
