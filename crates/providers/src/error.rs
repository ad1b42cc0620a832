//! What goes wrong between us and a model server, named by what the caller can do about it. Messages are for users: short,
//! without keys, addresses or raw JSON.

use std::time::Duration;

pub(crate) use crate::words::safe_words;

/// A request that we refuse before sending it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// What is wrong, and what to do.
    pub message: String,
    /// The field concerned.
    pub param: Option<String>,
}

/// What the body of an error says. Its texts are safe to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The server's code.
    pub code: Option<String>,
    /// The server's words.
    pub message: Option<String>,
    /// Our key or our account is at fault, whatever the status says.
    pub ours: bool,
    /// How long to wait, if the body says so.
    pub retry_after: Option<Duration>,
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
    },
    /// The request itself is at fault.
    #[error("rejected with status {status}: {message}")]
    Rejected {
        /// The HTTP status, 4xx.
        status: u16,
        /// The provider's code.
        code: Option<String>,
        /// The provider's words, shortened and without anything that looks like a key or an address.
        message: String,
    },
    /// Our key or our account with the provider is at fault: a matter for the administrator.
    #[error("our key or account is refused with status {status}")]
    OurKey {
        /// The HTTP status.
        status: u16,
    },
    /// A fault of the server.
    #[error("failed with status {status}")]
    Failed {
        /// The HTTP status, 5xx.
        status: u16,
    },
    /// The server has too much to do.
    #[error("overloaded")]
    Overloaded {
        /// How long to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// What came is no answer.
    #[error("not an answer: {what}")]
    BadAnswer {
        /// Why, for the log.
        what: &'static str,
    },
    /// The answer broke off.
    #[error("broke off: {what}")]
    Broken {
        /// Why, for the log.
        what: String,
    },
}

impl ProviderError {
    /// What to tell the user.
    pub fn message(&self) -> String {
        match self {
            Self::Unsupported(bad) => bad.message.clone(),
            Self::NotConnected => {
                "the model server can't be reached; try again, and tell your administrator if it goes on"
                    .into()
            }
            Self::TimedOut { .. } => "the model server was silent for too long; try again".into(),
            Self::RateLimited { .. } => {
                "the model server gets too many requests; try again in a moment".into()
            }
            Self::Rejected { message, .. } => format!("the model server rejected the request: {message}"),
            Self::OurKey { .. } => {
                "the model server refuses this service's key or account; tell your administrator to check it"
                    .into()
            }
            Self::Failed { .. } => "the model server had a fault; try again".into(),
            Self::Overloaded { .. } => "the model server is overloaded; try again in a moment".into(),
            Self::BadAnswer { .. } => {
                "the model server's answer can't be understood; tell your administrator".into()
            }
            Self::Broken { .. } => "the model server broke off in the middle of its answer; try again".into(),
        }
    }
}
