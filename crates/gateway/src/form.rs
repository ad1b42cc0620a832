//! In which API's form a client reads errors and lists.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::error::ApiError;

/// Each of Anthropic's clients sends it (API reference, "Versions").
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// The form of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    OpenAi,
    Anthropic,
}

impl Form {
    /// Of a route that both APIs have.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        if headers.contains_key(VERSION) { Self::Anthropic } else { Self::OpenAi }
    }

    /// Of whatever is not there, as its neighbours have it.
    pub(crate) fn near(path: &str, headers: &HeaderMap) -> Self {
        let is_messages = path.split('/').any(|part| part == "messages");
        if is_messages { Self::Anthropic } else { Self::asked(headers) }
    }

    /// An error in that form.
    pub(crate) fn show(self, error: ApiError) -> Response {
        match self {
            Self::OpenAi => error.into_response(),
            Self::Anthropic => anthropics(error),
        }
    }
}

/// An error as Anthropic's clients know it (API reference, "Errors").
fn anthropics(error: ApiError) -> Response {
    let status = error.status_of_messages.unwrap_or(error.status);
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::PAYMENT_REQUIRED => "billing_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.as_u16() == 529 => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    let mut said = error.fields();
    said["type"] = kind.into();
    if let Some(details) = error.details {
        said["details"] = json!({"error_code": details.error_code(), "unsupported": details.unsupported()});
    }
    let body = json!({"type": "error", "error": said}).to_string();
    // Headers and the count of errors are the same in every form.
    let (head, _) = error.into_response().into_parts();
    let mut response = Response::from_parts(head, Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use metering::MeterError;
    use providers::{ProviderError, Said};

    use super::*;

    #[tokio::test]
    async fn errors_in_anthropics_form() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let response = Form::Anthropic.show(ApiError::new(status, "kind", "code", "words").after(7));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["retry-after"], "7");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((body["type"].as_str(), body["error"]["type"].as_str()), (Some("error"), Some(kind)));
            assert_eq!(body["error"]["message"], "words");
        }
    }

    #[test]
    fn errors_of_a_provider_have_the_statuses_that_anthropics_clients_know() {
        let said = Said::default();
        let overloaded = |status| ProviderError::Overloaded { status, retry_after: None, said: said.clone() };
        let failed = |status| ProviderError::Failed { status, said: said.clone() };
        for (error, status) in [
            (overloaded(529), 529),
            (overloaded(503), 503),
            (overloaded(498), 503),
            (failed(504), 504),
            (failed(500), 502),
            (ProviderError::OurKey { status: 529 }, 502),
        ] {
            let error = ApiError::of_meter(MeterError::Provider(error), None);
            assert_eq!(Form::Anthropic.show(error).status().as_u16(), status);
        }
    }
}
