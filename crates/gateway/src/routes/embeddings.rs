//! `POST /v1/embeddings`: vectors of texts.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::{EmbeddingsRequest, Outline};

use super::{Admitted, admitted, respond, room};
use crate::Gateway;
use crate::error::ApiError;

pub(crate) async fn handler(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Admitted { requester, labels, server, body, taken } = admitted(&gateway, &headers, body).await?;
    let room = room(&gateway, server.as_ref(), &taken, Outline::of_embeddings(&body)).await?;
    let request =
        EmbeddingsRequest::parse(body).map_err(|error| ApiError::bad_request(error.message, error.param))?;
    let answer = gateway.meter.embeddings(requester, labels, server.as_ref(), request).await;
    drop(room);
    match answer {
        Ok(answer) => Ok(respond(&gateway, answer, taken)),
        Err(unserved) => Err(ApiError::of_unserved(unserved, gateway.contact())),
    }
}
