//! `GET /local/balance`: what a user has left today, of the base allowance and of each sponsored one.

use accounting::{Account, Credits};
use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::reports::balance;

use super::number;
use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    user: String,
}

pub(super) async fn get(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let (database, clock) = (&gateway.database, &*gateway.clock);
    let found = balance::balances(database, clock, Some(&wanted.user)).await.map_err(ApiError::of_storage)?;
    let Some(base) = found.into_iter().next() else { return Err(ApiError::unknown_user(&wanted.user)) };
    let snapshot = gateway.meter.catalogue().snapshot().await.map_err(ApiError::of_storage)?;
    let zone = &snapshot.settings().timezone;
    let now = clock.now();
    let left = (base.resets_at.as_microsecond() - now.as_microsecond()).max(0).unsigned_abs();
    let sponsored = balance::sponsored(database, clock, &base.user).await.map_err(ApiError::of_storage)?;
    let sponsored: Vec<Value> = sponsored
        .into_iter()
        .map(|one| {
            let allowance = one.allowance;
            json!({
                "id": allowance.id.to_string(),
                "name": allowance.name,
                "daily": allowance.daily.map(|limit| counter(limit, one.today)),
                "total": counter(allowance.total, one.total),
            })
        })
        .collect();
    Ok(Json(json!({
        "user": base.user.as_str(),
        "name": base.name,
        "day": zone.day(now).to_string(),
        "timezone": zone.name(),
        "resets_at": base.resets_at.to_string(),
        "resets_text": zone.show(base.resets_at),
        "resets_in": left.div_ceil(1_000_000),
        "base": counter(base.limit, Account { spent: base.spent, held: base.held }),
        "sponsored": sponsored,
    })))
}

fn counter(limit: Credits, account: Account) -> Value {
    json!({
        "limit": number(limit),
        "spent": number(account.spent),
        "held": number(account.held),
        "remaining": account.free(limit).map_or(Value::Null, number),
    })
}
