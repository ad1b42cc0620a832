//! HTTP to model servers: one pooled client, time limits on everything, no redirects, only our own headers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::ProviderError;
use crate::error::Failure;
use crate::protocol::Outgoing;

/// A whole answer ends here.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Of an error's body, no more than this is read.
const LARGEST_ERROR: usize = 64 * 1024;
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("openwebui-token-tracking/", env!("CARGO_PKG_VERSION"));

/// How long a model server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// To accept a connection.
    pub connect: Duration,
    /// Until the head of its answer comes.
    pub first_byte: Duration,
    /// Between two pieces of its answer.
    pub idle: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
        }
    }
}

/// A client of one model server.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Sent with each request: our key, the version of the protocol.
    headers: HeaderMap,
    pub limits: TimeLimits,
}

impl HttpClient {
    /// # Errors
    /// Says what is wrong with the machine's certificates.
    pub(crate) fn new(headers: HeaderMap, limits: TimeLimits, secure: bool) -> Result<Self, String> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(limits.connect));
        let builder = HttpsConnectorBuilder::new();
        let connector = if secure {
            let builder = builder
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(|error| {
                    format!(
                        "no certificates of authorities on this machine ({error}): install ca-certificates"
                    )
                })?;
            builder.https_or_http().enable_http1().wrap_connector(http)
        } else {
            // Plain HTTP needs no authorities, and loading them takes time.
            let roots = rustls::RootCertStore::empty();
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots)
                .with_no_client_auth();
            builder.with_tls_config(config).https_or_http().enable_http1().wrap_connector(http)
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client, headers, limits })
    }

    /// Sends, and waits for the head of a successful answer. `failure` reads the body of an error.
    pub(crate) async fn send(
        &self,
        method: Method,
        outgoing: Outgoing,
        accept: &'static str,
        failure: impl Fn(&[u8]) -> Failure,
    ) -> Result<Response<Incoming>, ProviderError> {
        let mut request = Request::new(Full::new(outgoing.body));
        *request.method_mut() = method;
        *request.uri_mut() = outgoing.uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.extend(outgoing.headers);
        headers.extend(self.headers.clone());
        let response = match timeout(self.limits.first_byte, self.client.request(request)).await {
            Err(_) => return Err(ProviderError::TimedOut { before_output: true }),
            Ok(Err(error)) if error.is_connect() => {
                tracing::warn!(error = %deepest(&error), "no connection to a model server");
                return Err(ProviderError::NotConnected);
            }
            Ok(Err(error)) => return Err(ProviderError::Broken { what: deepest(&error) }),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() { Ok(response) } else { Err(self.failure(response, failure).await) }
    }

    /// The whole body of an answer.
    pub(crate) async fn read(&self, body: Incoming) -> Result<Bytes, ProviderError> {
        self.read_up_to(body, LARGEST_ANSWER).await
    }

    async fn read_up_to(&self, mut body: Incoming, most: usize) -> Result<Bytes, ProviderError> {
        let mut whole = BytesMut::new();
        loop {
            match timeout(self.limits.idle, body.frame()).await {
                Err(_) => return Err(ProviderError::TimedOut { before_output: false }),
                Ok(None) => return Ok(whole.freeze()),
                Ok(Some(Err(error))) => return Err(ProviderError::Broken { what: error.to_string() }),
                Ok(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        whole.extend_from_slice(bytes);
                    }
                }
            }
            if whole.len() > most {
                // It has produced something all the same.
                return Err(ProviderError::Broken { what: "an answer without end".into() });
            }
        }
    }

    async fn failure(&self, response: Response<Incoming>, read: impl Fn(&[u8]) -> Failure) -> ProviderError {
        let status = response.status();
        let wait = retry_after(response.headers());
        // Whatever comes as the body of an error, the status counts.
        let body = self.read_up_to(response.into_body(), LARGEST_ERROR).await.unwrap_or_default();
        let failure = read(&body);
        tracing::debug!(%status, code = failure.code, said = failure.message, "a model server refused a request");
        told(status, wait, failure)
    }
}

/// What a status and the body of an error say together.
fn told(status: StatusCode, wait: Option<Duration>, failure: Failure) -> ProviderError {
    let Failure { code, message, ours, retry_after } = failure;
    let retry_after = wait.or(retry_after);
    match status {
        _ if ours => ProviderError::OurKey { status: status.as_u16() },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYMENT_REQUIRED => {
            ProviderError::OurKey { status: status.as_u16() }
        }
        StatusCode::TOO_MANY_REQUESTS => ProviderError::RateLimited { retry_after },
        StatusCode::SERVICE_UNAVAILABLE => ProviderError::Overloaded { retry_after },
        // Anthropic's own status for it, and Groq's.
        _ if matches!(status.as_u16(), 529 | 498) => ProviderError::Overloaded { retry_after },
        // Groq's for a request that was given up there.
        _ if status.as_u16() == 499 => ProviderError::Failed { status: 499 },
        _ if status.is_client_error() => ProviderError::Rejected {
            status: status.as_u16(),
            code,
            message: message.unwrap_or_else(|| "it does not say why".into()),
        },
        _ if status.is_redirection() => {
            ProviderError::BadAnswer { what: "a redirect, which is not followed" }
        }
        _ => ProviderError::Failed { status: status.as_u16() },
    }
}

/// When the server answered, in seconds since 1970 UTC; 0 if it does not say.
pub(crate) fn answered_at(headers: &HeaderMap) -> i64 {
    let date = headers.get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let since = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
}

/// `Retry-After`, in seconds or as a date, which counts from the server's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(86_400);
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
            httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?
        }
    };
    Some(wait.min(LONGEST))
}

/// The innermost cause, which is the one that tells.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_seconds_and_as_dates() {
        let headers = |wait: &str| {
            let date = (DATE, HeaderValue::from_static("Wed, 25 Nov 2026 03:00:00 GMT"));
            HeaderMap::from_iter([date, (RETRY_AFTER, HeaderValue::from_str(wait).unwrap())])
        };
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Wed, 25 Nov 2026 03:01:00 GMT")), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&headers("Wed, 25 Nov 2026 02:00:00 GMT")), None);
        assert_eq!(retry_after(&headers("soon")), None);
        assert_eq!(answered_at(&headers("7")), 1_795_575_600);
    }

    #[test]
    fn statuses_of_every_server() {
        let of = |status: u16, ours: bool| {
            let status = StatusCode::from_u16(status).unwrap();
            told(status, None, Failure { ours, ..Failure::default() })
        };
        let retry_after = None;
        assert_eq!(of(429, false), ProviderError::RateLimited { retry_after });
        assert_eq!(of(429, true), ProviderError::OurKey { status: 429 });
        assert_eq!(of(402, false), ProviderError::OurKey { status: 402 });
        for overloaded in [498, 503, 529] {
            assert_eq!(of(overloaded, false), ProviderError::Overloaded { retry_after });
        }
        assert_eq!(of(499, false), ProviderError::Failed { status: 499 });
        assert!(matches!(of(422, false), ProviderError::Rejected { status: 422, .. }));
        assert_eq!(of(500, false), ProviderError::Failed { status: 500 });
    }
}
