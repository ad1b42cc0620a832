//! A configured model server, and the kinds of servers that we know.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use accounting::{ModelId, ProviderName};
use url::Url;

use crate::client::HttpClient;
use crate::{
    Answer, ChatRequest, Complete, ConfigError, EmbeddingsRequest, ProviderError, TimeLimits, openai,
};

/// The protocol that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI's, and all that are compatible with it.
    OpenAi,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "openai" => Ok(Self::OpenAi),
            _ => Err(format!("`{text}` is no kind of provider that this program knows: write openai")),
        }
    }
}

impl Kind {
    /// Where servers of this kind are, if nothing else is said.
    pub const fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The price table's provider.
    pub name: ProviderName,
    /// The protocol.
    pub kind: Kind,
    /// The address below which its routes are, such as `https://api.openai.com/v1`.
    pub base_url: Url,
    /// Our key there.
    pub api_key: Option<Secret>,
    /// How long it may take.
    pub limits: TimeLimits,
}

/// A model server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: ProviderName,
    kind: Kind,
    server: openai::Server,
}

impl Provider {
    /// Sets it up; nothing is sent yet.
    ///
    /// # Errors
    /// Says what in its configuration can't be used.
    pub fn new(config: ProviderConfig) -> Result<Self, ConfigError> {
        let ProviderConfig { name, kind, base_url, api_key, limits } = config;
        let wrong = |what: String| ConfigError { provider: name.to_string(), what };
        if !matches!(base_url.scheme(), "http" | "https") || base_url.host_str().is_none() {
            return Err(wrong("its base_url must begin with http:// or https:// and name a host".into()));
        }
        let client =
            HttpClient::new(api_key.as_ref(), limits, base_url.scheme() == "https").map_err(wrong)?;
        let server = openai::Server::new(client, &base_url).map_err(wrong)?;
        Ok(Self(Arc::new(Inner { name, kind, server })))
    }

    /// Its name in the price table.
    pub fn name(&self) -> &ProviderName {
        &self.0.name
    }

    /// The protocol that it speaks.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The field by which a request limits its output, where it has none yet.
    pub fn output_limit_field(&self) -> &'static str {
        self.0.server.output_limit_field()
    }

    /// Sends a chat. Returns when the head of a stream has come, or the whole of another answer.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn chat(&self, request: &ChatRequest) -> Result<Answer, ProviderError> {
        self.0.server.chat(request).await
    }

    /// Sends texts to embed.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn embeddings(&self, request: &EmbeddingsRequest) -> Result<Complete, ProviderError> {
        self.0.server.embeddings(request).await
    }

    /// The models that the server offers.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn models(&self) -> Result<Vec<ModelId>, ProviderError> {
        self.0.server.models().await
    }
}
