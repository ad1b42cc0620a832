//! HTTP to model servers: one pooled client, time limits on everything, no redirects, only our own headers.

mod body;
mod connect;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, DATE, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use url::Url;

use crate::ProviderError;
use crate::coding::{Decoder, UnknownCoding};
use crate::failure::Failure;
use crate::large::Gathering;
use crate::network::{Network, Proxy};
use crate::protocol::Outgoing;
use crate::room::{self, AnswerRoom, NoRoom};
use crate::secrets::masked;
pub(crate) use body::AnswerBody;
use connect::Connector;

/// A whole answer ends here.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Of an error's body, no more than this is read.
const LARGEST_ERROR: usize = 64 * 1024;
/// A list of models is no larger.
const LARGEST_LIST: usize = 8 * 1024 * 1024;
/// When nothing came for too long, it is looked once more whether something did: a process that was stopped for a while finds
/// the end of its patience and what came meanwhile at once, and what came has to be read first.
pub(crate) const LAST_LOOK: Duration = Duration::from_millis(100);
/// The most bytes of an answer that its connection keeps, in memory that nobody counts; its head must fit too.
const READ_AT_ONCE: usize = 64 * 1024;
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("openwebui-token-tracking/", env!("CARGO_PKG_VERSION"));

/// How long a model server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// To accept a connection, with all that belongs to it: its name, a proxy, TLS.
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
    client: Client<Connector, Full<Bytes>>,
    /// Sent with each request: our key, the version of the protocol.
    headers: HeaderMap,
    /// Sent with each request as well: what the configuration adds.
    extra: HeaderMap,
    /// Where it is, for the log.
    server: String,
    proxy: Option<Proxy>,
    /// Whether requests are sent to the proxy itself, not through a tunnel.
    is_forwarded: bool,
    pub limits: TimeLimits,
}

impl HttpClient {
    /// # Errors
    /// Says what is wrong with the certificates of authorities.
    pub(crate) fn new(
        mut headers: HeaderMap,
        extra: HeaderMap,
        limits: TimeLimits,
        server: &Url,
        network: &Network,
    ) -> Result<Self, String> {
        let is_secure = server.scheme() == "https";
        let proxy = network.proxy_to(server);
        let connector = Connector::new(limits.connect, is_secure, proxy.as_ref(), network)?;
        let is_forwarded = proxy.is_some() && !is_secure;
        if is_forwarded && let Some(words) = proxy.as_ref().and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(PROXY_AUTHORIZATION, words);
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(READ_AT_ONCE)
            .build(connector);
        let host = server.host_str().unwrap_or_default();
        let server = server.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { client, headers, extra, server, proxy, is_forwarded, limits })
    }

    /// The proxy in the way.
    pub(crate) const fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Sends, and waits for the head of a successful answer. `failure` reads the body of an error.
    pub(crate) async fn send(
        &self,
        method: Method,
        outgoing: Outgoing,
        accept: &'static str,
        failure: impl Fn(&[u8]) -> Failure,
    ) -> Result<Response<AnswerBody>, ProviderError> {
        let mut request = Request::new(Full::new(outgoing.body));
        *request.method_mut() = method;
        *request.uri_mut() = outgoing.uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        // Chunks must come as they are made, and some servers collect them to code more at once.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.extend(outgoing.headers);
        headers.extend(self.headers.clone());
        for (name, value) in &self.extra {
            headers.append(name, value.clone());
        }
        let connection = capture_connection(&mut request);
        let response = match within(self.limits.first_byte, self.client.request(request)).await {
            Err(_) if connection.connection_metadata().is_none() => {
                return Err(self.not_connected("it took too long"));
            }
            Err(_) => return Err(ProviderError::TimedOut { before_output: true }),
            Ok(Err(error)) if never_left(&error) => return Err(self.not_connected(&deepest(&error))),
            Ok(Err(error)) => return Err(ProviderError::Broken { what: deepest(&error) }),
            Ok(Ok(response))
                if self.is_forwarded && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED =>
            {
                return Err(self.not_connected("the proxy wants another user and password"));
            }
            Ok(Ok(response)) => response,
        };
        let is_success = response.status().is_success();
        let (head, body) = response.into_parts();
        let decoder = match Decoder::of_answer(&head.headers) {
            Ok(decoder) => decoder,
            // Of an error the status counts.
            Err(_) if !is_success => None,
            Err(UnknownCoding(name)) => {
                return Err(ProviderError::Broken { what: format!("an answer in the coding {name}") });
            }
        };
        let response = Response::from_parts(head, AnswerBody::new(body, decoder));
        if is_success { Ok(response) } else { Err(Box::pin(self.failure(response, failure)).await) }
    }

    /// Nothing was sent. Whoever runs this is told why.
    fn not_connected(&self, why: &str) -> ProviderError {
        let proxy = self.proxy.as_ref().map(ToString::to_string);
        tracing::warn!(error = why, server = self.server, proxy, "no connection to a model server");
        ProviderError::NotConnected
    }

    /// The whole body of an answer, with room for what is made of it.
    pub(crate) async fn read(
        &self,
        body: AnswerBody,
        room: &mut dyn AnswerRoom,
    ) -> Result<Bytes, ProviderError> {
        self.read_up_to(body, LARGEST_ANSWER, Some(room)).await
    }

    /// The whole body of what is short: a list of models.
    pub(crate) async fn read_list(&self, body: AnswerBody) -> Result<Bytes, ProviderError> {
        self.read_up_to(body, LARGEST_LIST, None).await
    }

    /// The whole body of what is very short: a count.
    pub(crate) async fn read_count(&self, body: AnswerBody) -> Result<Bytes, ProviderError> {
        self.read_up_to(body, LARGEST_ERROR, None).await
    }

    async fn read_up_to(
        &self,
        mut body: AnswerBody,
        most: usize,
        mut room: Option<&mut dyn AnswerRoom>,
    ) -> Result<Bytes, ProviderError> {
        let no_memory = |error: std::io::Error| {
            tracing::error!(%error, "no memory for an answer");
            ProviderError::Broken { what: "no memory for an answer".into() }
        };
        // What a decoder remembers is as much as it gave.
        let times = room::TIMES + usize::from(body.is_coded());
        let mut whole = Gathering::new(0, most).map_err(no_memory)?;
        let mut has_room = room::UNCOUNTED;
        loop {
            match within(self.limits.idle, body.frame()).await {
                Err(_) => return Err(ProviderError::TimedOut { before_output: false }),
                Ok(None) => return Ok(whole.freeze()),
                Ok(Some(Err(error))) => return Err(ProviderError::Broken { what: error.to_string() }),
                Ok(Some(Ok(frame))) => {
                    let Some(bytes) = frame.data_ref() else { continue };
                    let length = whole.len() + bytes.len();
                    if length > most {
                        // It has produced something all the same.
                        return Err(ProviderError::Broken { what: "an answer without end".into() });
                    }
                    if length > has_room
                        && let Some(room) = &mut room
                    {
                        has_room = room::next_step(length).min(most);
                        let reached = room.reach(times * has_room).await;
                        reached.map_err(|NoRoom| ProviderError::NoRoom { read: length as u64 })?;
                    }
                    whole.push(bytes).map_err(no_memory)?;
                }
            }
        }
    }

    async fn failure(
        &self,
        response: Response<AnswerBody>,
        read: impl Fn(&[u8]) -> Failure,
    ) -> ProviderError {
        let status = response.status();
        let (wait, rates) = (retry_after(response.headers()), of_rates(response.headers()));
        // Whatever comes as the body of an error, the status counts.
        let body = self.read_up_to(response.into_body(), LARGEST_ERROR, None).await.unwrap_or_default();
        let failure = read(&body);
        tracing::debug!(%status, code = failure.code, said = failure.message, "a model server refused a request");
        failure.at_status(status.as_u16(), wait).with_rates(rates)
    }
}

/// What comes within that time, or is there when it is over.
async fn within<F: Future>(limit: Duration, awaited: F) -> Result<F::Output, Elapsed> {
    tokio::pin!(awaited);
    match timeout(limit, &mut awaited).await {
        Err(_) => timeout(LAST_LOOK, &mut awaited).await,
        come => come,
    }
}

/// When the server answered, in seconds since 1970 UTC; 0 if it does not say.
pub(crate) fn answered_at(headers: &HeaderMap) -> i64 {
    let date = headers.get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let since = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
}

/// `Retry-After`, in seconds or as a date, which counts from the server's own `Date`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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

/// What a server says of its rates and of its own time (OpenAI, "Rate limits in headers"; Anthropic, "Response headers"; the
/// IETF's draft of `RateLimit` fields).
pub(crate) fn of_rates(headers: &HeaderMap) -> HeaderMap {
    const BEGIN: [&str; 3] = ["x-ratelimit-", "anthropic-ratelimit-", "ratelimit-"];
    const OTHERS: [&str; 2] = ["openai-processing-ms", "ratelimit"];
    // Clients take only so many headers, and no such value is long.
    const MOST: usize = 40;
    const LONGEST: usize = 128;
    let wanted = |name: &str| BEGIN.iter().any(|begin| name.starts_with(begin)) || OTHERS.contains(&name);
    let plain = |value: &HeaderValue| {
        let text = value.to_str().ok().filter(|text| text.len() <= LONGEST);
        text.is_some_and(|text| matches!(masked(text), Cow::Borrowed(_)))
    };
    let told = headers.iter().filter(|(name, value)| wanted(name.as_str()) && plain(value));
    told.take(MOST).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether nothing of the request was written: there is no connection, or the one that was there had ended before.
fn never_left(error: &hyper_util::client::legacy::Error) -> bool {
    let of_connection =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
    error.is_connect() || of_connection.is_some_and(hyper::Error::is_canceled)
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
}
