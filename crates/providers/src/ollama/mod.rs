//! Ollama's own API (its repository, `docs/api.md`): chats at `/api/chat` (streamed as lines of JSON), the list of
//! models at `/api/tags`, vectors at `/api/embed`.
//!
//! What a prompt took is missing in its answers where the whole prompt was in its cache: such an answer has no usage, so
//! that its tokens are counted here and never are free.

mod answer;
mod request;
mod wire;

use accounting::ModelId;
use bytes::Bytes;
use http::Uri;

use crate::answer::Complete;
use crate::error::Failure;
use crate::framing::Framing;
use crate::protocol::{Asked, Conversion, KeyHeader, Outgoing, Protocol, Setup};
use crate::registry::Entry;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, ProviderError};

/// Ollama's own API. The key is for servers behind a proxy, and for Ollama's cloud.
pub(crate) static OLLAMA: Entry = Entry {
    name: "ollama",
    provider: "ollama",
    base_url: "http://localhost:11434",
    key_variable: "OLLAMA_API_KEY",
    needs_key: false,
    by_environment: Some("OLLAMA_BASE_URL"),
    key_header: KeyHeader::Bearer,
    headers: &[],
    open,
};

#[derive(Debug)]
struct Ollama {
    chat: Uri,
    tags: Uri,
    embed: Uri,
}

fn open(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    Ok(Box::new(Ollama {
        chat: setup.route("api/chat")?,
        tags: setup.route("api/tags")?,
        embed: setup.route("api/embed")?,
    }))
}

impl Protocol for Ollama {
    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
        request::chat(self.chat.clone(), request)
    }

    fn answer(&self, _: &ChatRequest, asked: &Asked, body: Bytes) -> Result<Complete, ProviderError> {
        answer::complete(asked, &body)
    }

    fn framing(&self) -> Framing {
        Framing::Ndjson
    }

    fn conversion(&self, _: &ChatRequest, asked: Asked) -> Box<dyn Conversion> {
        Box::new(answer::Lines::new(asked))
    }

    fn error(&self, body: &[u8]) -> Failure {
        crate::openai::error(body)
    }

    fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
        request::embeddings(self.embed.clone(), request)
    }

    fn embeddings_answer(
        &self,
        request: &EmbeddingsRequest,
        asked: &Asked,
        body: Bytes,
    ) -> Result<Complete, ProviderError> {
        answer::embeddings(request, asked, &body)
    }

    fn models(&self) -> Outgoing {
        Outgoing::get(self.tags.clone())
    }

    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
        let tags: wire::Tags = serde_json::from_slice(body)
            .map_err(|_| ProviderError::BadAnswer { what: "not a list of models" })?;
        Ok(tags.models.into_iter().filter_map(|model| ModelId::new(model.name).ok()).collect())
    }
}

#[cfg(test)]
mod tests;
