//! A configured model server: sends what its protocol makes of a request, and hands back what it makes of the answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use accounting::{ModelId, ProviderName};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use url::Url;

use crate::client::{AnswerBody, HttpClient, answered_at, of_rates, retry_after};
use crate::framing::Framing;
use crate::network::{Network, Proxy};
use crate::protocol::{Asked, KeyHeader, Outgoing, Protocol, Setup};
use crate::room::{self, AnswerRoom, NoRoom};
use crate::secrets::Secrets;
use crate::{
    Answer, AnswerStream, BadRequest, ChatRequest, Complete, ConfigError, EmbeddingsRequest, Kind, Outline,
    ProviderError, Shape, TimeLimits, failure, off_runtime, openai, unknown_numbers,
};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What can be set for some kinds of servers only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    /// Azure: the `api-version` of its dated routes; without one, its `v1` routes are used.
    pub api_version: Option<String>,
    /// Google: block as little as its settings allow.
    pub permissive_safety: bool,
    /// Whether streams may ask for their usage by `stream_options`; unset, that is found out.
    pub stream_options: Option<bool>,
    /// Whether a server with Anthropic's protocol counts what it read from and wrote to its cache within `input_tokens`;
    /// unset, that is told from what it reports.
    pub cache_in_input: Option<bool>,
    /// Headers that go with each request, beside ours.
    pub headers: Vec<(String, Secret)>,
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The price table's provider.
    pub name: ProviderName,
    /// The protocol.
    pub kind: Kind,
    /// The address below which its routes are, such as `https://api.openai.com/v1`.
    pub base_url: Url,
    /// Our key there.
    pub api_key: Option<Secret>,
    /// How long it may take.
    pub limits: TimeLimits,
    /// What else can be set.
    pub options: ProviderOptions,
    /// The way to it.
    pub network: Network,
}

/// A model server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: ProviderName,
    kind: Kind,
    client: HttpClient,
    protocol: Box<dyn Protocol>,
    stream_options: StreamOptions,
    is_openais: bool,
    _secrets: Secrets,
}

/// Whether streams ask for their usage.
#[derive(Debug)]
struct StreamOptions {
    are_sent: AtomicBool,
    /// Nothing was configured: a server that refuses them is asked without.
    is_open: bool,
}

/// The field by which streams ask for their usage.
const STREAM_OPTIONS: &str = "stream_options";
/// What no configuration may set: what we send ourselves, and what belongs to a connection.
const OUR_HEADERS: [&str; 17] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

const JSON: &str = "application/json";

impl Provider {
    /// Sets it up; nothing is sent yet.
    ///
    /// # Errors
    /// Says what in its configuration can't be used.
    pub fn new(config: ProviderConfig) -> Result<Self, ConfigError> {
        let ProviderConfig { name, kind, base_url, api_key, limits, options, network } = config;
        let wrong = |what: String| ConfigError { provider: name.to_string(), what };
        if !matches!(base_url.scheme(), "http" | "https") || base_url.host_str().is_none() {
            return Err(wrong("its base_url must begin with http:// or https:// and name a host".into()));
        }
        let kind = kind.at(&base_url);
        let headers = headers(kind, api_key.as_ref()).map_err(wrong)?;
        let extra = extra_headers(kind, &options.headers).map_err(wrong)?;
        let client = HttpClient::new(headers, extra, limits, &base_url, &network).map_err(wrong)?;
        let stream_options = StreamOptions {
            are_sent: AtomicBool::new(options.stream_options != Some(false)),
            is_open: options.stream_options.is_none(),
        };
        let values = options.headers.iter().map(|(_, value)| value.expose());
        let secrets = Secrets::known(values.chain(api_key.as_ref().map(Secret::expose)));
        let is_openais = kind == Kind::OPENAI && base_url.host_str() == Some(openai::HOST);
        let protocol = (kind.0.open)(&Setup { base_url, options }).map_err(wrong)?;
        Ok(Self(Arc::new(Inner {
            name,
            kind,
            client,
            protocol,
            stream_options,
            is_openais,
            _secrets: secrets,
        })))
    }

    /// Its name in the price table.
    pub fn name(&self) -> &ProviderName {
        &self.0.name
    }

    /// The proxy through which it is asked.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.0.client.proxy()
    }

    /// The protocol that it speaks.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether that is OpenAI itself: its models are what their names say. Elsewhere whoever runs a server names them.
    pub fn is_openais(&self) -> bool {
        self.0.is_openais
    }

    /// The field by which a request limits its output, where it has none yet.
    pub fn output_limit_field(&self) -> &'static str {
        self.0.protocol.output_limit_field()
    }

    /// Sends a chat. Returns when the head of a stream has come, or the whole of another answer, which takes `room`.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn chat(
        &self,
        request: &ChatRequest,
        room: &mut dyn AnswerRoom,
    ) -> Result<Answer, ProviderError> {
        let Inner { protocol, client, kind, stream_options, .. } = &*self.0;
        if !protocol.takes(request.shape()) {
            return Err(ProviderError::Unsupported(wrong_shape(request, *kind)));
        }
        let framing = protocol.framing();
        let asks_usage = stream_options.are_sent.load(Ordering::Relaxed);
        let is_named = AtomicBool::new(false);
        let sent = self.send_chat(request, asks_usage, Some(&is_named)).await;
        let (response, omitted) = match sent {
            Err(ProviderError::Rejected { status: 400, .. })
                if asks_usage
                    && stream_options.is_open
                    && is_named.load(Ordering::Relaxed)
                    && request.asks_for_usage_alone() =>
            {
                let again = Box::pin(self.send_chat(request, false, None)).await?;
                stream_options.are_sent.store(false, Ordering::Relaxed);
                tracing::warn!(
                    provider = %self.0.name,
                    "a model server refuses stream_options: its streams are asked without, and counted here where they \
                     tell no usage; write `stream_options = false` for it"
                );
                again
            }
            sent => sent?,
        };
        let asked = asked(request.model(), &response);
        let (request_id, headers) = (asked.request_id.clone(), of_rates(response.headers()));
        let content_type = content_type(&response);
        if content_type.starts_with("text/event-stream") || content_type.starts_with("application/x-ndjson") {
            let conversion = protocol.conversion(request, asked);
            let wait = retry_after(response.headers());
            let body = response.into_body();
            let mut stream =
                AnswerStream::new(body, framing, conversion, client.limits.idle, request_id, omitted);
            stream.headers = headers;
            stream.retry_after = wait;
            stream.provider = Some(self.0.name.clone());
            return Ok(Answer::Stream(stream));
        }
        // Some servers answer a request for a stream with a whole answer.
        let (is_json, wait) = (content_type.starts_with(JSON), retry_after(response.headers()));
        let body = self.body(response, room).await?;
        self.room_to_read(request.shape(), &body, room).await?;
        let complete = off_runtime(body.len(), || {
            self.checked(protocol.answer(request, &asked, body.clone()), &body, is_json)
        });
        let complete = complete.map_err(|error| error.or_after(wait).with_rates(headers.clone()))?;
        Ok(Answer::Complete(Complete { request_id, omitted, headers, ..complete }))
    }

    /// Sends texts to embed. The answer takes `room`.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn embeddings(
        &self,
        request: &EmbeddingsRequest,
        room: &mut dyn AnswerRoom,
    ) -> Result<Complete, ProviderError> {
        self.embed(request, room).await.map_err(|error| match error {
            // Vectors are no output.
            ProviderError::NoRoom { .. } => ProviderError::NoRoom { read: 0 },
            error => error,
        })
    }

    async fn embed(
        &self,
        request: &EmbeddingsRequest,
        room: &mut dyn AnswerRoom,
    ) -> Result<Complete, ProviderError> {
        let protocol = &self.0.protocol;
        let mut outgoing = protocol.embeddings(request).map_err(ProviderError::Unsupported)?;
        let omitted = std::mem::take(&mut outgoing.omitted);
        let response = self.send(Method::POST, outgoing, JSON).await?;
        let (asked, headers) = (asked(request.model(), &response), of_rates(response.headers()));
        let (is_json, wait) = (content_type(&response).starts_with(JSON), retry_after(response.headers()));
        let body = self.body(response, room).await?;
        self.room_to_read(Shape::Chat, &body, room).await?;
        let complete = off_runtime(body.len(), || {
            self.checked(protocol.embeddings_answer(request, &asked, body.clone()), &body, is_json)
        });
        let complete = complete.map_err(|error| error.or_after(wait).with_rates(headers.clone()))?;
        Ok(Complete { request_id: asked.request_id, omitted, headers, ..complete })
    }

    /// How many tokens a request in the server's own shape has, as the server says it; `None` if it has no such route. Costs
    /// nothing.
    ///
    /// # Errors
    /// See [`ProviderError`]; [`ProviderError::Unsupported`] if such servers have another shape.
    pub async fn count_tokens(&self, request: &ChatRequest) -> Result<Option<Bytes>, ProviderError> {
        let wrong_shape = || Err(wrong_shape(request, self.0.kind));
        let outgoing = self.0.protocol.count_tokens(request).unwrap_or_else(wrong_shape);
        let mut outgoing = outgoing.map_err(ProviderError::Unsupported)?;
        outgoing.headers.extend(request.headers().clone());
        let response = match self.send(Method::POST, outgoing, JSON).await {
            // Many servers have the routes of a protocol that answer, and not this one.
            Err(
                ProviderError::Rejected { status: 404 | 405, .. }
                | ProviderError::Failed { status: 501, .. }
                // Some end the connection before they have read all of it.
                | ProviderError::Broken { .. },
            ) => return Ok(None),
            sent => sent?,
        };
        let body = self.0.client.read_count(response.into_body()).await?;
        match serde_json::from_slice::<Counted>(&body) {
            Ok(_) => Ok(Some(body)),
            Err(_) => Err(ProviderError::BadAnswer { what: "not a count of tokens" }),
        }
    }

    /// The models that the server offers.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn models(&self) -> Result<Vec<ModelId>, ProviderError> {
        let response = self.send(Method::GET, self.0.protocol.models(), JSON).await?;
        if is_page(&response) {
            return Err(ProviderError::BadAnswer { what: "a page" });
        }
        let body = self.0.client.read_list(response.into_body()).await?;
        self.0.protocol.models_answer(&body)
    }

    /// A chat on its way; `asks_usage`: with `stream_options`, if it has any. `is_named`: whether an error names them.
    async fn send_chat(
        &self,
        request: &ChatRequest,
        asks_usage: bool,
        is_named: Option<&AtomicBool>,
    ) -> Result<(Response<AnswerBody>, Vec<String>), ProviderError> {
        let protocol = &self.0.protocol;
        let outgoing =
            if asks_usage { protocol.chat(request) } else { protocol.chat_without(request, STREAM_OPTIONS) };
        let mut outgoing = outgoing.map_err(ProviderError::Unsupported)?;
        let mut omitted = std::mem::take(&mut outgoing.omitted);
        omitted.extend(request.omitted().iter().cloned());
        outgoing.headers.extend(request.headers().clone());
        let accept = match protocol.framing() {
            _ if !request.stream() => JSON,
            Framing::Sse => "text/event-stream",
            Framing::Ndjson => "application/x-ndjson",
        };
        let failure = |body: &[u8]| {
            if let Some(is_named) = is_named
                && memchr::memmem::find(body, STREAM_OPTIONS.as_bytes()).is_some()
            {
                is_named.store(true, Ordering::Relaxed);
            }
            protocol.error(body)
        };
        let response = self.0.client.send(Method::POST, outgoing, accept, failure).await?;
        Ok((response, omitted))
    }

    async fn send(
        &self,
        method: Method,
        outgoing: Outgoing,
        accept: &'static str,
    ) -> Result<Response<AnswerBody>, ProviderError> {
        self.0.client.send(method, outgoing, accept, |body| self.0.protocol.error(body)).await
    }

    /// An answer, unless it has no output and its body reports an error. JSON that is neither went wrong after it was
    /// produced; anything else never was an answer.
    fn checked(
        &self,
        answer: Result<Complete, ProviderError>,
        body: &[u8],
        is_json: bool,
    ) -> Result<Complete, ProviderError> {
        unknown_numbers::read_of(&self.0.name);
        let (usage, unread) = match answer {
            Ok(complete) if !complete.produced.text.is_empty() || !failure::may_be_reported(body) => {
                return Ok(complete);
            }
            Ok(complete) => (complete.usage, Ok(complete)),
            Err(error @ ProviderError::BadAnswer { .. }) => (failure::usage_beside(body), Err(error)),
            Err(error) => return Err(error),
        };
        match self.0.protocol.reported(body) {
            Some(ProviderError::Reported { error, .. }) => {
                let usage = usage.filter(|usage| usage.input > 0 || usage.output > 0);
                Err(ProviderError::Reported { error, usage })
            }
            _ => unread.map_err(|error| match error {
                ProviderError::BadAnswer { what } if is_json => ProviderError::Unreadable { what },
                error => error,
            }),
        }
    }

    /// The whole body of an answer, which must be JSON.
    async fn body(
        &self,
        response: Response<AnswerBody>,
        room: &mut dyn AnswerRoom,
    ) -> Result<Bytes, ProviderError> {
        if is_page(&response) {
            return Err(ProviderError::BadAnswer { what: "a page" });
        }
        self.0.client.read(response.into_body(), room).await
    }

    /// Room for the values that a large answer is read into, and written from, where it does not pass as it came.
    async fn room_to_read(
        &self,
        shape: Shape,
        body: &Bytes,
        room: &mut dyn AnswerRoom,
    ) -> Result<(), ProviderError> {
        let length = body.len();
        if length <= room::UNCOUNTED || self.0.protocol.passes(shape) {
            return Ok(());
        }
        let outline = off_runtime(length, || Outline::read(body));
        let outline =
            outline.map_err(|_| ProviderError::Unreadable { what: "JSON that can't be read safely" })?;
        let all = outline.memory.saturating_mul(2).saturating_add(room::TIMES * length);
        let reached = room.reach(all).await;
        reached.map_err(|NoRoom| ProviderError::NoRoom { read: length as u64 })
    }
}

fn is_page(response: &Response<AnswerBody>) -> bool {
    content_type(response).starts_with("text/html")
}

fn wrong_shape(request: &ChatRequest, kind: Kind) -> BadRequest {
    let route = match request.shape() {
        Shape::Chat => "/v1/chat/completions",
        Shape::Responses => "/v1/responses",
        Shape::Messages => "/v1/messages",
        Shape::Completions => "/v1/completions",
    };
    let name = kind.0.name;
    let message =
        format!("{route} is not there for models of providers of the kind {name}: use /v1/chat/completions");
    BadRequest::new(message, Some("model".into()))
}

/// A count of tokens, as far as we read it.
#[derive(Debug, serde::Deserialize)]
struct Counted {
    #[serde(rename = "input_tokens")]
    _input_tokens: u64,
}

/// What goes with each request to such a server: our key, and what its protocol asks for.
fn headers(kind: Kind, key: Option<&Secret>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in kind.0.headers {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    if let Some(key) = key {
        let (name, text) = match kind.0.key_header {
            KeyHeader::Bearer => ("authorization", format!("Bearer {}", key.expose())),
            KeyHeader::Named(name) => (name, key.expose().to_owned()),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| "its API key has characters that can't be sent".to_owned())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What else goes with each request, as it is configured.
fn extra_headers(kind: Kind, extra: &[(String, Secret)]) -> Result<HeaderMap, String> {
    let of_kind = kind.0.headers.iter().map(|(name, _)| *name);
    let of_key = match kind.0.key_header {
        KeyHeader::Bearer => None,
        KeyHeader::Named(name) => Some(name),
    };
    let ours: Vec<&str> = OUR_HEADERS.into_iter().chain(of_kind).chain(of_key).collect();
    let mut headers = HeaderMap::new();
    for (text, value) in extra {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("`{}` in its headers can be no name of a header", text.escape_default()))?;
        if ours.contains(&name.as_str()) {
            return Err(format!("its headers can't set `{name}`: this program sets it itself"));
        }
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| format!("the value of `{name}` in its headers has characters that can't be sent"))?;
        value.set_sensitive(true);
        if headers.insert(&name, value).is_some() {
            return Err(format!("its headers set `{name}` twice; names of headers have no case"));
        }
    }
    Ok(headers)
}

/// What an answer says that it is; types have no case.
fn content_type(response: &Response<AnswerBody>) -> String {
    let said = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    said.unwrap_or_default().trim().to_ascii_lowercase()
}

fn asked(model: &str, response: &Response<AnswerBody>) -> Asked {
    let id = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let request_id = ["x-request-id", "request-id", "apim-request-id"].into_iter().find_map(id);
    Asked {
        model: model.to_owned(),
        created: answered_at(response.headers()),
        request_id: request_id.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
