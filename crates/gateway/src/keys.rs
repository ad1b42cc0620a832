//! Which key a request brings, and what it may do: name its user (a forwarding key), or be one user (a bound key).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounting::{Clock, UserId};
use constant_time_eq::constant_time_eq;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use providers::Secret;
use storage::Database;
use storage::admin::keys::{self, Key};
use tokio::time::Instant;

use crate::error::ApiError;

/// A key's row is looked up again after this long, so a revoked key works no longer.
const AGE: Duration = Duration::from_secs(2);
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// So many keys are remembered before the memory is cleared; wrong ones count too.
const MOST: usize = 10_000;

/// What a key allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// To say for whom it asks.
    Forwarding,
    /// To ask for this one user.
    Bound(UserId),
}

type Remembered = HashMap<String, (Instant, Option<Key>)>;

/// The keys of this gateway.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The hash of the configured forwarding key.
    configured: Option<String>,
    database: Database,
    clock: Arc<dyn Clock>,
    remembered: Mutex<Remembered>,
}

impl Keys {
    pub(crate) fn new(configured: Option<&Secret>, database: Database, clock: Arc<dyn Clock>) -> Self {
        let configured = configured.map(|key| keys::hash(key.expose()));
        Self { configured, database, clock, remembered: Mutex::default() }
    }

    /// What the request's key allows. Without a configured key (then we listen on loopback only), none is needed.
    pub(crate) async fn access(&self, headers: &HeaderMap) -> Result<Access, ApiError> {
        let Some(secret) = bearer(headers)? else {
            return match &self.configured {
                None => Ok(Access::Forwarding),
                Some(_) => Err(ApiError::unauthorized(
                    "missing_api_key",
                    "Send your key as `Authorization: Bearer KEY`.",
                )),
            };
        };
        let hash = keys::hash(secret);
        if self.configured.as_ref().is_some_and(|known| constant_time_eq(known.as_bytes(), hash.as_bytes())) {
            return Ok(Access::Forwarding);
        }
        let key = self.look_up(hash).await?;
        match key.filter(|key| key.is_valid(self.clock.now())) {
            Some(Key { user: Some(user), .. }) => Ok(Access::Bound(user)),
            Some(Key { user: None, .. }) => Ok(Access::Forwarding),
            // On loopback without a configured key, clients send whatever they were made to send.
            None if self.configured.is_none() => Ok(Access::Forwarding),
            None => Err(ApiError::unauthorized(
                "invalid_api_key",
                "This key is not valid, has expired or was revoked.",
            )),
        }
    }

    /// Whether the request brings the configured key, which may do all that the command line may.
    pub(crate) fn administers(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(configured) = &self.configured else {
            return Err(ApiError::unauthorized(
                "no_key_configured",
                "These routes need a key, and this gateway has none: set gateway.key or OWUI_TRACKING_KEY.",
            ));
        };
        match bearer(headers)?.map(keys::hash) {
            Some(hash) if constant_time_eq(configured.as_bytes(), hash.as_bytes()) => Ok(()),
            _ => Err(ApiError::unauthorized(
                "invalid_api_key",
                "These routes need the gateway's configured key, as `Authorization: Bearer KEY`.",
            )),
        }
    }

    async fn look_up(&self, hash: String) -> Result<Option<Key>, ApiError> {
        {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, key)) = remembered.get(&hash)
                && at.elapsed() < AGE
            {
                return Ok(key.clone());
            }
        }
        let began = Instant::now();
        let found = Box::pin(keys::find_by_hash(&self.database, &hash)).await;
        let key = found.map_err(ApiError::of_storage)?;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST {
            remembered.clear();
        }
        remembered.insert(hash, (began, key.clone()));
        Ok(key)
    }
}

/// The key of the one `Authorization: Bearer` header; without that header, of `x-api-key`, which Anthropic's clients send.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let name = if headers.contains_key(AUTHORIZATION) { AUTHORIZATION } else { API_KEY };
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request(format!("There are two headers {name}; send one."), None));
    }
    let text = value.to_str().map_err(|_| {
        ApiError::bad_request(format!("The header {name} has characters that no key has."), None)
    })?;
    let token = if name == API_KEY {
        Some(text)
    } else {
        text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer "))
    };
    Ok(token.map(str::trim).filter(|token| !token.is_empty()))
}
