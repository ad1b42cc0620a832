//! Who asks: Open WebUI's signed user header, or its plain ones where nothing is signed.
//!
//! The rule it protects: nobody is charged for what somebody else asked. A key that is bound to a user is that user. A
//! forwarding key may name users: by the signed header if a secret is set, and then only so; else by plain headers.

use std::sync::Arc;

use accounting::{Clock, Credits, Label, UserId};
use http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use metering::{Labels, WayIn};
use percent_encoding::percent_decode_str;
use providers::Secret;
use serde::Deserialize;
use storage::KnownUser;

use crate::config::HeaderNames;
use crate::error::ApiError;
use crate::keys::Access;

/// Open WebUI signs with this name (its documentation, "Forward user info headers").
const ISSUER: &str = "open-webui";
/// Clocks of two machines may differ by so many seconds.
const LEEWAY: i64 = 5;
/// Replaces the user's daily allowance.
const LIMIT: &str = "X-Tracking-Limit";

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: NumericDate,
    #[serde(default)]
    nbf: Option<NumericDate>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
}

/// Seconds since 1970 UTC, in JSON any number: also one with a fraction, or an exponent.
#[derive(Debug, Deserialize)]
struct NumericDate(serde_json::Number);

impl NumericDate {
    /// Whole seconds; far beyond all times for what no clock shows.
    fn seconds(&self) -> i64 {
        self.0.as_i64().or_else(|| Some(whole(self.0.as_f64()?))).unwrap_or(i64::MAX)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast of a float ends at the ends of the integers")]
fn whole(seconds: f64) -> i64 {
    seconds.floor() as i64
}

/// How users are recognised.
#[derive(Debug)]
pub(crate) struct Identity {
    headers: HeaderNames,
    keys: Vec<SignatureKey>,
    validation: Validation,
    anonymous: Option<UserId>,
    clock: Arc<dyn Clock>,
}

struct SignatureKey(DecodingKey);

impl std::fmt::Debug for SignatureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Identity {
    pub(crate) fn new(
        headers: HeaderNames,
        secrets: &[Secret],
        anonymous: Option<UserId>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "sub"]);
        validation.validate_aud = false;
        // The library reads whole numbers only, and asks a clock of its own: see `check_time`.
        validation.validate_exp = false;
        let keys = secrets
            .iter()
            .map(|secret| SignatureKey(DecodingKey::from_secret(secret.expose().as_bytes())))
            .collect();
        Self { headers, keys, validation, anonymous, clock }
    }

    /// The user whom the request names, with what it says about them.
    pub(crate) fn user(&self, access: &Access, headers: &HeaderMap) -> Result<KnownUser, ApiError> {
        let token = one(headers, &self.headers.user_jwt)?;
        let plain = one(headers, &self.headers.user_id)?;
        match access {
            Access::Bound(user) => {
                if token.is_some() || plain.is_some() {
                    let message =
                        "This key belongs to one user and may not name another: leave out the user headers.";
                    return Err(ApiError::unauthorized("identity_not_allowed", message));
                }
                Ok(KnownUser { id: user.clone(), name: Label::default(), email: Label::default() })
            }
            Access::Forwarding if !self.keys.is_empty() => match (token, plain) {
                (Some(token), _) => self.signed(token),
                (None, Some(_)) => Err(ApiError::unauthorized(
                    "identity_not_signed",
                    "Unsigned user headers are not accepted, because a signing secret is set. Set \
                     FORWARD_USER_INFO_HEADER_JWT_SECRET in Open WebUI to the same secret.",
                )),
                (None, None) => self.nobody(),
            },
            Access::Forwarding => match (token, plain) {
                (Some(_), _) => Err(ApiError::unauthorized(
                    "identity_not_verifiable",
                    "The user header is signed, but no signing secret is set here: set jwt_secret to Open WebUI's \
                     FORWARD_USER_INFO_HEADER_JWT_SECRET.",
                )),
                (None, Some(id)) => self.plain(id, headers),
                (None, None) => self.nobody(),
            },
        }
    }

    /// What the ledger notes of the request. A workspace model can open somebody else's allowance, so only Open WebUI, which
    /// knows who may use it, is believed about it: not the holder of a bound key.
    pub(crate) fn labels(
        &self,
        access: &Access,
        headers: &HeaderMap,
        way_in: WayIn,
    ) -> Result<Labels, ApiError> {
        let label = |name: &str| {
            let text = one(headers, name)?;
            // An empty value, or a template that Open WebUI did not fill, says nothing.
            Ok::<_, ApiError>(
                text.filter(|text| !text.contains("{{")).and_then(|text| Label::some(&decoded(text))),
            )
        };
        Ok(Labels {
            way_in,
            task: label(&self.headers.task)?,
            chat_id: label(&self.headers.chat_id)?,
            message_id: label(&self.headers.message)?,
            workspace_model: match access {
                Access::Forwarding => label(&self.headers.model)?,
                Access::Bound(_) => None,
            },
        })
    }

    /// What replaces the user's daily allowance, in credits; only a private gateway is told.
    pub(crate) fn limit(&self, headers: &HeaderMap, private: bool) -> Result<Option<Credits>, ApiError> {
        let Some(text) = one(headers, LIMIT)? else { return Ok(None) };
        let wrong = |what: String| ApiError::bad_request(format!("The header {LIMIT}: {what}."), None);
        if !private {
            return Err(wrong("requests to this gateway can't choose a limit".into()));
        }
        text.parse().map(Some).map_err(|error: accounting::Error| wrong(error.to_string()))
    }

    fn signed(&self, token: &str) -> Result<KnownUser, ApiError> {
        let mut refused = None;
        for SignatureKey(key) in &self.keys {
            match decode::<Claims>(token, key, &self.validation) {
                // Its signer wants what we don't know to be obeyed (RFC 7515, 4.1.11).
                Ok(data) if data.header.crit.is_some() => {
                    refused = Some("it names extensions that must be understood".to_owned());
                }
                Ok(data) => match self.check_time(&data.claims) {
                    Ok(()) => {
                        let Claims { sub, name, email, .. } = data.claims;
                        return known(sub, name.unwrap_or_default(), email.unwrap_or_default());
                    }
                    Err(why) => refused = Some(why.to_owned()),
                },
                Err(error) => refused = Some(error.to_string()),
            }
        }
        // The reason is for the log; whoever forges learns nothing from it.
        tracing::warn!(error = refused, "a signed user header was refused");
        Err(ApiError::unauthorized("identity_invalid", "The signed user header is not valid or has expired."))
    }

    fn check_time(&self, claims: &Claims) -> Result<(), &'static str> {
        let now = self.clock.now().as_second();
        if claims.exp.seconds() < now.saturating_sub(LEEWAY) {
            return Err("it has expired");
        }
        match &claims.nbf {
            Some(begin) if begin.seconds() > now.saturating_add(LEEWAY) => Err("it is not valid yet"),
            _ => Ok(()),
        }
    }

    fn plain(&self, id: &str, headers: &HeaderMap) -> Result<KnownUser, ApiError> {
        let text = |name: &str| Ok::<_, ApiError>(decoded(one(headers, name)?.unwrap_or_default()));
        known(id.to_owned(), text(&self.headers.user_name)?, text(&self.headers.user_email)?)
    }

    fn nobody(&self) -> Result<KnownUser, ApiError> {
        match &self.anonymous {
            Some(user) => Ok(KnownUser { id: user.clone(), name: Label::default(), email: Label::default() }),
            None => Err(ApiError::unauthorized(
                "no_user",
                "The request names no user, and its key belongs to none, so nobody can be charged. In Open WebUI, set \
                 ENABLE_FORWARD_USER_INFO_HEADERS=true; for other clients, make a key with `owui-token-tracking key \
                 create NAME --user USER`.",
            )),
        }
    }
}

/// Header values that are no plain ASCII come percent-encoded. So may any other character: what comes of it is cleaned.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn known(id: String, name: String, email: String) -> Result<KnownUser, ApiError> {
    let id = UserId::from_outside(&id)
        .map_err(|error| ApiError::bad_request(format!("The user header: {error}."), None))?;
    Ok(KnownUser { id, name: Label::new(&name), email: Label::new(&email) })
}

/// The one value of a header, as text; empty counts as absent.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request(format!("The header {name} came twice; send it once."), None));
    }
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| ApiError::bad_request(format!("The header {name} is no valid UTF-8."), None))?;
    // Spaces that HTTP knows alone: any other would make two values one.
    Ok(Some(text.trim_ascii()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
