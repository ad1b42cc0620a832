//! Mistral's API ("API Reference": Chat, Embeddings, Models): OpenAI's shape with names, limits and pieces of its own.
//! Its chunks pass as they came; only those whose content is a list, as that of its reasoning models, are rewritten.

mod answer;
mod request;
mod wire;

use accounting::ModelId;
use bytes::Bytes;
use http::Uri;

use crate::answer::Complete;
use crate::error::Failure;
use crate::protocol::{Asked, Conversion, KeyHeader, Outgoing, Protocol, Setup};
use crate::registry::Entry;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, ProviderError, openai};

/// Mistral's API.
pub(crate) static MISTRAL: Entry = Entry {
    name: "mistral",
    provider: "mistral",
    base_url: "https://api.mistral.ai/v1",
    key_variable: "MISTRAL_API_KEY",
    needs_key: true,
    by_environment: Some("MISTRAL_API_BASE_URL"),
    key_header: KeyHeader::Bearer,
    headers: &[],
    open,
};

#[derive(Debug)]
struct Mistral {
    chat: Uri,
    embeddings: Uri,
    models: Uri,
}

fn open(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    Ok(Box::new(Mistral {
        chat: setup.route("chat/completions")?,
        embeddings: setup.route("embeddings")?,
        models: setup.route("models")?,
    }))
}

impl Protocol for Mistral {
    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
        request::chat(self.chat.clone(), request)
    }

    fn answer(&self, _: &ChatRequest, _: &Asked, body: Bytes) -> Result<Complete, ProviderError> {
        openai::complete(answer::rewritten(&body).unwrap_or(body))
    }

    fn conversion(&self, request: &ChatRequest, _: Asked) -> Box<dyn Conversion> {
        Box::new(answer::Chunks::new(request.choices()))
    }

    fn error(&self, body: &[u8]) -> Failure {
        openai::error(body)
    }

    fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
        request::embeddings(self.embeddings.clone(), request)
    }

    fn embeddings_answer(
        &self,
        request: &EmbeddingsRequest,
        asked: &Asked,
        body: Bytes,
    ) -> Result<Complete, ProviderError> {
        answer::embeddings(request, asked, body)
    }

    fn models(&self) -> Outgoing {
        Outgoing::get(self.models.clone())
    }

    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
        openai::models(body)
    }
}

#[cfg(test)]
mod tests;
