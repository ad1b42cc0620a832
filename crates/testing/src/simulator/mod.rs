//! A model server that speaks OpenAI's protocol over loopback: chat completions (streamed and not, tools, several
//! choices), embeddings, models. For tests and the demonstration.
//!
//! What it does is said by a directive in the last message (or in a text to embed): `[[sim key=value …]]`
//!
//! | key | meaning |
//! |---|---|
//! | `input`, `output`, `cached`, `reasoning` | the usage that it reports; by default words are counted |
//! | `chunk` | output tokens for each chunk (1) |
//! | `delay` | milliseconds before each chunk (0) |
//! | `first` | milliseconds before the head of the answer (0) |
//! | `status`, `retry_after` | an error answer |
//! | `fault`, `at` | after `at` chunks (0): `disconnect`, `hang`, `half` (half a line, then the end), `error` (an error event), `malformed` (no JSON), `end` (the end without `[DONE]`), `html` (a page instead of an answer), `nousage`, `badusage` (negative counts) |
//! | `split` | `1`: the stream is written byte by byte |
//! | `tool` | `1`: calls the first of the request's tools |
//! | `model` | the answer names this model |
//!
//! Without a directive it answers some words. It honours `max_tokens`, `max_completion_tokens` and `n`; `overrun` (in the
//! directive) makes it ignore the limits.

mod answer;
mod directive;

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
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
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
        let router = Router::new()
            .route("/v1/chat/completions", post(answer::chat))
            .route("/v1/embeddings", post(answer::embeddings))
            .route("/v1/models", get(answer::models))
            .with_state(Arc::clone(&book));
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

    /// The address below which its routes are.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.book.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

impl Book {
    pub(crate) fn add(&self, headers: HeaderMap, body: Value) -> usize {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(Received { headers, body, produced: 0, fate: Fate::Running });
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
