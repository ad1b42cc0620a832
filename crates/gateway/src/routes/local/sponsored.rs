//! `/local/sponsored`: as the command `sponsored`.

use accounting::{Credits, ModelId};
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
    let made: Made = body(&gateway, &headers, sent).await?;
    let terms = Terms {
        name: made.name,
        sponsor: made.sponsor_id,
        models: ids(made.models)?,
        total: made.total_credit_limit,
        daily: made.daily_credit_limit,
    };
    let allowance = sponsored::create(&gateway.database, &terms).await.map_err(ApiError::of_storage)?;
    Ok((StatusCode::CREATED, Json(show(&allowance))))
}

pub(super) async fn update(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<Value>, ApiError> {
    let changed: Changed = body(&gateway, &headers, sent).await?;
    let which = Wanted { id: changed.id, name: changed.name }.one()?;
    let change = Change {
        name: changed.new_name,
        sponsor: changed.sponsor_id,
        models: changed.models.map(ids).transpose()?,
        total: changed.total_credit_limit,
        daily: changed.daily_credit_limit,
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
    sponsored::delete(&gateway.database, &wanted.one()?).await.map_err(ApiError::of_storage)?;
    Ok(StatusCode::NO_CONTENT)
}

fn ids(models: Vec<String>) -> Result<Vec<ModelId>, ApiError> {
    models.into_iter().map(|model| ModelId::new(model).map_err(bad)).collect()
}

fn show(allowance: &SponsoredAllowance) -> Value {
    let whole = |credits: Credits| credits.micro() / 1_000_000;
    json!({
        "id": allowance.id.to_string(),
        "name": allowance.name,
        "sponsor_id": allowance.sponsor,
        "models": allowance.models.iter().map(ModelId::as_str).collect::<Vec<_>>(),
        "total_credit_limit": whole(allowance.total),
        "daily_credit_limit": allowance.daily.map(whole),
        "created_at": allowance.created_at,
    })
}
