//! Where servers that are compatible with OpenAI's are, how they take our key, and which [`Dialect`] they speak.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::OpenAi;
use super::dialect::{self, Dialect};
use crate::BadRequest;
use crate::protocol::{KeyHeader, Protocol, Setup};
use crate::registry::Entry;

/// OpenAI itself, and every compatible server that needs nothing special.
pub(crate) static OPENAI: Entry = Entry {
    name: "openai",
    provider: "openai",
    base_url: "https://api.openai.com/v1",
    key_variable: "OPENAI_API_KEY",
    needs_key: true,
    by_environment: Some("OPENAI_API_BASE_URL"),
    key_header: KeyHeader::Bearer,
    headers: &[],
    open,
};

/// Azure OpenAI ("Azure OpenAI in Foundry Models REST API reference"): the key in a header of its own; with an
/// `api_version` the dated routes, which name the deployment, else the `v1` routes.
pub(crate) static AZURE: Entry = Entry {
    name: "azure",
    provider: "azure",
    base_url: "",
    key_variable: "AZURE_OPENAI_API_KEY",
    needs_key: true,
    by_environment: None,
    key_header: KeyHeader::Named("api-key"),
    headers: &[],
    open: open_azure,
};

/// OpenRouter ("API Reference").
pub(crate) static OPENROUTER: Entry =
    compatible("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", |setup| {
        open_as(setup, &dialect::OPENROUTER)
    });

/// DeepSeek ("DeepSeek API Docs").
pub(crate) static DEEPSEEK: Entry =
    compatible("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", |setup| {
        open_as(setup, &dialect::DEEPSEEK)
    });

/// Groq ("API Reference").
pub(crate) static GROQ: Entry =
    compatible("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", |setup| {
        open_as(setup, &dialect::GROQ)
    });

/// vLLM ("OpenAI-Compatible Server").
pub(crate) static VLLM: Entry =
    compatible("vllm", "http://localhost:8000/v1", "VLLM_API_KEY", |setup| open_as(setup, &dialect::VLLM));

/// Text Generation Inference ("Messages API").
pub(crate) static TGI: Entry =
    compatible("tgi", "http://localhost:8080/v1", "HF_TOKEN", |setup| open_as(setup, &dialect::TGI));

/// LiteLLM's proxy ("LiteLLM Proxy Server").
pub(crate) static LITELLM: Entry =
    compatible("litellm", "http://localhost:4000/v1", "LITELLM_API_KEY", |setup| {
        open_as(setup, &dialect::LITELLM)
    });

/// xAI ("REST API Reference").
pub(crate) static XAI: Entry = compatible("xai", "https://api.x.ai/v1", "XAI_API_KEY", open_service);

/// Perplexity ("Sonar API").
pub(crate) static PERPLEXITY: Entry =
    compatible("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY", |setup| {
        open_as(setup, &dialect::PERPLEXITY)
    });

/// Moonshot AI ("Chat Completions").
pub(crate) static MOONSHOT: Entry =
    compatible("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", open_service);

/// Alibaba Cloud Model Studio, also called DashScope ("OpenAI-compatible - Chat"): each workspace has its own address.
pub(crate) static DASHSCOPE: Entry = compatible("dashscope", "", "DASHSCOPE_API_KEY", open_service);

/// Together AI ("OpenAI compatibility").
pub(crate) static TOGETHER: Entry =
    compatible("together", "https://api.together.ai/v1", "TOGETHER_API_KEY", open_service);

/// Fireworks AI ("OpenAI compatibility").
pub(crate) static FIREWORKS: Entry =
    compatible("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", open_service);

/// Voyage AI ("Text embedding models"), which has embeddings alone.
pub(crate) static VOYAGE: Entry =
    compatible("voyage", "https://api.voyageai.com/v1", "VOYAGE_API_KEY", open_service);

const fn compatible(
    name: &'static str,
    base_url: &'static str,
    key_variable: &'static str,
    open: fn(&Setup) -> Result<Box<dyn Protocol>, String>,
) -> Entry {
    Entry {
        name,
        provider: name,
        base_url,
        key_variable,
        needs_key: false,
        by_environment: None,
        key_header: KeyHeader::Bearer,
        headers: &[],
        open,
    }
}

/// What may stand in a part of a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The addresses of a server's routes.
#[derive(Debug)]
pub(super) struct Routes {
    chat: Uri,
    embeddings: Uri,
    responses: Uri,
    count: Uri,
    completions: Uri,
    pub(super) models: Uri,
    /// Azure's dated routes: the model is a deployment, and part of the address.
    dated: Option<Dated>,
}

#[derive(Debug)]
struct Dated {
    base: String,
    version: String,
    /// As a part of a path; without one, it has the name of the model.
    deployment: Option<String>,
}

impl Routes {
    fn new(setup: &Setup) -> Result<Self, String> {
        Ok(Self {
            chat: setup.route("chat/completions")?,
            embeddings: setup.route("embeddings")?,
            responses: setup.route("responses")?,
            count: setup.route("responses/input_tokens")?,
            completions: setup.route(completions_of(setup))?,
            models: setup.route("models")?,
            dated: None,
        })
    }

    pub(super) fn chat(&self, model: &str) -> Result<Uri, BadRequest> {
        self.of_model(&self.chat, model, "chat/completions")
    }

    pub(super) fn responses(&self) -> Result<Uri, BadRequest> {
        self.undated(&self.responses)
    }

    pub(super) fn count(&self) -> Result<Uri, BadRequest> {
        self.undated(&self.count)
    }

    fn undated(&self, uri: &Uri) -> Result<Uri, BadRequest> {
        if self.dated.is_some() {
            let message = "the provider's dated routes have no responses: leave out its api_version";
            return Err(BadRequest::new(message, Some("model".into())));
        }
        Ok(uri.clone())
    }

    pub(super) fn completions(&self, model: &str) -> Result<Uri, BadRequest> {
        self.of_model(&self.completions, model, "completions")
    }

    pub(super) fn embeddings(&self, model: &str) -> Result<Uri, BadRequest> {
        self.of_model(&self.embeddings, model, "embeddings")
    }

    fn of_model(&self, plain: &Uri, model: &str, path: &str) -> Result<Uri, BadRequest> {
        let Some(Dated { base, version, deployment }) = &self.dated else { return Ok(plain.clone()) };
        let model = deployment.clone().unwrap_or_else(|| utf8_percent_encode(model, PATH).to_string());
        let uri = format!("{base}/openai/deployments/{model}/{path}?api-version={version}");
        uri.parse().map_err(|_| {
            let message = "this model's name can't be the name of a deployment";
            BadRequest::new(message, Some("model".into()))
        })
    }
}

/// Where completions of prompts are. DeepSeek has them beside its other routes ("FIM Completion").
fn completions_of(setup: &Setup) -> &'static str {
    let is_deepseeks = setup.base_url.host_str() == Some("api.deepseek.com");
    let is_beta = setup.base_url.path().trim_end_matches('/').ends_with("/beta");
    if is_deepseeks && !is_beta { "beta/completions" } else { "completions" }
}

/// OpenAI's own server.
pub(crate) const HOST: &str = "api.openai.com";

fn open(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    // Whoever names such a server by its address alone gets its dialect too: what it would bill extra stays refused.
    let dialect = match setup.base_url.host_str() {
        Some("openrouter.ai") => &dialect::OPENROUTER,
        Some("api.groq.com") => &dialect::GROQ,
        Some("api.deepseek.com") => &dialect::DEEPSEEK,
        Some(HOST) => {
            let output_limit_field = "max_completion_tokens";
            let routes = Routes::new(setup)?;
            return Ok(Box::new(OpenAi { routes, output_limit_field, dialect: &dialect::OPENAI }));
        }
        _ => &dialect::COMPATIBLE,
    };
    open_as(setup, dialect)
}

fn open_service(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    open_as(setup, &dialect::SERVICE)
}

fn open_as(setup: &Setup, dialect: &'static Dialect) -> Result<Box<dyn Protocol>, String> {
    Ok(Box::new(OpenAi { routes: Routes::new(setup)?, output_limit_field: "max_tokens", dialect }))
}

/// Ends of the names of Azure's servers ("Azure OpenAI in Foundry Models REST API reference", "Endpoints for Foundry
/// Models").
const AZURE_HOSTS: [&str; 6] = [
    ".openai.azure.com",
    ".services.ai.azure.com",
    ".cognitiveservices.azure.com",
    // The clouds of governments.
    ".openai.azure.us",
    ".services.ai.azure.us",
    ".cognitiveservices.azure.us",
];

/// Whether a server is Azure's.
pub(crate) fn is_azure(base_url: &Url) -> bool {
    let host = base_url.host_str().unwrap_or_default();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    AZURE_HOSTS.iter().any(|end| host.ends_with(end))
}

/// What an address of Azure's says, however much of a route somebody pasted.
#[derive(Debug, PartialEq, Eq)]
struct Pasted {
    /// The address without a path of a route.
    base: String,
    deployment: Option<String>,
    version: Option<String>,
}

impl Pasted {
    fn read(base_url: &Url) -> Self {
        let version = base_url.query_pairs().find(|(name, _)| name == "api-version");
        let version = version.map(|(_, version)| version.into_owned()).filter(|version| !version.is_empty());
        let mut url = base_url.clone();
        url.set_query(None);
        url.set_fragment(None);
        let base = url.as_str().trim_end_matches('/');
        let (base, deployment) = match base.split_once("/openai/deployments/") {
            Some((base, rest)) => (base, rest.split('/').next().map(str::to_owned)),
            None => (base, None),
        };
        let routes = ["/chat/completions", "/v1", "/openai", "/models"];
        let base = routes.iter().fold(base, |base, route| base.strip_suffix(route).unwrap_or(base));
        Self { base: base.to_owned(), deployment: deployment.filter(|name| !name.is_empty()), version }
    }
}

fn open_azure(setup: &Setup) -> Result<Box<dyn Protocol>, String> {
    let Pasted { base, deployment, version } = Pasted::read(&setup.base_url);
    let routes = match setup.options.api_version.clone().or(version) {
        None if deployment.is_some() => {
            return Err("its base_url names a deployment: write its api_version too".into());
        }
        None => {
            let base_url = Url::parse(&format!("{base}/openai/v1")).map_err(|error| error.to_string())?;
            Routes::new(&Setup { base_url, options: setup.options.clone() })?
        }
        Some(version) => {
            let version = utf8_percent_encode(&version, PATH).to_string();
            let models = format!("{base}/openai/models?api-version={version}");
            let models = models.parse().map_err(|error| format!("its base_url can't be used: {error}"))?;
            let dated = Some(Dated { base, version, deployment });
            Routes { dated, models, ..Routes::new(setup)? }
        }
    };
    let output_limit_field = "max_completion_tokens";
    Ok(Box::new(OpenAi { routes, output_limit_field, dialect: &dialect::AZURE }))
}
