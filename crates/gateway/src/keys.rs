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

/// What a request's key allows, and what it is called.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    pub access: Access,
    /// `None` where no key is needed.
    pub key: Option<String>,
}

/// What the configured key is called.
const CONFIGURED: &str = "gateway.key";

/// What a key is.
enum Found {
    Allowed(Allowed),
    /// It has expired or was revoked.
    Ended,
    /// It is none of ours.
    Nothing,
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
    pub(crate) async fn access(&self, headers: &HeaderMap) -> Result<Allowed, ApiError> {
        let brought = Brought::of(headers)?;
        // Clients send a key of another server beside ours, or instead of it where ours is in the other header.
        let mut has_ended = false;
        for secret in brought.secrets() {
            match self.of_secret(secret).await? {
                Found::Allowed(allowed) => return Ok(allowed),
                Found::Ended => has_ended = true,
                Found::Nothing => {}
            }
        }
        match (self.configured.is_some() || has_ended, brought.is_empty()) {
            // On loopback without a configured key, clients send whatever they were made to send; but one that was ours opens
            // nothing any more.
            (false, _) => Ok(Allowed { access: Access::Forwarding, key: None }),
            (true, true) => Err(ApiError::unauthorized(
                "missing_api_key",
                "Send your key as `Authorization: Bearer KEY`, or as `x-api-key: KEY`.",
            )),
            (true, false) => Err(ApiError::unauthorized(
                "invalid_api_key",
                "This key is not valid, has expired or was revoked.",
            )),
        }
    }

    async fn of_secret(&self, secret: &str) -> Result<Found, ApiError> {
        let hash = keys::hash(secret);
        if self.is_configured(&hash) {
            return Ok(Found::Allowed(Allowed { access: Access::Forwarding, key: Some(CONFIGURED.into()) }));
        }
        Ok(match self.look_up(hash).await? {
            Some(key) if key.is_valid(self.clock.now()) => Found::Allowed(Allowed {
                access: key.user.map_or(Access::Forwarding, Access::Bound),
                key: Some(key.name),
            }),
            Some(_) => Found::Ended,
            None => Found::Nothing,
        })
    }

    fn is_configured(&self, hash: &str) -> bool {
        self.configured.as_ref().is_some_and(|known| constant_time_eq(known.as_bytes(), hash.as_bytes()))
    }

    /// Whether the request brings the configured key, which may do all that the command line may.
    pub(crate) fn administers(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.configured.is_none() {
            return Err(ApiError::unauthorized(
                "no_key_configured",
                "These routes need a key, and this gateway has none: set gateway.key or OWUI_TRACKING_KEY.",
            ));
        }
        if Brought::of(headers)?.secrets().any(|secret| self.is_configured(&keys::hash(secret))) {
            return Ok(());
        }
        Err(ApiError::unauthorized(
            "invalid_api_key",
            "These routes need the gateway's configured key, as `Authorization: Bearer KEY`.",
        ))
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

/// The keys that a request brings: of the one `Authorization: Bearer` header, and of `x-api-key`, which Anthropic's clients
/// send.
pub(crate) struct Brought<'a>([Option<&'a str>; 2]);

impl<'a> Brought<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let bearer = only(headers, &AUTHORIZATION)?.and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key)
        });
        let given = |key: Option<&'a str>| key.map(str::trim).filter(|key| !key.is_empty());
        Ok(Self([given(bearer), given(only(headers, &API_KEY)?)]))
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &'a str> {
        let [bearer, key] = self.0;
        bearer.into_iter().chain(key.filter(|key| Some(*key) != bearer))
    }

    fn is_empty(&self) -> bool {
        self.0 == [None; 2]
    }
}

/// The text of a header that may come once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request(format!("There are two headers {name}; send one."), None));
    }
    let text = value.to_str().map_err(|_| {
        ApiError::bad_request(format!("The header {name} has characters that no key has."), None)
    })?;
    Ok(Some(text))
}
