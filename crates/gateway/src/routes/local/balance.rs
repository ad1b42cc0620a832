//! `GET /local/balance`: what a user has left, of the base allowance and of each sponsored one.

use accounting::{Account, Credits, UserId};
use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use storage::reports::balance::{self, PeriodBalance};

use super::number;
use crate::Gateway;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    user: String,
    /// Whether users are answered for whom nobody knows.
    #[serde(default)]
    anybody: bool,
}

pub(super) async fn get(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, ApiError> {
    gateway.keys.administers(&headers)?;
    let (database, clock) = (&gateway.database, &*gateway.clock);
    let found = balance::balances(database, clock, Some(&wanted.user)).await;
    let base = match found {
        Err(storage::Error::NotFound { .. }) if wanted.anybody => {
            let user = UserId::from_outside(&wanted.user).map_err(super::bad)?;
            balance::balance_of_anybody(database, clock, user).await
        }
        found => found.map(|found| found.into_iter().next()),
    };
    let base = base.map_err(ApiError::of_storage)?.ok_or_else(|| ApiError::unknown_user(&wanted.user))?;
    let snapshot = gateway.meter.catalogue().snapshot().await.map_err(ApiError::of_storage)?;
    let zone = snapshot.settings().zone().map_err(ApiError::of_storage)?;
    let now = clock.now();
    let of_period = |one: &PeriodBalance| {
        let mut shown = counter(one.limit, Account { spent: one.spent, held: one.held });
        let left = (one.resets_at.as_microsecond() - now.as_microsecond()).max(0).unsigned_abs();
        shown["period"] = one.period.name().into();
        shown["resets_at"] = one.resets_at.to_string().into();
        shown["resets_text"] = zone.show(one.resets_at).into();
        shown["resets_in"] = left.div_ceil(1_000_000).into();
        shown
    };
    let day = of_period(&base.day);
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
        "resets_at": day["resets_at"],
        "resets_text": day["resets_text"],
        "resets_in": day["resets_in"],
        "base": counter(base.day.limit, Account { spent: base.day.spent, held: base.day.held }),
        "week": base.week.as_ref().map(of_period),
        "month": base.month.as_ref().map(of_period),
        "tightest": of_period(base.tightest()),
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
