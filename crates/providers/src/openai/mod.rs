//! OpenAI and every server that is compatible with it (API reference, "Chat Completions", "Embeddings", "Models").

mod convert;
mod wire;

pub(crate) use convert::{error, event};

use accounting::ModelId;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Response, Uri};
use hyper::body::Incoming;
use serde_json::{Map, Value};
use url::Url;

use crate::answer::{Answer, AnswerStream, Complete};
use crate::client::HttpClient;
use crate::{ChatRequest, EmbeddingsRequest, ProviderError};

/// A server with OpenAI's routes.
#[derive(Debug)]
pub(crate) struct Server {
    client: HttpClient,
    chat: Uri,
    embeddings: Uri,
    models: Uri,
    /// OpenAI itself calls the field `max_completion_tokens`; most compatible servers know only the older name.
    official: bool,
}

impl Server {
    pub(crate) fn new(client: HttpClient, base_url: &Url) -> Result<Self, String> {
        let base = base_url.as_str().trim_end_matches('/');
        let route = |path: &str| {
            format!("{base}/{path}")
                .parse::<Uri>()
                .map_err(|error| format!("its base_url can't be used: {error}"))
        };
        Ok(Self {
            client,
            chat: route("chat/completions")?,
            embeddings: route("embeddings")?,
            models: route("models")?,
            official: base_url.host_str() == Some("api.openai.com"),
        })
    }

    pub(crate) const fn output_limit_field(&self) -> &'static str {
        if self.official { "max_completion_tokens" } else { "max_tokens" }
    }

    pub(crate) async fn chat(&self, request: &ChatRequest) -> Result<Answer, ProviderError> {
        let body = encode(request.body())?;
        let response = self.client.send(Method::POST, self.chat.clone(), body, request.stream()).await?;
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.starts_with("text/event-stream") {
            let request_id = request_id(&response);
            return Ok(Answer::Stream(AnswerStream::new(
                response.into_body(),
                self.client.limits.idle,
                request_id,
            )));
        }
        // Some servers answer a request for a stream with a whole answer.
        Ok(Answer::Complete(self.complete(response).await?))
    }

    pub(crate) async fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Complete, ProviderError> {
        let body = encode(request.body())?;
        let response = self.client.send(Method::POST, self.embeddings.clone(), body, false).await?;
        self.complete(response).await
    }

    pub(crate) async fn models(&self) -> Result<Vec<ModelId>, ProviderError> {
        let response = self.client.send(Method::GET, self.models.clone(), Bytes::new(), false).await?;
        let body = self.client.read(response.into_body()).await?;
        convert::models(&body)
    }

    async fn complete(&self, response: Response<Incoming>) -> Result<Complete, ProviderError> {
        let request_id = request_id(&response);
        let body = self.client.read(response.into_body()).await?;
        let mut complete = convert::complete(body)?;
        complete.request_id = request_id;
        Ok(complete)
    }
}

fn encode(body: &Map<String, Value>) -> Result<Bytes, ProviderError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|_| ProviderError::BadAnswer { what: "a request that can't be written" })
}

fn request_id(response: &Response<Incoming>) -> Option<String> {
    response.headers().get("x-request-id")?.to_str().ok().map(str::to_owned)
}
