//! Everything that goes wrong becomes an answer here: OpenAI's error body, a status, a code, and headers.

use accounting::{Credits, RequestId};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use metering::{LimitReached, MeterError, Unserved};
use providers::{Decoder, ProviderError, Said};
use serde_json::{Value, json};

use crate::refused::{Asker, Refused};
use crate::routes::REQUEST;

/// An error as its client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub status: StatusCode,
    /// OpenAI's class of error.
    pub kind: &'static str,
    pub code: &'static str,
    pub message: Box<str>,
    pub param: Option<Box<str>>,
    /// By what a client of Anthropic's goes on by itself.
    pub details: Option<providers::Details>,
    /// The status that Anthropic's clients know for it, where it is another one.
    pub status_of_messages: Option<StatusCode>,
    /// What the provider says of it itself: its code goes before ours.
    pub said: Option<Box<Said>>,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// When the limit that was reached starts afresh.
    pub resets: Option<Box<Reset>>,
    /// Whether it is no better the next time although its status says so.
    pub final_answer: bool,
    /// Our id of the request, if credits were set aside for it.
    pub request: Option<RequestId>,
    /// Who asked for what, for the log.
    pub asker: Option<Box<Asker>>,
    /// Whether the log has it already.
    pub is_logged: bool,
}

/// When an account starts afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reset {
    pub at: Timestamp,
    /// The seconds until then, rounded up.
    pub seconds: u64,
}

/// Seconds. Clients sleep as long as `Retry-After` says, some of them without a word.
const LONGEST_WAIT: u32 = 60;

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into().into_boxed_str();
        Self {
            status,
            kind,
            code,
            message,
            param: None,
            details: None,
            status_of_messages: None,
            said: None,
            retry_after: None,
            resets: None,
            final_answer: false,
            request: None,
            asker: None,
            is_logged: false,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>, param: Option<String>) -> Self {
        let param = param.map(String::into_boxed_str);
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_request", message) }
    }

    pub(crate) fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", code, message)
    }

    pub(crate) const fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same with our id of the request.
    pub(crate) const fn of_request(mut self, request: Option<RequestId>) -> Self {
        self.request = request;
        self
    }

    /// The same with who asked for what.
    pub(crate) fn asked_by(self, asker: Asker) -> Self {
        Self { asker: Some(Box::new(asker)), ..self }
    }

    /// The error of a request that was not served.
    pub(crate) fn of_unserved(unserved: Unserved, contact: Option<&str>) -> Self {
        // What a model server did to a request is logged where it happens.
        let is_logged = unserved.id.is_some() && matches!(unserved.error, MeterError::Provider(_));
        Self { is_logged, ..Self::of_meter(unserved.error, contact).of_request(unserved.id) }
    }

    /// The error for what the meter says; `contact`: whom to ask for more credits.
    pub(crate) fn of_meter(error: MeterError, contact: Option<&str>) -> Self {
        let message = error.to_string();
        match error {
            MeterError::BadRequest { message, param, details } => {
                Self { details, ..Self::bad_request(message, param) }
            }
            MeterError::UnknownModel { model, meant } => Self::unknown_model(&model, meant),
            MeterError::Unpriced { provider, model } => Self {
                param: Some("model".into()),
                ..Self::new(
                    StatusCode::FORBIDDEN,
                    INVALID,
                    "model_not_priced",
                    format!(
                        "The model `{model}` has no price, so it can't be used. An administrator can add one: \
                         owui-token-tracking pricing add --provider {provider} --id {model} --name \"{model}\" \
                         --input-cost-credits … --output-cost-credits …"
                    ),
                )
            },
            MeterError::UnusablePrice { message } => Self {
                param: Some("model".into()),
                ..Self::new(StatusCode::FORBIDDEN, INVALID, "price_not_usable", sentence(message))
            },
            MeterError::Misconfigured { message } => {
                tracing::error!(message, "a request was refused");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "misconfigured", sentence(message))
                    .after(60)
            }
            MeterError::UnknownUser { user } => Self::unknown_user(&user),
            MeterError::NotSponsored { message } => {
                Self::new(StatusCode::FORBIDDEN, INVALID, "not_sponsored", sentence(message))
            }
            MeterError::NoAllowance => Self::new(StatusCode::FORBIDDEN, INVALID, "no_allowance", message),
            MeterError::LimitReached(limit) => Self::limit(&limit, contact),
            MeterError::Busy => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "busy", message).after(5)
            }
            MeterError::TooManyRequests => Self::too_many_requests(),
            MeterError::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "unavailable", message).after(5)
            }
            MeterError::Provider(error) => Self::of_provider(&error),
            MeterError::Internal { what } => {
                tracing::error!(what, "an internal error");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    SERVER,
                    "internal_error",
                    "an internal error; it is in the log",
                )
            }
        }
    }

    /// `meant`: models that may have been meant.
    pub(crate) fn unknown_model(model: &str, meant: Vec<String>) -> Self {
        let mut message = format!("The model `{model}` does not exist.");
        if let Some((last, others)) = meant.split_last() {
            let others: String = others.iter().map(|name| format!("`{name}`, ")).collect();
            let or = if others.is_empty() { "" } else { "or " };
            message.push_str(&format!(" Did you mean {others}{or}`{last}`?"));
        }
        message.push_str(
            " GET /v1/models lists those that do. An administrator adds a model by its price: owui-token-tracking pricing \
             import PROVIDER/MODEL, or owui-token-tracking pricing add.",
        );
        let error = Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message);
        Self { param: Some("model".into()), ..error }
    }

    pub(crate) fn unknown_user(user: &str) -> Self {
        let message = format!("There is no user `{user}` in Open WebUI, so nobody can be charged.");
        Self::new(StatusCode::FORBIDDEN, INVALID, "user_not_found", message)
    }

    pub(crate) fn too_many_requests() -> Self {
        let message = "You have too many requests running at a time; wait for one of them to end.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too_many_requests", message).after(5)
    }

    pub(crate) fn of_storage(error: storage::Error) -> Self {
        let message = sentence(error.to_string());
        match error {
            storage::Error::NotFound { what, .. } => {
                let code = match what {
                    "user" => "user_not_found",
                    "credit group" => "group_not_found",
                    "member" => "not_a_member",
                    _ => "not_found",
                };
                Self::new(StatusCode::NOT_FOUND, INVALID, code, message)
            }
            storage::Error::Conflict { .. } => Self::new(StatusCode::CONFLICT, INVALID, "conflict", message),
            storage::Error::Invalid { .. } | storage::Error::Accounting(_) => {
                Self::bad_request(message, None)
            }
            error => Self::of_meter(error.into(), None),
        }
    }

    fn limit(limit: &LimitReached, contact: Option<&str>) -> Self {
        let LimitReached { account, limit: most, spent, needs, resets_at, resets_text, seconds, free_models } =
            limit;
        let whose = match (account.sponsored(), account.period()) {
            (None, Some((period, _))) => format!("Your {} credit limit", period.adjective()),
            (None, None) => "Your credit limit".into(),
            (Some(_), Some((period, _))) => {
                format!("Your {} limit of the sponsored allowance", period.adjective())
            }
            (Some(_), None) => "The total limit of the sponsored allowance".into(),
        };
        let mut message = match needs {
            None => {
                let free = most.minus(*spent).unwrap_or(Credits::ZERO);
                let rule = if Credits::ZERO < free && free < Credits::ONE {
                    " A request needs at least one free credit."
                } else {
                    ""
                };
                format!("{whose} is reached: {spent} of {most} credits are spent.{rule}")
            }
            Some(needs) => format!(
                "{whose} does not cover this request: {spent} of {most} credits are spent, and it may need {needs}. \
                 A shorter request, or a lower max_tokens, needs less."
            ),
        };
        if let Some(resets) = resets_text {
            message.push_str(&format!(" It resets at {resets}."));
        }
        if let Some(contact) = contact {
            message.push_str(&format!(" Ask {contact} for more credits."));
        }
        if !free_models.is_empty() {
            message.push_str(&format!(" These models cost nothing: {}.", free_models.join(", ")));
        }
        let resets = resets_at.zip(*seconds).map(|(at, seconds)| Box::new(Reset { at, seconds }));
        let quota = "insufficient_quota";
        Self { resets, ..Self::new(StatusCode::PAYMENT_REQUIRED, quota, quota, message) }
    }

    fn of_provider(error: &ProviderError) -> Self {
        let error = error.plain();
        let (kind, status) = match error {
            ProviderError::Unsupported(bad) => {
                let refused = Self::bad_request(error.message(), bad.param.clone());
                return Self { details: bad.details, ..refused };
            }
            ProviderError::RateLimited { .. } => ("rate_limit_error", StatusCode::TOO_MANY_REQUESTS),
            ProviderError::Rejected { status, .. } => {
                (INVALID, StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST))
            }
            ProviderError::Overloaded { .. } | ProviderError::NoRoom { .. } => {
                (SERVER, StatusCode::SERVICE_UNAVAILABLE)
            }
            ProviderError::TimedOut { .. } => (SERVER, StatusCode::GATEWAY_TIMEOUT),
            ProviderError::OurKey { .. }
            | ProviderError::Failed { .. }
            | ProviderError::Broken { .. }
            | ProviderError::BadAnswer { .. }
            | ProviderError::Unreadable { .. }
            | ProviderError::Reported { .. }
            | ProviderError::NotConnected => (SERVER, StatusCode::BAD_GATEWAY),
        };
        let waits = matches!(error, ProviderError::RateLimited { .. } | ProviderError::Overloaded { .. });
        let wait =
            error.retry_after().map_or(5, |wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1));
        let said = error.said().cloned();
        let status_of_messages = match error {
            ProviderError::Overloaded { status: 529, .. } => StatusCode::from_u16(529).ok(),
            ProviderError::Failed { status: 504, .. } => Some(StatusCode::GATEWAY_TIMEOUT),
            _ => None,
        };
        Self {
            status_of_messages,
            param: said.as_ref().and_then(|said| said.param.as_deref().map(Into::into)),
            said: said.map(Box::new),
            retry_after: waits.then_some(wait),
            // The one is charged, and would be again; the other needs an administrator.
            final_answer: matches!(error, ProviderError::NoRoom { .. } | ProviderError::OurKey { .. }),
            ..Self::new(status, kind, error.code(), error.message())
        }
    }

    /// Whether waiting alone may help: what clients that try again by themselves go by.
    fn may_pass(&self) -> bool {
        let passes = matches!(
            self.status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        );
        !self.final_answer && (passes || !self.status.is_client_error())
    }

    /// What is in the error, in OpenAI's form; other forms have the same fields with a `type` of theirs.
    pub(crate) fn fields(&self) -> Value {
        let mut fields = json!({
            "message": self.message, "type": self.kind, "param": self.param, "code": self.shown_code(),
        });
        if let Some(Reset { at, seconds }) = self.resets.as_deref() {
            fields["resets_at"] = at.to_string().into();
            fields["resets_in"] = (*seconds).into();
        }
        fields
    }

    /// The code as the client gets it.
    pub(crate) fn shown_code(&self) -> &str {
        self.said.as_ref().and_then(|said| said.code.as_deref()).unwrap_or(self.code)
    }
}

/// With a capital letter and a full stop.
fn sentence(text: String) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", characters.as_str())
}

impl IntoResponse for ApiError {
    fn into_response(mut self) -> Response {
        metrics::counter!("tracking_errors_total", "code" => self.code).increment(1);
        let body = json!({"error": self.fields()});
        let mut response = (self.status, body.to_string()).into_response();
        if let Some(refused) = Refused::of(&mut self) {
            response.extensions_mut().insert(refused);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(Decoder::KNOWN));
        }
        if let Some(rates) = self.said.as_mut().and_then(|said| said.rates.take()) {
            headers.extend(*rates);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.min(LONGEST_WAIT).into());
        }
        if let Some(id) = self.request.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
            headers.insert(REQUEST, id);
        }
        if !self.may_pass() {
            headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
        }
        response
    }
}

#[cfg(test)]
mod tests;
