//! What goes wrong between us and a model server, named by what the caller can do about it. Messages are for users: short,
//! without keys, addresses or raw JSON.

use std::time::Duration;

use accounting::Usage;
use http::HeaderMap;

pub(crate) use crate::failure::Failure;
pub(crate) use crate::words::safe_words;

/// A request that we refuse before sending it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// What is wrong, and what to do.
    pub message: String,
    /// The field concerned.
    pub param: Option<String>,
    /// By what a client goes on by itself.
    pub details: Option<Details>,
}

/// What a refusal says to programs beside its words, where a vendor's clients go on by themselves with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Details {
    /// Anthropic's clients go on without the threads that they ask for unasked (anthropic-sdk-python, `ThreadUnsupportedRequestErrorDetails`).
    WithoutThreads,
}

impl Details {
    /// The vendor's name for the refusal.
    pub const fn error_code(self) -> &'static str {
        match self {
            Self::WithoutThreads => "thread_unsupported_request",
        }
    }

    /// What its client is to do without.
    pub const fn unsupported(self) -> &'static [&'static str] {
        match self {
            Self::WithoutThreads => &["thread"],
        }
    }
}

impl BadRequest {
    /// A refusal of that field.
    pub fn new(message: impl Into<String>, param: Option<String>) -> Self {
        Self { message: message.into(), param, details: None }
    }
}

/// What a server says of an error. Its texts are safe to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Its code.
    pub code: Option<String>,
    /// The field of the request that it names.
    pub param: Option<String>,
    /// Its words, shortened and without anything that looks like a key or an address.
    pub words: Option<String>,
    /// Its headers about its rates.
    pub rates: Option<Box<HeaderMap>>,
}

/// A provider that can't be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("provider {provider}: {what}")]
pub struct ConfigError {
    /// Its name.
    pub provider: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Why a model server did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The request asks for what this server can't do: nothing was sent.
    #[error("{0}")]
    Unsupported(BadRequest),
    /// No connection: nothing was sent.
    #[error("no connection to the model server")]
    NotConnected,
    /// Nothing came for too long.
    #[error("the model server was silent for too long")]
    TimedOut {
        /// Whether nothing of an answer had come yet.
        before_output: bool,
    },
    /// The server wants us to slow down.
    #[error("rate limited")]
    RateLimited {
        /// How long to wait, if it says so.
        retry_after: Option<Duration>,
        /// What it says.
        said: Said,
    },
    /// The request itself is at fault.
    #[error("rejected with status {status}: {}", said.words.as_deref().unwrap_or(NO_WORDS))]
    Rejected {
        /// The HTTP status, 4xx.
        status: u16,
        /// What it says.
        said: Said,
    },
    /// Our key or our account with the provider is at fault: a matter for the administrator.
    #[error("our key or account is refused with status {status}")]
    OurKey {
        /// The HTTP status.
        status: u16,
    },
    /// A fault of the server.
    #[error("failed with status {status}: {}", said.words.as_deref().unwrap_or(NO_WORDS))]
    Failed {
        /// The HTTP status, 5xx.
        status: u16,
        /// What it says.
        said: Said,
    },
    /// The server has too much to do.
    #[error("overloaded")]
    Overloaded {
        /// The HTTP status, or the one that the error means: 498, 503 or 529.
        status: u16,
        /// How long to wait, if it says so.
        retry_after: Option<Duration>,
        /// What it says.
        said: Said,
    },
    /// The server reported an error inside an answer of status 200.
    #[error("in its answer: {error}")]
    Reported {
        /// The same error as if it had come with the status that it names or means.
        error: Box<Self>,
        /// What the server told with it of what the request used.
        usage: Option<Usage>,
    },
    /// What came is no answer.
    #[error("not an answer: {what}")]
    BadAnswer {
        /// Why, for the log.
        what: &'static str,
    },
    /// JSON that is no answer that we can read, although the server may have made one.
    #[error("an answer that can't be read: {what}")]
    Unreadable {
        /// Why, for the log.
        what: &'static str,
    },
    /// There is no room for the whole answer here, and was none for too long.
    #[error("no room for an answer, of which {read} bytes have come")]
    NoRoom {
        /// How much of its output had come, in bytes of JSON.
        read: u64,
    },
    /// The answer broke off.
    #[error("broke off: {what}")]
    Broken {
        /// Why, for the log.
        what: String,
    },
}

/// Of a rejection without words.
const NO_WORDS: &str = "it does not say why";

impl ProviderError {
    /// What to tell the user.
    pub fn message(&self) -> String {
        let with_words = |what: &str, said: &Said| match &said.words {
            Some(words) => format!("{what} (it says: {words})"),
            None => what.to_owned(),
        };
        match self {
            Self::Unsupported(bad) => bad.message.clone(),
            Self::NotConnected => {
                "the model server can't be reached; try again, and tell your administrator if it goes on"
                    .into()
            }
            Self::TimedOut { .. } => "the model server was silent for too long; try again".into(),
            Self::RateLimited { said, .. } => {
                with_words("the model server gets too many requests; try again in a moment", said)
            }
            Self::Rejected { said, .. } => {
                let words = said.words.as_deref().unwrap_or(NO_WORDS);
                format!("the model server rejected the request: {words}")
            }
            Self::OurKey { .. } => {
                "the model server refuses this service's key or account; tell your administrator to check it"
                    .into()
            }
            Self::Failed { said, .. } => with_words("the model server had a fault; try again", said),
            Self::Overloaded { said, .. } => {
                with_words("the model server is overloaded; try again in a moment", said)
            }
            Self::Reported { error, .. } => error.message(),
            Self::BadAnswer { .. } => {
                "the model server's answer can't be understood; tell your administrator".into()
            }
            Self::Unreadable { .. } => {
                "the model server answered in a form that can't be read; tell your administrator".into()
            }
            Self::NoRoom { .. } => {
                "there is no room for an answer of this size, because too many large ones are under way; wait for them \
                 to end, or ask for less at a time"
                    .into()
            }
            Self::Broken { .. } => "the model server broke off in the middle of its answer; try again".into(),
        }
    }

    /// Our name for it, for programs.
    pub fn code(&self) -> &'static str {
        match self.plain() {
            Self::Unsupported(_) => "invalid_request",
            Self::NotConnected => "provider_unreachable",
            Self::TimedOut { .. } => "provider_timed_out",
            Self::RateLimited { .. } => "provider_rate_limited",
            Self::Rejected { .. } => "provider_rejected",
            Self::OurKey { .. } => "provider_refuses_service",
            Self::Failed { .. } | Self::Broken { .. } | Self::Reported { .. } => "provider_failed",
            Self::Overloaded { .. } => "provider_overloaded",
            Self::BadAnswer { .. } | Self::Unreadable { .. } => "provider_answer_invalid",
            Self::NoRoom { .. } => "answer_too_large",
        }
    }

    /// What the server itself said of it.
    pub fn said(&self) -> Option<&Said> {
        match self {
            Self::RateLimited { said, .. }
            | Self::Rejected { said, .. }
            | Self::Failed { said, .. }
            | Self::Overloaded { said, .. } => Some(said),
            Self::Reported { error, .. } => error.said(),
            _ => None,
        }
    }

    /// The same, with the server's headers about its rates.
    #[must_use]
    pub fn with_rates(mut self, told: HeaderMap) -> Self {
        match &mut self {
            Self::RateLimited { said, .. }
            | Self::Rejected { said, .. }
            | Self::Failed { said, .. }
            | Self::Overloaded { said, .. } => said.rates = (!told.is_empty()).then(|| Box::new(told)),
            Self::Reported { error, .. } => {
                let inner = std::mem::replace(&mut **error, Self::NotConnected);
                **error = inner.with_rates(told);
            }
            _ => {}
        }
        self
    }

    /// How long to wait before the next try, if the server says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Overloaded { retry_after, .. } => *retry_after,
            Self::Reported { error, .. } => error.retry_after(),
            _ => None,
        }
    }

    /// The same, to be tried again after that time, if it says nothing of one.
    pub(crate) fn or_after(mut self, wait: Option<Duration>) -> Self {
        if let Self::Reported { error, .. } = &mut self
            && let Self::RateLimited { retry_after, .. } | Self::Overloaded { retry_after, .. } = &mut **error
        {
            *retry_after = retry_after.or(wait);
        }
        self
    }

    /// The same error, without the box of one that came inside an answer.
    pub fn plain(&self) -> &Self {
        match self {
            Self::Reported { error, .. } => error.plain(),
            error => error,
        }
    }

    /// Whether the server may have answered without our knowing: it was silent, broke off, can't be understood, or there is no
    /// room for what it says. Whatever it reports itself is no such thing.
    pub fn leaves_open(&self) -> bool {
        matches!(
            self,
            Self::TimedOut { .. } | Self::Broken { .. } | Self::Unreadable { .. } | Self::NoRoom { .. }
        )
    }
}
