//! What of a request a compatible server must not get, can't take, or calls by another name. What a server takes as
//! OpenAI does needs no entry here, and then nothing is copied.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::conversation::bad;
use crate::{BadRequest, ChatRequest, Shape};

/// How a server differs from OpenAI's.
#[derive(Debug)]
pub(super) struct Dialect {
    /// Fields that would change the server or the price behind our back.
    refused: &'static [&'static str],
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
}

/// A chat as a server takes it.
#[derive(Debug)]
pub(super) struct Spoken<'a> {
    pub body: Cow<'a, Map<String, Value>>,
    /// What was left out.
    pub omitted: Vec<String>,
}

const PLAIN: Dialect = Dialect {
    refused: &[],
    refused_variants: &[],
    omitted: &[],
    omitted_of_messages: &[],
    one_choice: false,
    no_logprobs: false,
    only_max_tokens: false,
    asks_usage: false,
};

/// OpenAI's own.
pub(super) static OPENAI: Dialect = PLAIN;

/// Azure: searching the administrator's data costs extra, and names servers ("Azure OpenAI On Your Data").
pub(super) static AZURE: Dialect =
    Dialect { refused: &["data_sources", "dataSources", "enhancements"], ..PLAIN };

/// OpenRouter: a preset brings a model and settings of its own ("Presets"); `:online` searches the web ("Model Variants").
/// Its usage comes in full when it is asked for ("Usage Accounting").
pub(super) static OPENROUTER: Dialect =
    Dialect { refused: &["preset"], refused_variants: &["online"], asks_usage: true, ..PLAIN };

/// DeepSeek ("Create Chat Completion").
pub(super) static DEEPSEEK: Dialect =
    Dialect { omitted: &["logit_bias"], one_choice: true, only_max_tokens: true, ..PLAIN };

/// Groq ("OpenAI Compatibility", "Currently Unsupported OpenAI Features"); the tools of its compound systems cost extra.
pub(super) static GROQ: Dialect = Dialect {
    refused: &["compound_custom", "search_settings"],
    omitted: &["logit_bias", "top_logprobs"],
    omitted_of_messages: &["name", "reasoning_content", "reasoning_details"],
    one_choice: true,
    no_logprobs: true,
    ..PLAIN
};

/// vLLM: where to fetch a prompt's keys and values from is no matter of a client's.
pub(super) static VLLM: Dialect = Dialect { refused: &["kv_transfer_params"], ..PLAIN };

/// Text Generation Inference ("Messages API").
pub(super) static TGI: Dialect =
    Dialect { omitted: &["logit_bias"], one_choice: true, only_max_tokens: true, ..PLAIN };

/// LiteLLM: what its proxy takes for the server behind it, beside what is refused everywhere ("Proxy, Request Headers and
/// Parameters").
pub(super) static LITELLM: Dialect = Dialect {
    refused: &[
        "organization",
        "region_name",
        "aws_region_name",
        "aws_bedrock_runtime_endpoint",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_role_name",
        "azure_ad_token",
        "vertex_project",
        "vertex_location",
        "vertex_credentials",
        "input_cost_per_token",
        "output_cost_per_token",
        "model_info",
        "mock_response",
        "deployment_id",
        "guardrails",
    ],
    ..PLAIN
};

impl Dialect {
    /// A chat as this server takes it.
    ///
    /// # Errors
    /// Names the field that this server can't take.
    pub(super) fn chat<'a>(&self, request: &'a ChatRequest) -> Result<Spoken<'a>, BadRequest> {
        let body = request.body();
        self.refuse(body)?;
        if self.one_choice && request.choices() > 1 {
            return Err(bad("n", "this model server gives one answer at a time: leave n out"));
        }
        if self.no_logprobs && body.get("logprobs") == Some(&Value::Bool(true)) {
            return Err(bad("logprobs", "this model server tells no logprobs: leave logprobs out"));
        }
        let mut sent = Cow::Borrowed(body);
        let mut omitted = Vec::new();
        for field in self.omitted.iter().chain(self.no_logprobs.then_some(&"logprobs")) {
            if let Some(value) = body.get(*field) {
                sent.to_mut().shift_remove(*field);
                if !matches!(value, Value::Null | Value::Bool(false)) {
                    omitted.push((*field).to_owned());
                }
            }
        }
        self.clean_messages(&mut sent, &mut omitted);
        if self.only_max_tokens && body.contains_key("max_completion_tokens") {
            let sent = sent.to_mut();
            sent.shift_remove("max_completion_tokens");
            if let Some(limit) = request.output_limit() {
                sent.insert("max_tokens".into(), limit.into());
            }
        }
        if self.asks_usage && request.shape() == Shape::Chat {
            sent.to_mut().insert("usage".into(), json!({"include": true}));
        }
        Ok(Spoken { body: sent, omitted })
    }

    /// Refuses what would change the server or the price behind our back.
    ///
    /// # Errors
    /// Names the field.
    pub(super) fn refuse(&self, body: &Map<String, Value>) -> Result<(), BadRequest> {
        let said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        if let Some(field) = self.refused.iter().find(|field| body.get(**field).is_some_and(said)) {
            let message = format!(
                "`{field}` can't be used here: it would change what the request costs, or where it goes"
            );
            return Err(bad(*field, message));
        }
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
        let variants = model.split(':').skip(1);
        let refused = |variant: &str| self.refused_variants.contains(&variant);
        let preset = self.refused.contains(&"preset") && model.contains("@preset/");
        if preset || variants.into_iter().any(refused) {
            let message =
                format!("the model `{model}` can't be used here: it would bill extra, or be another model");
            return Err(bad("model", message));
        }
        Ok(())
    }

    fn clean_messages(&self, body: &mut Cow<'_, Map<String, Value>>, omitted: &mut Vec<String>) {
        let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<&str> = self
            .omitted_of_messages
            .iter()
            .filter(|field| messages.iter().any(|message| message.get(**field).is_some()))
            .copied()
            .collect();
        if found.is_empty() {
            return;
        }
        let messages = body.to_mut().get_mut("messages").and_then(Value::as_array_mut);
        for message in messages.into_iter().flatten().filter_map(Value::as_object_mut) {
            for field in &found {
                message.shift_remove(*field);
            }
        }
        omitted.extend(found.into_iter().map(|field| format!("messages.{field}")));
    }
}
