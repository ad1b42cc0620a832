//! `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's Messages API, for models whose provider has it. The body
//! passes as it is; errors have the form that Anthropic's clients know.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use providers::Shape;

use super::{answered, counted};
use crate::Gateway;
use crate::form::Form;

pub(crate) async fn handler(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Response {
    let answer = answered(&gateway, Shape::Messages, headers, body).await;
    answer.unwrap_or_else(|error| Form::Anthropic.show(error))
}

/// How many tokens a message has. Free, but for those only who may ask the model.
pub(crate) async fn count_tokens(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Response {
    let count = counted(&gateway, Shape::Messages, &headers, body).await;
    count.unwrap_or_else(|error| Form::Anthropic.show(error))
}
