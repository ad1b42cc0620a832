//! A model server that speaks, over loopback, the protocols of those that we know. For tests and the demonstration.
//!
//! | below | format | routes |
//! |---|---|---|
//! | `/v1` | OpenAI and compatible ([`openai`]) | `chat/completions`, `embeddings`, `models`; `completions` ([`completions`]); `responses` ([`responses`]) |
//! | `/azure/openai/v1`, `/azure/openai/deployments/{d}` | Azure ([`openai`]) | the same; `prompt_filter_results` come first |
//! | `/anthropic/v1` | Anthropic ([`anthropic`]) | `messages`, `messages/count_tokens`, `models` |
//! | `/google/v1beta` | Google Gemini ([`google`]) | `models/{m}:generateContent`, `:streamGenerateContent?alt=sse`, `:embedContent`, `:batchEmbedContents`, `models` |
//! | `/mistral/v1` | Mistral ([`mistral`]) | `chat/completions`, `embeddings`, `models` |
//! | `/ollama/api` | Ollama ([`ollama`]) | `chat`, `embed`, `tags` |
//!
//! `/received` tells what became of the requests ([`seen`]).
//!
//! [`job`] carries out what a [`plan`] says, the same for all; a format only writes it, and refuses in its own words what
//! the real server refuses. A key must be there, whichever it is.
//!
//! What it does is said by a directive in the last message (or in a text to embed): `[[sim key=value …]]`; where there
//! are several, the last one counts.
//!
//! | key | meaning |
//! |---|---|
//! | `input`, `output` | all input and output tokens that it reports; by default words are counted |
//! | `cached`, `cache_write`, `cache_write_long`, `audio` | how many of the input were read from a cache, written to one (for minutes, for an hour), sound (0) |
//! | `reasoning` | how many of the output were reasoning (`thinking`) |
//! | `thinking` | words of visible reasoning before the answer, signed where the format signs it (0); shown where a request to the real server would show them |
//! | `redacted` | `1`: Anthropic hides that reasoning in a `redacted_thinking` block |
//! | `chunk` | output tokens for each chunk (1) |
//! | `delay` | milliseconds before each chunk (0) |
//! | `first` | milliseconds before the head of the answer (0) |
//! | `status`, `retry_after` | an error answer; its message names a key that must never be shown |
//! | `fault`, `at` | after `at` chunks (0): `disconnect`, `hang`, `half` (half an event, then the end), `error` (the format's error event), `malformed` (an event that is no JSON), `end` (the end without the protocol's own). At any time: `html` (a page instead of an answer), `nousage`, `badusage` (negative counts), `wrongtype` (a right body said to be `text/plain`) |
//! | `split` | `1`: the stream is written byte by byte |
//! | `tools` or `tool` | so many calls at once, of the first of the request's tools |
//! | `text` | the answer is this word, before the calls if there are some |
//! | `blocked` | `1`: a filter ends the answer after its `output` (0) |
//! | `model` | the answer names this model |
//!
//! `[[call TOOL: argument=value | argument=value end]]` beside it calls that tool with those arguments, after some reasoning, if
//! the request offers it: an agent has tools of its own.
//!
//! Without a directive it answers some words, JSON if the request wants a schema, or calls a tool if it must. It honours the
//! request's limit of output, `n` and texts at which to stop; `overrun` (in the directive) makes it ignore the limit.

mod anthropic;
mod asked;
mod completions;
mod directive;
mod google;
mod job;
mod mistral;
mod ollama;
mod openai;
mod plan;
mod responses;
mod seen;
mod signature;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::routing::{get, post};
use http::HeaderMap;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is being answered.
    Running,
    /// It was answered to the end, or to its fault.
    Answered,
    /// Its client went away.
    Cancelled,
}

/// A request that the server got.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its path with the query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; `null` if that is no JSON.
    pub body: Value,
    /// Output tokens handed to the connection so far.
    pub produced: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What all requests share.
#[derive(Debug, Default)]
pub(crate) struct Book {
    received: Mutex<Vec<Received>>,
    produced: AtomicU64,
    changed: Notify,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    book: Arc<Book>,
    _running: DropGuard,
    _tasks: TaskTracker,
}

impl Simulator {
    /// Starts on a free port.
    ///
    /// # Errors
    /// If loopback has no free port.
    pub async fn start() -> io::Result<Self> {
        Self::listen(TcpListener::bind("127.0.0.1:0").await?)
    }

    /// Starts on that listener.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn listen(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let book = Arc::new(Book::default());
        let router = router().with_state(Arc::clone(&book));
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let ended = end.clone();
        tasks.spawn(async move {
            tokio::select! {
                // A server of the library's own never ends by itself.
                _ = async { axum::serve(listener, router).await } => {}
                () = ended.cancelled() => {}
            }
        });
        Ok(Self { address, book, _running: end.drop_guard(), _tasks: tasks })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address below which the routes of OpenAI's format are.
    pub fn base_url(&self) -> String {
        self.base_url_of("openai")
    }

    /// The address to configure for that kind of provider.
    pub fn base_url_of(&self, kind: &str) -> String {
        let path = match kind {
            "anthropic" => "anthropic",
            "google" => "google",
            "mistral" => "mistral/v1",
            "ollama" => "ollama",
            "azure" => "azure",
            _ => "v1",
        };
        format!("http://{}/{path}", self.address)
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.book.all()
    }

    /// All output tokens handed to connections so far.
    pub fn produced(&self) -> u64 {
        self.book.produced.load(Ordering::Relaxed)
    }

    /// Waits until the requests satisfy a condition.
    pub async fn until(&self, condition: impl Fn(&[Received]) -> bool) {
        loop {
            let changed = self.book.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.received()) {
                return;
            }
            changed.await;
        }
    }
}

fn router() -> Router<Arc<Book>> {
    let azure = Router::new()
        .route("/openai/v1/chat/completions", post(openai::azure_chat))
        .route("/openai/v1/embeddings", post(openai::azure_embeddings))
        .route("/openai/v1/models", get(openai::azure_models))
        .route("/openai/deployments/{deployment}/chat/completions", post(openai::azure_deployment_chat))
        .route("/openai/deployments/{deployment}/embeddings", post(openai::azure_embeddings))
        .route("/openai/models", get(openai::azure_models));
    Router::new()
        .route("/received", get(seen::received))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(completions::create))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/responses", post(responses::create))
        .nest("/azure", azure)
        .route("/anthropic/v1/messages", post(anthropic::messages))
        .route("/anthropic/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/anthropic/v1/models", get(anthropic::models))
        .route("/google/v1beta/models", get(google::models))
        .route("/google/v1beta/models/{call}", post(google::call))
        .route("/mistral/v1/chat/completions", post(mistral::chat))
        .route("/mistral/v1/embeddings", post(mistral::embeddings))
        .route("/mistral/v1/models", get(mistral::models))
        .route("/ollama/api/chat", post(ollama::chat))
        .route("/ollama/api/embed", post(ollama::embed))
        .route("/ollama/api/tags", get(ollama::tags))
}

impl Book {
    pub(crate) fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, path: String, headers: HeaderMap, body: Value) -> usize {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(Received { path, headers, body, produced: 0, fate: Fate::Running });
        let index = received.len() - 1;
        drop(received);
        self.changed.notify_waiters();
        index
    }

    pub(crate) fn produce(&self, index: usize, tokens: u64) {
        self.produced.fetch_add(tokens, Ordering::Relaxed);
        if let Some(one) = self.received.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            one.produced += tokens;
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn end(&self, index: usize, fate: Fate) {
        if let Some(one) = self.received.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            one.fate = fate;
        }
        self.changed.notify_waiters();
    }
}
