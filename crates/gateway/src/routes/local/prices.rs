//! `GET, PUT, DELETE /local/prices`: as the command `pricing`.

use accounting::{ModelId, ProviderName};
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use storage::admin::price_list;
use storage::admin::prices::{self, Source, Write};

use super::{bad, body};
use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    provider: Option<String>,
    model: Option<String>,
}

impl Wanted {
    fn provider(&self) -> Result<Option<ProviderName>, ApiError> {
        self.provider.as_ref().map(ProviderName::new).transpose().map_err(bad)
    }

    fn model(&self) -> Result<Option<ModelId>, ApiError> {
        self.model.clone().map(ModelId::new).transpose().map_err(bad)
    }
}

pub(super) async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let (provider, model) = (wanted.provider()?, wanted.model()?);
    let found = prices::list(&gateway.database, provider.as_ref(), gateway.clock.now()).await;
    let mut found = found.map_err(ApiError::of_storage)?;
    found.retain(|priced| model.as_ref().is_none_or(|model| priced.model == *model));
    Ok(Json(json!({"prices": found.iter().map(price_list::show).collect::<Vec<_>>()})))
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Add,
    Update,
    Upsert,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    prices: Box<RawValue>,
    how: How,
}

pub(super) async fn write(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<Value>, ApiError> {
    let (Written { prices, how }, _counted) = body(&gateway, &headers, sent).await?;
    let (database, now) = (&gateway.database, gateway.clock.now());
    let (new, how) = match how {
        How::Add => (price_list::parse(prices.get()), Write::Add),
        How::Upsert => (price_list::parse(prices.get()), Write::Upsert),
        How::Update => (price_list::updated(database, prices.get(), now).await, Write::Update),
    };
    let new = new.map_err(ApiError::of_storage)?;
    let changed = prices::write(database, &new, how, Source::Administrator, now).await;
    Ok(Json(json!({"changed": changed.map_err(ApiError::of_storage)?})))
}

pub(super) async fn delete(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let (provider, model) = (wanted.provider()?, wanted.model()?);
    let Some(model) = model else {
        return Err(ApiError::bad_request(
            "Name the model whose price is to be deleted.",
            Some("model".into()),
        ));
    };
    let deleted = prices::delete(&gateway.database, &model, provider.as_ref(), gateway.clock.now()).await;
    Ok(Json(json!({"deleted": deleted.map_err(ApiError::of_storage)?})))
}
