//! `/local/sponsored`: as the command `sponsored`.

use std::collections::BTreeSet;

use accounting::Credits;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use storage::SponsoredAllowance;
use storage::admin::sponsored::{self, Change, Terms, Which};

use super::{bad, body};
use crate::Gateway;
use crate::error::ApiError;

/// Which allowance is meant.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    id: Option<String>,
    name: Option<String>,
}

impl Wanted {
    fn which(self) -> Result<Option<Which>, ApiError> {
        match self {
            Self { id: Some(id), .. } => Ok(Some(Which::Id(id.parse().map_err(bad)?))),
            Self { name, .. } => Ok(name.map(Which::Name)),
        }
    }

    fn one(self) -> Result<Which, ApiError> {
        let which = self.which()?;
        which.ok_or_else(|| ApiError::bad_request("Name the sponsored allowance by `id` or `name`.", None))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    name: String,
    sponsor_id: String,
    models: Vec<String>,
    total_credit_limit: i64,
    daily_credit_limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    id: Option<String>,
    name: Option<String>,
    new_name: Option<String>,
    sponsor_id: Option<String>,
    models: Option<Vec<String>>,
    total_credit_limit: Option<i64>,
    /// Absent: as it is; null: no limit.
    #[serde(default, deserialize_with = "present")]
    daily_credit_limit: Option<Option<i64>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let found = match wanted.which()? {
        Some(which) => sponsored::get(&gateway.database, &which).await.map(|one| vec![one]),
        None => sponsored::list(&gateway.database).await,
    };
    let found: Vec<Value> = found.map_err(ApiError::of_storage)?.iter().map(show).collect();
    Ok(Json(json!({ "sponsored": found })))
}

pub(super) async fn create(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (made, _counted): (Made, _) = body(&gateway, &headers, sent).await?;
    let terms = Terms {
        name: made.name,
        sponsor: made.sponsor_id,
        models: made.models,
        total: made.total_credit_limit,
        daily: made.daily_credit_limit,
        ..Terms::default()
    };
    let allowance = sponsored::create(&gateway.database, &terms).await.map_err(ApiError::of_storage)?;
    Ok((StatusCode::CREATED, Json(show(&allowance))))
}

pub(super) async fn update(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<Value>, ApiError> {
    let (changed, _counted): (Changed, _) = body(&gateway, &headers, sent).await?;
    let which = Wanted { id: changed.id, name: changed.name }.one()?;
    let change = Change {
        name: changed.new_name,
        sponsor: changed.sponsor_id,
        models: changed.models,
        total: changed.total_credit_limit,
        daily: changed.daily_credit_limit,
        ..Change::default()
    };
    let allowance =
        sponsored::update(&gateway.database, &which, change).await.map_err(ApiError::of_storage)?;
    Ok(Json(show(&allowance)))
}

pub(super) async fn delete(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<StatusCode, ApiError> {
    gateway.keys.administers(&headers)?;
    let deleted = sponsored::delete(&gateway.database, &wanted.one()?, &*gateway.clock).await;
    deleted.map_err(ApiError::of_storage)?;
    Ok(StatusCode::NO_CONTENT)
}

fn show(allowance: &SponsoredAllowance) -> Value {
    let whole = |credits: Credits| credits.micro() / 1_000_000;
    // As the original has them: without providers.
    let ids: BTreeSet<&str> = allowance.models.iter().map(|covered| covered.model.as_str()).collect();
    json!({
        "id": allowance.id.to_string(),
        "name": allowance.name,
        "sponsor_id": allowance.sponsor,
        "models": ids,
        "covered_models": allowance.models.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "total_credit_limit": whole(allowance.total),
        "daily_credit_limit": allowance.daily.map(whole),
        "starts_on": allowance.starts_on,
        "ends_on": allowance.ends_on,
        "members": allowance.members.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "public": allowance.public,
        "created_at": allowance.created_at,
    })
}
