//! Anthropic's Messages API (API reference, "Create a Message", "Streaming Messages", "List Models", "Errors").
//!
//! A chat in OpenAI's shape becomes a message in Anthropic's and its answer comes back in OpenAI's ([`request`], [`answer`],
//! [`stream`]); a request in Anthropic's own shape passes as it is ([`native`]). What a model takes is in [`model`].

mod answer;
mod content;
mod messages;
mod model;
mod native;
mod request;
mod stream;
mod thinking;
mod usage;
mod wire;

pub(crate) use native::{refuse, runs, tokens_of_tool};

use accounting::ModelId;
use bytes::Bytes;
use http::Uri;
use serde_json::Value;

use crate::answer::Complete;
use crate::conversation::bad;
use crate::error::safe_words;
use crate::failure::{Failure, says_our_key, wait_of};
use crate::protocol::{Asked, Conversion, KeyHeader, Outgoing, Protocol, Setup};
use crate::registry::Entry;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, ProviderError, Shape};

/// Anthropic's Messages API.
pub(crate) static ANTHROPIC: Entry = Entry {
    name: "anthropic",
    provider: "anthropic",
    base_url: "https://api.anthropic.com",
    key_variable: "ANTHROPIC_API_KEY",
    needs_key: true,
    by_environment: Some("ANTHROPIC_API_BASE_URL"),
    key_header: KeyHeader::Named("x-api-key"),
    headers: &[("anthropic-version", "2023-06-01")],
    open,
};

/// A server with Anthropic's routes.
#[derive(Debug)]
struct Anthropic {
    messages: Uri,
    count: Uri,
    models: Uri,
    /// Whether it counts its cache within the input, if that is configured.
    cache_in_input: Option<bool>,
}

fn open(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    // People write the address with and without the version.
    let versioned = setup.base_url.path().trim_end_matches('/').ends_with("/v1");
    let route = |path: &str| setup.route(&if versioned { path.to_owned() } else { format!("v1/{path}") });
    // 1000 is the largest page ("List Models").
    let (messages, count) = (route("messages")?, route("messages/count_tokens")?);
    let (models, cache_in_input) = (route("models?limit=1000")?, setup.options.cache_in_input);
    Ok(Box::new(Anthropic { messages, count, models, cache_in_input }))
}

impl Protocol for Anthropic {
    fn takes(&self, shape: Shape) -> bool {
        matches!(shape, Shape::Chat | Shape::Messages)
    }

    fn passes(&self, shape: Shape) -> bool {
        shape == Shape::Messages
    }

    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
        match request.shape() {
            Shape::Messages => native::outgoing(self.messages.clone(), request.body()),
            Shape::Chat | Shape::Responses | Shape::Completions => {
                request::outgoing(self.messages.clone(), request)
            }
        }
    }

    /// "Count tokens in a Message": free of charge.
    fn count_tokens(&self, request: &ChatRequest) -> Option<Result<Outgoing, BadRequest>> {
        (request.shape() == Shape::Messages).then(|| native::outgoing(self.count.clone(), request.body()))
    }

    fn answer(&self, request: &ChatRequest, asked: &Asked, body: Bytes) -> Result<Complete, ProviderError> {
        match request.shape() {
            Shape::Messages => native::complete(body, self.cache_in_input),
            Shape::Chat | Shape::Responses | Shape::Completions => {
                answer::complete(asked, &body, self.cache_in_input)
            }
        }
    }

    fn conversion(&self, request: &ChatRequest, asked: Asked) -> Box<dyn Conversion> {
        match request.shape() {
            Shape::Messages => Box::new(native::Passing::new(self.cache_in_input)),
            Shape::Chat | Shape::Responses | Shape::Completions => {
                Box::new(stream::Converting::new(asked, self.cache_in_input))
            }
        }
    }

    fn error(&self, body: &[u8]) -> Failure {
        error(body)
    }

    fn embeddings(&self, _: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
        Err(bad("model", "Anthropic has no embeddings: choose a model of another provider"))
    }

    fn embeddings_answer(
        &self,
        _: &EmbeddingsRequest,
        _: &Asked,
        _: Bytes,
    ) -> Result<Complete, ProviderError> {
        Err(ProviderError::BadAnswer { what: "embeddings, which Anthropic does not have" })
    }

    fn models(&self) -> Outgoing {
        Outgoing::get(self.models.clone())
    }

    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
        let models: wire::Models = serde_json::from_slice(body)
            .map_err(|_| ProviderError::BadAnswer { what: "not a list of models" })?;
        Ok(models.data.into_iter().filter_map(|model| ModelId::new(model.id).ok()).collect())
    }
}

/// What the body of an error says ("Errors"), or an event of a stream. Servers with the same routes have errors of their own, and
/// name a status, a code, a field and a wait beside what Anthropic names.
fn error(body: &[u8]) -> Failure {
    let told = crate::openai::error(body);
    match serde_json::from_slice(body).ok().and_then(|body: wire::ErrorBody| body.error) {
        Some(error) if error.kind.is_some() => {
            let own = of_error(&error);
            Failure {
                ours: own.ours || told.ours,
                retry_after: told.retry_after.or(own.retry_after),
                message: own.message.or(told.message),
                kind: own.kind,
                ..told
            }
        }
        _ => told,
    }
}

fn of_error(error: &wire::Failure<'_>) -> Failure {
    let kind = error.kind.as_deref().unwrap_or_default();
    let message = error.message.as_deref().unwrap_or_default();
    let said = message.to_ascii_lowercase();
    // An account without money, or at a limit that its owner has set, answers with the status of a wrong request.
    let no_money = said.contains("api usage limits") || says_our_key(message);
    let ours = matches!(kind, "authentication_error" | "permission_error" | "billing_error") || no_money;
    let some = |text: &str| Some(safe_words(text)).filter(|text| !text.is_empty());
    let retry_after = wait_of(&Value::Null, Some(message));
    Failure { kind: some(kind), message: some(message), ours, retry_after, ..Failure::default() }
}

/// An error inside an answer: the data of its event, and what could be read of it.
fn reported(data: &[u8], error: Option<&wire::Failure<'_>>) -> ProviderError {
    let told = self::error(data);
    let is_read = told != Failure::default();
    let told = if is_read { told } else { error.map(of_error).unwrap_or_default() };
    told.reported()
}

#[cfg(test)]
mod tests;
