//! What of a request a compatible server must not get, can't take, or calls by another name. What a server takes as
//! OpenAI does needs no entry here, and then nothing is copied.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::conversation::{JSON_WORDS, asks_for_any_json, bad};
use crate::names::folded;
use crate::refused::said;
use crate::{BadRequest, ChatRequest, Media, Shape};

/// How a server differs from OpenAI's.
#[derive(Debug)]
pub(super) struct Dialect {
    /// Fields that would change the server or the price behind our back, in whichever case.
    refused: &'static [&'static [&'static str]],
    /// Beginnings of such fields.
    refused_beginnings: &'static [&'static str],
    /// Such fields within `metadata`.
    refused_in_metadata: &'static [&'static str],
    /// Ends of a model's name, behind a colon, that would bill extra.
    refused_variants: &'static [&'static str],
    /// Fields that it rejects and that do no harm where they are missing.
    omitted: &'static [&'static str],
    /// The same, of messages.
    omitted_of_messages: &'static [&'static str],
    /// It gives one answer at a time.
    one_choice: bool,
    /// It rejects `logprobs`.
    no_logprobs: bool,
    /// It knows `max_tokens` only, and would ignore a limit of another name.
    only_max_tokens: bool,
    /// It tells its whole usage where `usage.include` asks for it.
    asks_usage: bool,
    /// What a model can't read itself it reads for a fee, unless told not to.
    reads_files: bool,
    /// It has no mode for JSON without a schema.
    json_in_words: bool,
    /// It has no completions of prompts.
    no_completions: bool,
}

/// A chat as a server takes it, written from the request as it is: a copy of it would take as much memory again.
#[derive(Debug)]
pub(super) struct Spoken<'a> {
    body: &'a Map<String, Value>,
    /// Fields that are not written, and those that are instead.
    without: Vec<&'static str>,
    with: Vec<(&'static str, Value)>,
    /// Fields of messages that are not written.
    without_in_messages: Vec<&'static str>,
    /// Words that the system prompt ends with.
    words: Option<&'static str>,
    /// What was left out.
    pub omitted: Vec<String>,
}

impl Spoken<'_> {
    /// Leaves out fields that are not missed.
    pub(super) fn leave_out(&mut self, fields: impl IntoIterator<Item = &'static str>) {
        self.without.extend(fields);
    }
}

/// Messages without some of their fields, and with words at the end of the system prompt.
struct Messages<'a>(&'a [Value], &'a [&'static str], Option<&'static str>);

/// An object without some of its fields.
struct Without<'a>(&'a Map<String, Value>, &'a [&'static str]);

impl Serialize for Spoken<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_whole = self.without.is_empty() && self.with.is_empty() && self.without_in_messages.is_empty();
        if is_whole && self.words.is_none() {
            return self.body.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.body {
            let with = self.with.iter().find(|(instead, _)| instead == name);
            match (with, value) {
                (Some((_, instead)), _) => map.serialize_entry(name, instead)?,
                (None, _) if self.without.contains(&name.as_str()) => {}
                (None, Value::Array(list)) if name == "messages" => {
                    map.serialize_entry(name, &Messages(list, &self.without_in_messages, self.words))?;
                }
                (None, value) => map.serialize_entry(name, value)?,
            }
        }
        for (name, value) in self.with.iter().filter(|(name, _)| !self.body.contains_key(*name)) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(messages, without, words) = self;
        let first = words.map(|words| (words, messages.first().and_then(|first| with_words(first, words))));
        let added = matches!(first, Some((_, None)));
        let mut list = serializer.serialize_seq(Some(messages.len() + usize::from(added)))?;
        if let Some((words, None)) = &first {
            list.serialize_element(&json!({"role": "system", "content": words}))?;
        }
        let joined = first.as_ref().and_then(|(_, joined)| joined.as_ref());
        for message in joined.into_iter().chain(&messages[usize::from(joined.is_some())..]) {
            match message {
                Value::Object(message) => list.serialize_element(&Without(message, without))?,
                message => list.serialize_element(message)?,
            }
        }
        list.end()
    }
}

impl Serialize for Without<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(object, without) = self;
        serializer.collect_map(object.iter().filter(|(name, _)| !without.contains(&name.as_str())))
    }
}

/// A message of the system with words at its end; `None` if it is no such message.
fn with_words(message: &Value, words: &str) -> Option<Value> {
    let role = message.get("role").and_then(Value::as_str);
    let mut message = message.as_object().filter(|_| role == Some("system"))?.clone();
    match message.get_mut("content")? {
        Value::String(text) => *text = format!("{text}\n\n{words}"),
        Value::Array(parts) => parts.push(json!({"type": "text", "text": words})),
        _ => return None,
    }
    Some(message.into())
}

const PLAIN: Dialect = Dialect {
    refused: &[],
    refused_beginnings: &[],
    refused_in_metadata: &[],
    refused_variants: &[],
    omitted: &[],
    omitted_of_messages: &[],
    one_choice: false,
    no_logprobs: false,
    only_max_tokens: false,
    asks_usage: false,
    reads_files: false,
    json_in_words: false,
    no_completions: false,
};

/// OpenAI's own.
pub(super) static OPENAI: Dialect = PLAIN;

/// Any other server that is called compatible: whatever stands behind the address, one of these may be read there.
pub(super) static COMPATIBLE: Dialect = Dialect {
    refused: &[LITELLM_FIELDS, VLLM_FIELDS, SERVICES],
    refused_beginnings: LITELLM_BEGINNINGS,
    omitted: &["num_retries", "max_retries"],
    ..PLAIN
};

/// Azure: searching the administrator's data costs extra, and names servers ("Azure OpenAI On Your Data").
pub(super) static AZURE: Dialect =
    Dialect { refused: &[&["data_sources", "datasources", "enhancements"]], ..PLAIN };

/// OpenRouter: a preset brings a model and settings of its own ("Presets"); `:online` searches the web ("Model Variants").
/// Its usage comes in full when it is asked for ("Usage Accounting"). Files are read by an engine that it chooses, some for
/// a fee for each page ("PDF Inputs").
pub(super) static OPENROUTER: Dialect = Dialect {
    refused: &[PRESET],
    refused_variants: &["online"],
    asks_usage: true,
    reads_files: true,
    ..PLAIN
};

/// Services that take what OpenAI takes, and sell more beside the model: see [`SERVICES`].
pub(super) static SERVICE: Dialect = Dialect { refused: &[SERVICES], ..PLAIN };

/// Perplexity, which knows answers in JSON by a schema alone ("Structured Outputs").
pub(super) static PERPLEXITY: Dialect =
    Dialect { refused: &[SERVICES], json_in_words: true, no_completions: true, ..PLAIN };

/// DeepSeek ("Create Chat Completion").
pub(super) static DEEPSEEK: Dialect =
    Dialect { omitted: &["logit_bias"], one_choice: true, only_max_tokens: true, ..PLAIN };

/// Groq ("OpenAI Compatibility", "Currently Unsupported OpenAI Features"); the tools of its compound systems cost extra.
pub(super) static GROQ: Dialect = Dialect {
    refused: &[&["compound_custom", "search_settings"]],
    omitted: &["logit_bias", "top_logprobs"],
    omitted_of_messages: &["name", "reasoning_content", "reasoning_details"],
    one_choice: true,
    no_logprobs: true,
    no_completions: true,
    ..PLAIN
};

/// vLLM.
pub(super) static VLLM: Dialect = Dialect { refused: &[VLLM_FIELDS], omitted: &["priority"], ..PLAIN };

/// Text Generation Inference ("Messages API"), whose `json_object` must bring a schema ("Guidance").
pub(super) static TGI: Dialect = Dialect {
    refused: &[TGI_FIELDS],
    json_in_words: true,
    omitted: &["logit_bias"],
    one_choice: true,
    only_max_tokens: true,
    ..PLAIN
};

/// LiteLLM's proxy. How often and from which cache it answers is the administrator's matter.
pub(super) static LITELLM: Dialect = Dialect {
    refused: &[LITELLM_FIELDS, LITELLM_ONLY, SERVICES],
    refused_beginnings: LITELLM_BEGINNINGS,
    refused_in_metadata: &["tags", "guardrails", "model_info", "model_group", "deployment", "headers"],
    omitted: &["num_retries", "max_retries", "cache", "caching", "ttl", "no-log", "priority"],
    ..PLAIN
};

/// Tgi's adapters are other models.
const TGI_FIELDS: &[&str] = &["adapter_id", "best_of"];

const PRESET: &[&str] = &["preset"];

/// vLLM ("Chat Completions API", "Extra parameters"; "Disaggregated prefilling"; "LoRA adapters"): where to fetch a prompt's
/// keys and values from, other weights, code by name, and answers that are thrown away after they were made.
const VLLM_FIELDS: &[&str] =
    &["kv_transfer_params", "lora_request", "logits_processors", "vllm_xargs", "best_of", "use_beam_search"];

/// Fields by which services search, moderate or compute beside the model, for a fee; or answer where nobody sees it.
/// Perplexity ("Chat Completions"), Cohere ("Chat"), xAI ("Deferred Chat Completions"), DashScope ("Qwen API reference"),
/// Hunyuan ("ChatCompletions"), Qianfan ("Chat"), Together ("Safety models").
const SERVICES: &[&str] = &[
    "search_mode",
    "return_images",
    "return_videos",
    "connectors",
    "deferred",
    "search_options",
    "enable_code_interpreter",
    "enable_enhancement",
    "enable_deep_search",
    "force_search_enhancement",
    "web_search",
    "safety_model",
];

/// What LiteLLM's proxy takes for the server behind it ("Proxy, Request Headers and Parameters", "Completion, Input
/// Params"), beside what is refused everywhere.
const LITELLM_FIELDS: &[&str] = &[
    "user_config",
    "specific_deployment",
    "vector_store_ids",
    "prompt_id",
    "prompt_variables",
    "prompt_version",
    "prompt_label",
    "region_name",
    "model_info",
    "base_model",
    "hf_model_name",
    "deployment_id",
    "guardrails",
    "guardrail_config",
    "provider_specific_header",
    "additional_drop_params",
    "context_window_fallback_dict",
    "retry_policy",
    "retry_strategy",
    "model_file_id_mapping",
    "proxy_server_request",
    "tenant_id",
    "client_secret",
];

/// The same, with names so plain that other servers may mean something harmless by them.
const LITELLM_ONLY: &[&str] =
    &["tags", "headers", "organization", "azure", "client_id", "api_type", "max_budget", "budget_duration"];

/// Beginnings of such names: credentials, regions, prices, made-up answers, the proxy's own matters.
const LITELLM_BEGINNINGS: &[&str] = &[
    "aws_",
    "azure_",
    "vertex_",
    "watsonx_",
    "bedrock_",
    "s3_",
    "gcs_",
    "mock_",
    "litellm_",
    "input_cost_per_",
    "output_cost_per_",
    "langfuse_",
    "langsmith_",
];

/// Names that begin so and only say which requests belong together.
const HARMLESS: [&str; 3] = ["litellm_session_id", "litellm_trace_id", "litellm_call_id"];

impl Dialect {
    /// Whether such a server goes on with prompts.
    pub(super) const fn has_completions(&self) -> bool {
        !self.no_completions
    }

    /// A chat as this server takes it.
    ///
    /// # Errors
    /// Names the field that this server can't take.
    pub(super) fn chat<'a>(&self, request: &'a ChatRequest) -> Result<Spoken<'a>, BadRequest> {
        let body = request.body();
        self.refuse(body)?;
        if self.one_choice && request.for_each_prompt() > 1 {
            return Err(bad("n", "this model server gives one answer at a time: leave n out"));
        }
        if self.no_logprobs && body.get("logprobs") == Some(&Value::Bool(true)) {
            return Err(bad("logprobs", "this model server tells no logprobs: leave logprobs out"));
        }
        let (mut without, mut with, mut omitted) = (Vec::new(), Vec::new(), Vec::new());
        for field in self.omitted.iter().chain(self.no_logprobs.then_some(&"logprobs")) {
            if let Some(value) = body.get(*field) {
                without.push(*field);
                if !matches!(value, Value::Null | Value::Bool(false)) {
                    omitted.push((*field).to_owned());
                }
            }
        }
        let without_in_messages = self.foreign_in_messages(body);
        omitted.extend(without_in_messages.iter().map(|field| format!("messages.{field}")));
        if self.only_max_tokens && body.contains_key("max_completion_tokens") {
            without.push("max_completion_tokens");
            if let Some(limit) = request.output_limit() {
                with.push(("max_tokens", limit.into()));
            }
        }
        if self.asks_usage && matches!(request.shape(), Shape::Chat | Shape::Completions) {
            with.push(("usage", json!({"include": true})));
        }
        let names_engine = body.get("plugins").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if self.reads_files && !names_engine && request.media().iter().any(|media| !is_hidden(media)) {
            with.push(("plugins", json!([{"id": "file-parser", "pdf": {"engine": "native"}}])));
        }
        let words = (self.json_in_words && request.shape() == Shape::Chat && asks_for_any_json(body))
            .then_some(JSON_WORDS);
        if words.is_some() {
            without.push("response_format");
            omitted.push("response_format".into());
        }
        Ok(Spoken { body, without, with, without_in_messages, words, omitted })
    }

    /// Refuses what would change the server or the price behind our back.
    ///
    /// # Errors
    /// Names the field.
    pub(super) fn refuse(&self, body: &Map<String, Value>) -> Result<(), BadRequest> {
        let wrong = |field: &str| {
            let message = format!(
                "`{field}` can't be used here: it would change what the request costs, or where it goes"
            );
            Err(bad(field, message))
        };
        for (field, _) in body.iter().filter(|(_, value)| said(value)) {
            let name = folded(field);
            let begins = self.refused_beginnings.iter().any(|beginning| name.starts_with(beginning));
            let refused = self.refused.iter().any(|fields| fields.contains(&&*name));
            if refused || (begins && !HARMLESS.contains(&&*name)) {
                return wrong(field);
            }
        }
        if let Some(Value::Object(metadata)) = body.get("metadata") {
            let refused = |field: &&String| {
                let name = folded(field);
                self.refused_in_metadata.contains(&&*name)
                    || (!self.refused_in_metadata.is_empty() && name.starts_with("user_api_key"))
            };
            if let Some(field) = metadata.keys().find(refused) {
                return wrong(&format!("metadata.{field}"));
            }
        }
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
        let variants = model.split(':').skip(1);
        let refused = |variant: &str| self.refused_variants.contains(&variant);
        let preset = self.refused.contains(&PRESET) && model.contains("@preset/");
        if preset || variants.into_iter().any(refused) {
            let message =
                format!("the model `{model}` can't be used here: it would bill extra, or be another model");
            return Err(bad("model", message));
        }
        Ok(())
    }

    /// The fields of messages that it rejects, and that are there.
    fn foreign_in_messages(&self, body: &Map<String, Value>) -> Vec<&'static str> {
        let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_there = |field: &&&str| messages.iter().any(|message| message.get(**field).is_some());
        self.omitted_of_messages.iter().filter(is_there).copied().collect()
    }
}

/// Whether that are thoughts, and nothing to look at.
const fn is_hidden(media: &Media) -> bool {
    matches!(media, Media::Hidden { .. })
}
