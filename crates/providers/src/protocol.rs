//! What a kind of server must know to be one: where its routes are, and four pure conversions between its JSON and our
//! inner shape, which is OpenAI's: request, answer, stream event, error. No IO here or in what implements it.

use std::fmt;

use accounting::ModelId;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use serde::Serialize;
use url::Url;

use crate::answer::{Complete, StreamEvent};
use crate::failure::{self, Failure};
use crate::framing::{Event, Framing};
use crate::json;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, ProviderError, ProviderOptions, Shape};

/// How a server takes our key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of that name holds the key.
    Named(&'static str),
}

/// What a protocol is set up with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub base_url: Url,
    pub options: ProviderOptions,
}

impl Setup {
    /// An address below the base URL.
    ///
    /// # Errors
    /// Says what is wrong with the base URL.
    pub(crate) fn route(&self, path: &str) -> Result<Uri, String> {
        let mut url = self.base_url.clone();
        let path = format!("{}/{path}", url.path().trim_end_matches('/'));
        let (path, query) =
            path.split_once('?').map_or((path.as_str(), None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        if query.is_some() {
            url.set_query(query);
        }
        url.as_str().parse().map_err(|error| format!("its base_url can't be used: {error}"))
    }
}

/// A request as it goes to a server.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub uri: Uri,
    /// JSON; empty for a GET.
    pub body: Bytes,
    /// Headers of this request alone.
    pub headers: HeaderMap,
    /// Fields that this server can't take and that do no harm where they are missing.
    pub omitted: Vec<String>,
}

impl Outgoing {
    /// A request with that JSON as its body.
    ///
    /// # Errors
    /// If it can't be written, which no JSON value can cause.
    pub(crate) fn json(uri: Uri, body: &impl Serialize) -> Result<Self, BadRequest> {
        let body = json::write(body)
            .map_err(|error| BadRequest::new(format!("the request can't be written: {error}"), None))?;
        Ok(Self { uri, body, headers: HeaderMap::new(), omitted: Vec::new() })
    }

    /// A request without a body.
    pub(crate) fn get(uri: Uri) -> Self {
        Self { uri, body: Bytes::new(), headers: HeaderMap::new(), omitted: Vec::new() }
    }

    #[must_use]
    pub(crate) fn omitting(mut self, omitted: Vec<String>) -> Self {
        self.omitted = omitted;
        self
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// What converting an answer needs to know of its request and its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The model asked for.
    pub model: String,
    /// When the server answered, in seconds since 1970 UTC; 0 if it does not say.
    pub created: i64,
    /// The server's own id of the request.
    pub request_id: Option<String>,
}

/// A protocol. Everything here is pure.
pub(crate) trait Protocol: fmt::Debug + Send + Sync {
    /// Whether this server takes requests of that shape.
    fn takes(&self, shape: Shape) -> bool {
        shape == Shape::Chat
    }

    /// Whether whole answers to requests of that shape pass as they come. Others are read into values and written anew.
    fn passes(&self, _: Shape) -> bool {
        false
    }

    /// A chat as this server wants it (or a request in the server's own shape, if it has the same).
    ///
    /// # Errors
    /// Names the field that this server can't take.
    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest>;

    /// The same without a field that passes elsewhere, for a server that refuses it.
    ///
    /// # Errors
    /// See [`Protocol::chat`].
    fn chat_without(&self, request: &ChatRequest, _field: &'static str) -> Result<Outgoing, BadRequest> {
        self.chat(request)
    }

    /// The question how many tokens a request in the server's own shape has, if it answers that for nothing.
    fn count_tokens(&self, _: &ChatRequest) -> Option<Result<Outgoing, BadRequest>> {
        None
    }

    /// A whole answer of the server in the shape of its request.
    ///
    /// # Errors
    /// [`ProviderError::BadAnswer`] if it is none.
    fn answer(&self, request: &ChatRequest, asked: &Asked, body: Bytes) -> Result<Complete, ProviderError>;

    /// How a streamed answer is cut into events.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Converts the events of one streamed answer.
    fn conversion(&self, request: &ChatRequest, asked: Asked) -> Box<dyn Conversion>;

    /// What the body of an error says.
    fn error(&self, body: &[u8]) -> Failure;

    /// The error that JSON of status 200 reports in the place of an answer.
    fn reported(&self, body: &[u8]) -> Option<ProviderError> {
        failure::is_reported(body).then(|| self.error(body).reported())
    }

    /// Texts to embed as this server wants them.
    ///
    /// # Errors
    /// If this server has no embeddings.
    fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest>;

    /// Its answer, in OpenAI's shape.
    ///
    /// # Errors
    /// [`ProviderError::BadAnswer`] if it is none.
    fn embeddings_answer(
        &self,
        request: &EmbeddingsRequest,
        asked: &Asked,
        body: Bytes,
    ) -> Result<Complete, ProviderError>;

    /// Where its list of models is.
    fn models(&self) -> Outgoing;

    /// That list.
    ///
    /// # Errors
    /// [`ProviderError::BadAnswer`] if it is none.
    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError>;

    /// The field of our inner shape by which a request limits its output, where it has none yet.
    fn output_limit_field(&self) -> &'static str {
        "max_tokens"
    }
}

/// Turns the events of one answer into ours, in order.
pub(crate) trait Conversion: Send {
    /// One event of the server becomes any number of ours.
    ///
    /// # Errors
    /// If the event is an error, or breaks the protocol: the answer ends there.
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError>;

    /// The body has ended: what is left to say.
    ///
    /// # Errors
    /// [`ProviderError::Broken`] if the answer has not come to its end.
    fn end(&mut self, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError>;

    /// Whether all was said, should the connection break now: nothing but the mark of the end is missing.
    fn is_whole(&self) -> bool {
        false
    }
}

/// The error for a stream whose body ended too soon.
pub(crate) fn ended_too_soon() -> ProviderError {
    ProviderError::Broken { what: "the stream ended without an end".into() }
}
