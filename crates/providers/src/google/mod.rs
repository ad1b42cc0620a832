//! Google's Gemini API (Gemini API reference, `v1beta`), spoken over plain HTTP: requests in [`request`] with their
//! [`settings`], [`thinking`] and [`media`], answers in [`answer`], which both whole and streamed come from [`reader`].

mod answer;
mod embeddings;
mod failure;
mod made;
mod media;
mod pieces;
mod reader;
mod request;
mod routes;
mod settings;
mod thinking;
mod usage;
mod wire;

use accounting::ModelId;
use bytes::Bytes;

use crate::answer::Complete;
use crate::error::Failure;
use crate::protocol::{Asked, Conversion, KeyHeader, Outgoing, Protocol, Setup};
use crate::registry::Entry;
use crate::{BadRequest, ChatRequest, EmbeddingsRequest, ProviderError};

use answer::{Origin, Stream};
use routes::Routes;

/// Google's Gemini API.
pub(crate) static GOOGLE: Entry = Entry {
    name: "google",
    provider: "google_genai",
    base_url: "https://generativelanguage.googleapis.com",
    key_variable: "GOOGLE_API_KEY",
    needs_key: true,
    by_environment: Some("GOOGLE_API_BASE_URL"),
    key_header: KeyHeader::Named("x-goog-api-key"),
    headers: &[],
    open,
};

/// What a model in Google's list must be able to do, to be in ours.
const METHODS: [&str; 3] = ["generateContent", "embedContent", "batchEmbedContents"];

#[derive(Debug)]
struct Google {
    routes: Routes,
    permissive_safety: bool,
}

fn open(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    let routes = Routes::new(&setup.base_url)?;
    Ok(Box::new(Google { routes, permissive_safety: setup.options.permissive_safety }))
}

impl Protocol for Google {
    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
        let method = if request.stream() { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let uri = self.routes.method(request.model(), method)?;
        request::convert(request, uri, self.permissive_safety)
    }

    fn answer(&self, request: &ChatRequest, asked: &Asked, body: Bytes) -> Result<Complete, ProviderError> {
        answer::complete(&Origin::new(request, asked.clone()), &body)
    }

    fn conversion(&self, request: &ChatRequest, asked: Asked) -> Box<dyn Conversion> {
        Box::new(Stream::new(Origin::new(request, asked)))
    }

    fn error(&self, body: &[u8]) -> Failure {
        failure::read(body)
    }

    fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
        let uri = self.routes.method(request.model(), "batchEmbedContents")?;
        embeddings::convert(request, uri)
    }

    fn embeddings_answer(
        &self,
        request: &EmbeddingsRequest,
        asked: &Asked,
        body: Bytes,
    ) -> Result<Complete, ProviderError> {
        embeddings::complete(request, asked, &body)
    }

    fn models(&self) -> Outgoing {
        Outgoing::get(self.routes.models.clone())
    }

    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
        let list: wire::Models = serde_json::from_slice(body)
            .map_err(|_| ProviderError::BadAnswer { what: "not a list of models" })?;
        let models = list.models.ok_or(ProviderError::BadAnswer { what: "not a list of models" })?;
        let able = models.into_iter().filter(|model| {
            model.supported_generation_methods.iter().any(|method| METHODS.contains(&method.as_str()))
        });
        Ok(able.filter_map(|model| ModelId::new(routes::bare_name(&model.name)).ok()).collect())
    }
}

#[cfg(test)]
mod tests;
