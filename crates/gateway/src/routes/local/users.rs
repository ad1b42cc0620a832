//! `GET /local/users`: as the command `user`.

use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::KnownUser;
use storage::admin::{groups, users};

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
    Ok(Json(json!({"users": with_groups(&gateway, &found).await?})))
}

/// Users, each with the credit groups that they are in.
pub(super) async fn with_groups(gateway: &Gateway, users: &[KnownUser]) -> Result<Vec<Value>, ApiError> {
    let memberships = groups::memberships(&gateway.database).await.map_err(ApiError::of_storage)?;
    let show = |user: &KnownUser| {
        let groups = memberships.get(user.id.as_str()).into_iter().flatten().map(super::credit_groups::show);
        json!({
            "id": user.id.as_str(),
            "name": user.name,
            "email": user.email,
            "credit_groups": groups.collect::<Vec<_>>(),
        })
    };
    Ok(users.iter().map(show).collect())
}
