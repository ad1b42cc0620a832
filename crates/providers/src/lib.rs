//! Talks to model servers; knows nothing of users or credits.
//!
//! Our inner shape of a chat is OpenAI's, as JSON with small typed views ([`ChatRequest`]): what we don't know passes
//! untouched. A [`Provider`] sends it to a server of its [`Kind`] and gives back the answer with what it used.

mod answer;
mod anthropic;
mod chunk;
mod client;
mod coding;
mod conversation;
mod error;
mod failure;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod google;
mod hosted;
mod json;
mod large;
mod lenient;
mod mistral;
mod names;
mod network;
mod off_runtime;
mod ollama;
mod openai;
mod protocol;
mod provider;
mod refused;
mod registry;
mod report;
mod request;
mod room;
#[cfg(test)]
mod samples;
mod secrets;
mod unknown_numbers;
mod words;

pub use answer::{Answer, AnswerStream, Chunk, Complete, Produced, Reported, StreamEvent, What};
pub use client::TimeLimits;
pub use coding::{Decoder, UnknownCoding, WithoutMark};
pub use error::{BadRequest, ConfigError, Details, ProviderError, Said};
pub use json::write as write_json;
pub use large::{Gathering, LARGE, LargeBuffer};
pub use network::{Network, Proxy, is_loopback};
pub use off_runtime::off_runtime;
pub use openai::reported_usage;
pub use provider::{Provider, ProviderConfig, ProviderOptions, Secret};
pub use registry::{Entry, Kind};
pub use request::{ChatRequest, EmbeddingsRequest, Media, Outline, Shape, TextSize, ToolForm, Unknown};
pub use room::{AnswerRoom, NoRoom, Uncounted};
pub use unknown_numbers::{UnknownNumber, keep_unknown_numbers, take_unknown_numbers};
pub use words::safe_words;
