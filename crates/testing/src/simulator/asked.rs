//! A request as it came, and what a format reads in it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use serde_json::Value;

use super::Book;

/// A request as it came.
#[derive(Debug)]
pub(super) struct Incoming {
    pub book: Arc<Book>,
    /// Its place in the book.
    pub index: usize,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    /// `null` if it is no JSON.
    pub body: Value,
}

impl FromRequest<Arc<Book>> for Incoming {
    type Rejection = Infallible;

    async fn from_request(request: Request, book: &Arc<Book>) -> Result<Self, Infallible> {
        let (head, body) = request.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let index = book.add(path.clone(), head.headers.clone(), body.clone());
        Ok(Self { book: Arc::clone(book), index, path, headers: head.headers, body })
    }
}

impl Incoming {
    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.body.get(field).and_then(Value::as_u64)
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }

    pub(super) fn list(&self, field: &str) -> &[Value] {
        self.body.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn is_true(&self, field: &str) -> bool {
        self.body.get(field) == Some(&Value::Bool(true))
    }

    pub(super) fn has_bearer(&self) -> bool {
        let value = self.headers.get("authorization").and_then(|value| value.to_str().ok());
        value.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|key| !key.trim().is_empty())
    }

    pub(super) fn has(&self, header: &str) -> bool {
        self.headers.get(header).is_some_and(|value| !value.is_empty())
    }
}

/// An error answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub status: u16,
    pub message: String,
    /// The field at fault, if there is one.
    pub param: Option<String>,
    /// Seconds to wait.
    pub retry_after: Option<u64>,
}

impl Refused {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, retry_after: None }
    }
}

/// Whether the request itself decides that tools are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Choice {
    #[default]
    Free,
    Must,
    Never,
}

/// What a request asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub model: String,
    /// The text that may hold a directive.
    pub text: String,
    /// Words of its input.
    pub words: u64,
    pub stream: bool,
    pub limit: Option<u64>,
    pub choices: Option<u64>,
    /// Names of tools, those that are to be called first.
    pub tools: Vec<String>,
    pub choice: Choice,
    pub stop: Vec<String>,
    /// Whether the answer must be JSON.
    pub json: bool,
}
