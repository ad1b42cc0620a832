//! `/local/credit-groups` and their members: as the command `credit-group`.

use accounting::UserId;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::admin::groups::{self, Change, Group};
use storage::admin::users;

use super::{bad, body};
use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    name: Option<String>,
    /// Only those that this user is in.
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Deleted {
    name: String,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    name: String,
    user: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    name: String,
    credit_allowance: i64,
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    name: String,
    new_name: Option<String>,
    credit_allowance: Option<i64>,
    description: Option<String>,
}

pub(super) async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let memberships = groups::memberships(&gateway.database).await.map_err(ApiError::of_storage)?;
    let found = match (&wanted.name, &wanted.user) {
        (Some(name), _) => groups::get(&gateway.database, name).await.map(|group| vec![group]),
        (None, Some(user)) => Ok(memberships.get(user).cloned().unwrap_or_default()),
        (None, None) => groups::list(&gateway.database).await,
    };
    let sized = |group: &Group| {
        let mut shown = show(group);
        shown["user_count"] = memberships.values().filter(|groups| groups.contains(group)).count().into();
        shown
    };
    let found: Vec<Value> = found.map_err(ApiError::of_storage)?.iter().map(sized).collect();
    Ok(Json(json!({ "credit_groups": found })))
}

pub(super) async fn create(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (Terms { name, credit_allowance, description }, _counted) = body(&gateway, &headers, sent).await?;
    let description = description.unwrap_or_default();
    let group = groups::create(&gateway.database, &name, credit_allowance, &description).await;
    Ok((StatusCode::CREATED, Json(show(&group.map_err(ApiError::of_storage)?))))
}

pub(super) async fn update(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<Value>, ApiError> {
    let (Changed { name, new_name, credit_allowance, description }, _counted) =
        body(&gateway, &headers, sent).await?;
    let change = Change { name: new_name, allowance: credit_allowance, description, ..Change::default() };
    if change == Change::default() {
        return Err(ApiError::bad_request(
            "Say what is to change: new_name, credit_allowance, description.",
            None,
        ));
    }
    let group = groups::update(&gateway.database, &name, change).await;
    Ok(Json(show(&group.map_err(ApiError::of_storage)?)))
}

pub(super) async fn delete(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(Deleted { name, force }): Query<Deleted>,
) -> Result<StatusCode, ApiError> {
    gateway.keys.administers(&headers)?;
    groups::delete(&gateway.database, &name, force).await.map_err(ApiError::of_storage)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn members(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(Named { name }): Query<Named>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let members = groups::members(&gateway.database, &name).await.map_err(ApiError::of_storage)?;
    Ok(Json(json!({"users": super::users::with_groups(&gateway, &members).await?})))
}

pub(super) async fn add_member(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, ApiError> {
    let (Member { name, user }, _counted) = body(&gateway, &headers, sent).await?;
    let user = users::one(&gateway.database, &user).await.map_err(ApiError::of_storage)?;
    groups::add_user(&gateway.database, &name, &user.id).await.map_err(ApiError::of_storage)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove_member(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(Member { name, user }): Query<Member>,
) -> Result<StatusCode, ApiError> {
    gateway.keys.administers(&headers)?;
    // Somebody who left Open WebUI can still be removed.
    let user = match users::one(&gateway.database, &user).await {
        Ok(user) => user.id,
        Err(storage::Error::NotFound { .. }) => UserId::new(user).map_err(bad)?,
        Err(error) => return Err(ApiError::of_storage(error)),
    };
    groups::remove_user(&gateway.database, &name, &user).await.map_err(ApiError::of_storage)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn show(group: &Group) -> Value {
    json!({
        "id": group.id.to_string(),
        "name": group.name,
        "credit_allowance": group.allowance,
        "description": group.description,
    })
}
