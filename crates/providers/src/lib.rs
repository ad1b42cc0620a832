//! Talks to model servers; knows nothing of users or credits.
//!
//! Our inner shape of a chat is OpenAI's, as JSON with small typed views ([`ChatRequest`]): what we don't know passes
//! untouched. A [`Provider`] sends it to a server of its [`Kind`] and gives back the answer with what it used.

mod answer;
mod client;
mod error;
mod openai;
mod provider;
mod refused;
mod request;
mod sse;

pub use answer::{Answer, AnswerStream, Chunk, Complete, Produced, StreamEvent, What};
pub use client::TimeLimits;
pub use error::{BadRequest, ConfigError, ProviderError};
pub use provider::{Kind, Provider, ProviderConfig, Secret};
pub use request::{ChatRequest, EmbeddingsRequest, Media};
