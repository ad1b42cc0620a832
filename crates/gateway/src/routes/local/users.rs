//! `GET /local/users`: as the command `user`.

use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::KnownUser;
use storage::admin::users;

use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    id: Option<String>,
    name: Option<String>,
    email: Option<String>,
}

pub(super) async fn find(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(Wanted { id, name, email }): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let wanted = users::Wanted { id, name, email };
    let found = users::find(&gateway.database, &wanted).await.map_err(ApiError::of_storage)?;
    Ok(Json(json!({"users": found.iter().map(show).collect::<Vec<_>>()})))
}

pub(super) fn show(user: &KnownUser) -> Value {
    json!({"id": user.id.as_str(), "name": user.name, "email": user.email})
}
