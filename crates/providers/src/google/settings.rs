//! From OpenAI's parameters to Google's `generationConfig` and what stands beside it: what is passed, what is refused because
//! it would change what is billed or what the client gets, and what is left out by name.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::thinking::{self, Thinking};
use crate::conversation::{Format, Reasoning, bad, reasoning, response_format, stop};
use crate::{BadRequest, ChatRequest};

/// `stopSequences` ends here ("Generating content", GenerationConfig).
const MOST_STOPS: usize = 5;
/// `candidateCount` ends here.
const MOST_CHOICES: u64 = 8;
/// `logprobs` ends here.
const MOST_LOGPROBS: u64 = 20;

/// Fields of a chat that are read elsewhere, or that say what is so anyway.
const READ: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "reasoning",
    "service_tier",
    "modalities",
];

/// Fields under Google's own names that go on, in both of the spellings that Google takes.
const PASSED: &[&str] = &[
    "generationConfig",
    "generation_config",
    "thinkingConfig",
    "thinking_config",
    "safetySettings",
    "safety_settings",
];

/// Google's fields that buy what has no price here, or that would go around what is read of a chat.
const REFUSED: &[(&str, &str)] = &[
    ("serviceTier", "only the default tier has a price"),
    ("responseModalities", "only text output has a price"),
    ("speechConfig", "only text output has a price"),
    ("imageConfig", "only text output has a price"),
    ("googleSearch", "the provider's own tools have no price"),
    ("googleSearchRetrieval", "the provider's own tools have no price"),
    ("googleMaps", "the provider's own tools have no price"),
    ("codeExecution", "the provider's own tools have no price"),
    ("urlContext", "the provider's own tools have no price"),
    ("fileSearch", "the provider's own tools have no price"),
    ("computerUse", "the provider's own tools have no price"),
    ("toolConfig", "use tool_choice"),
    ("contents", "use messages"),
    ("systemInstruction", "use a message of the role system"),
    ("candidateCount", "use n"),
    // One key sees what all have stored.
    ("cachedContent", "what is kept at the provider is kept for all; send it in the request"),
];

/// Fields of a client's own `generationConfig` that go on as they are.
const GENERATION: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseLogprobs",
    "logprobs",
    "mediaResolution",
    "enableEnhancedCivicAnswers",
];

/// The categories that can be set ("Safety settings"); the others always apply.
const CATEGORIES: [&str; 4] = [
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
];

/// Everything of a request that is neither message nor tool.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub generation: Map<String, Value>,
    pub safety: Option<Cow<'a, Value>>,
    /// Fields that are left out.
    pub omitted: Vec<String>,
}

/// Reads them.
///
/// # Errors
/// Names the field that can't be had.
pub(super) fn read(request: &ChatRequest, permissive_safety: bool) -> Result<Settings<'_>, BadRequest> {
    let body = request.body();
    refuse(body.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name), "")?;
    let mut omitted = Vec::new();
    for (field, value) in body {
        let as_ever = value.is_null() || (field == "parallel_tool_calls" && *value == Value::Bool(true));
        if !as_ever && !READ.contains(&field.as_str()) && !PASSED.contains(&field.as_str()) {
            omitted.push(field.clone());
        }
    }
    let mut generation = own_generation(body, &mut omitted)?;
    parameters(request, &mut generation, &mut omitted)?;
    format(body, &mut generation)?;
    let thinking = thinking_config(request, &mut omitted)?;
    if !thinking.is_empty() {
        generation.insert("thinkingConfig".into(), thinking.into());
    }
    if let Some(made) = made_by(request.model()) {
        let asked = if wants_text_only(body) { &["TEXT"] } else { made };
        generation.insert("responseModalities".into(), json!(asked));
    }
    Ok(Settings { generation, safety: safety(body, permissive_safety)?, omitted })
}

/// What a model makes that makes more than text, or something else ("Image generation", "Speech generation"): some of them
/// refuse to make anything but all of that. It is charged by its class.
fn made_by(model: &str) -> Option<&'static [&'static str]> {
    let kinds: [(&str, &[&str]); 3] =
        [("-image", &["TEXT", "IMAGE"]), ("-tts", &["AUDIO"]), ("-native-audio", &["AUDIO"])];
    kinds.into_iter().find(|(kind, _)| model.contains(kind)).map(|(_, made)| made)
}

/// Whether a client wants words alone, in OpenAI's field or in Google's own.
fn wants_text_only(body: &Map<String, Value>) -> bool {
    let is_said = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let own = own(body, "generationConfig", "generation_config")
        .and_then(|(_, config)| own(config.as_object()?, "responseModalities", "response_modalities"));
    // Anything but text is refused elsewhere.
    body.get("modalities").is_some_and(is_said) || own.is_some_and(|(_, value)| is_said(value))
}

/// A field under Google's own name, in either spelling.
fn own<'a>(body: &'a Map<String, Value>, camel: &str, snake: &str) -> Option<(&'a str, &'a Value)> {
    [camel, snake]
        .into_iter()
        .find_map(|name| body.get_key_value(name))
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(_, value)| !value.is_null())
}

/// `snake_case` as Google's JSON has it: protobuf takes both.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = !out.is_empty(),
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

fn refuse<'a>(fields: impl Iterator<Item = &'a String>, within: &str) -> Result<(), BadRequest> {
    for field in fields {
        let name = camel(field);
        // OpenAI's field of that name is looked at elsewhere.
        if field == "service_tier" {
            continue;
        }
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(bad(format!("{within}{field}"), format!("`{field}` can't be used here: {why}")));
        }
    }
    Ok(())
}

fn object<'a>(field: &str, value: &'a Value) -> Result<&'a Map<String, Value>, BadRequest> {
    value.as_object().ok_or_else(|| bad(field, format!("{field} must be an object")))
}

/// The client's own `generationConfig`.
fn own_generation(
    body: &Map<String, Value>,
    omitted: &mut Vec<String>,
) -> Result<Map<String, Value>, BadRequest> {
    let Some((field, value)) = own(body, "generationConfig", "generation_config") else {
        return Ok(Map::new());
    };
    let config = object(field, value)?;
    let text_only = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(|one| one == "TEXT"));
    let refusable = config.iter().filter(|(name, value)| {
        let text_only = camel(name) == "responseModalities" && text_only(value);
        !value.is_null() && !text_only
    });
    refuse(refusable.map(|(name, _)| name), &format!("{field}."))?;
    let mut generation = Map::new();
    for (name, value) in config.iter().filter(|(_, value)| !value.is_null()) {
        let camel = camel(name);
        if GENERATION.contains(&camel.as_str()) {
            generation.insert(camel, value.clone());
        } else if !matches!(camel.as_str(), "thinkingConfig" | "responseModalities") {
            omitted.push(format!("{field}.{name}"));
        }
    }
    Ok(generation)
}

fn parameters(
    request: &ChatRequest,
    generation: &mut Map<String, Value>,
    omitted: &mut Vec<String>,
) -> Result<(), BadRequest> {
    let body = request.body();
    let given = |field: &str| body.get(field).filter(|value| !value.is_null());
    for (field, name) in [
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
    ] {
        match given(field) {
            Some(value) if value.is_number() => {
                generation.insert(name.into(), value.clone());
            }
            Some(_) => return Err(bad(field, format!("{field} must be a number"))),
            None => {}
        }
    }
    match given("seed") {
        // Google's seed has 32 bits.
        Some(seed) if seed.as_i64().is_some_and(|seed| i32::try_from(seed).is_ok()) => {
            generation.insert("seed".into(), seed.clone());
        }
        Some(_) => omitted.push("seed".into()),
        None => {}
    }
    let own_limit = match generation.get("maxOutputTokens") {
        Some(limit) => Some(limit.as_u64().ok_or_else(|| {
            bad("generationConfig.maxOutputTokens", "it must be a whole number, not negative")
        })?),
        None => None,
    };
    if let Some(limit) = [request.output_limit(), own_limit].into_iter().flatten().min() {
        generation.insert("maxOutputTokens".into(), limit.into());
    }
    let stops: Vec<&str> = stop(body)?.into_iter().filter(|text| !text.is_empty()).collect();
    if stops.len() > MOST_STOPS {
        return Err(bad("stop", format!("Google takes at most {MOST_STOPS} texts to stop at")));
    }
    if !stops.is_empty() {
        generation.insert("stopSequences".into(), stops.into());
    }
    match request.choices() {
        1 => {}
        n if n > MOST_CHOICES => {
            return Err(bad("n", format!("Google gives at most {MOST_CHOICES} answers")));
        }
        n => {
            generation.insert("candidateCount".into(), n.into());
        }
    }
    if given("logprobs") == Some(&Value::Bool(true)) {
        generation.insert("responseLogprobs".into(), true.into());
        if let Some(top) = given("top_logprobs") {
            let top = top.as_u64().filter(|top| *top <= MOST_LOGPROBS);
            let top = top.ok_or_else(|| {
                bad("top_logprobs", format!("top_logprobs must be a whole number from 0 to {MOST_LOGPROBS}"))
            })?;
            generation.insert("logprobs".into(), top.into());
        }
    }
    Ok(())
}

fn format(body: &Map<String, Value>, generation: &mut Map<String, Value>) -> Result<(), BadRequest> {
    let Some(format) = response_format(body)? else { return Ok(()) };
    generation.insert("responseMimeType".into(), "application/json".into());
    if let Format::Schema { schema, .. } = format {
        generation.remove("responseSchema");
        generation.insert("responseJsonSchema".into(), schema.clone());
    }
    Ok(())
}

/// The client's own `thinkingConfig`, wherever it stands, else what OpenAI's fields make of it.
fn thinking_config(
    request: &ChatRequest,
    omitted: &mut Vec<String>,
) -> Result<Map<String, Value>, BadRequest> {
    let body = request.body();
    let model = thinking::of_model(request.model());
    let wanted = reasoning(body)?;
    let within = own(body, "generationConfig", "generation_config")
        .and_then(|(_, config)| own(config.as_object()?, "thinkingConfig", "thinking_config"));
    let Some((field, value)) = own(body, "thinkingConfig", "thinking_config").or(within) else {
        let (mut config, possible) = thinking::config(model, wanted);
        if !possible {
            let field = if body.contains_key("reasoning_effort") { "reasoning_effort" } else { "reasoning" };
            omitted.push(field.into());
        }
        // OpenRouter's field: think, but don't show it.
        let exclude = body.get("reasoning").and_then(|reasoning| reasoning.get("exclude"));
        if exclude == Some(&Value::Bool(true)) && config.contains_key("includeThoughts") {
            config.insert("includeThoughts".into(), false.into());
        }
        return Ok(config);
    };
    let mut config = Map::new();
    for (name, value) in object(field, value)?.iter().filter(|(_, value)| !value.is_null()) {
        match camel(name).as_str() {
            known @ ("thinkingBudget" | "thinkingLevel" | "includeThoughts") => {
                config.insert(known.into(), value.clone());
            }
            _ => omitted.push(format!("{field}.{name}")),
        }
    }
    let shown = model != Thinking::None && wanted != Some(Reasoning::Off);
    if shown && config.get("thinkingBudget").and_then(Value::as_u64) != Some(0) {
        config.entry("includeThoughts").or_insert(Value::Bool(true));
    }
    Ok(config)
}

fn safety(body: &Map<String, Value>, permissive: bool) -> Result<Option<Cow<'_, Value>>, BadRequest> {
    match own(body, "safetySettings", "safety_settings") {
        Some((_, settings)) if settings.is_array() => Ok(Some(Cow::Borrowed(settings))),
        Some((field, _)) => Err(bad(field, format!("{field} must be a list"))),
        None if permissive => {
            let of = |category| json!({"category": category, "threshold": "BLOCK_NONE"});
            Ok(Some(Cow::Owned(CATEGORIES.into_iter().map(of).collect())))
        }
        None => Ok(None),
    }
}
