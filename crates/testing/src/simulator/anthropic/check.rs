//! What Anthropic's API refuses, as far as a converter could get it wrong.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::messages::{Turn, is_name, is_of_system, messages, texts, turns};
use crate::simulator::asked::{Incoming, Refused};

const FIELDS: [&str; 22] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "service_tier",
    "container",
    "cache_control",
    "output_config",
    "output_format",
    "inference_geo",
    "context_management",
    "speed",
    "diagnostics",
];
/// The smallest budget for thinking, in tokens.
const SMALLEST_BUDGET: u64 = 1024;
/// The beta by which messages may be of the system.
const SYSTEM_AMID: &str = "mid-conversation-system";
/// Marks for the cache in one request.
const MOST_MARKS: usize = 4;

pub(super) fn headers(incoming: &Incoming) -> Result<(), Refused> {
    if !incoming.has("x-api-key") && !incoming.has_bearer() {
        return Err(Refused::new(401, "x-api-key header is required"));
    }
    if !incoming.has("anthropic-version") {
        return Err(Refused::new(400, "anthropic-version: header is required"));
    }
    Ok(())
}

/// Whether messages may be of the system, amid the conversation.
pub(super) fn takes_system_amid(incoming: &Incoming) -> bool {
    let mut betas = incoming.headers.get_all("anthropic-beta").iter().filter_map(|betas| betas.to_str().ok());
    betas.any(|betas| betas.contains(SYSTEM_AMID))
}

/// The messages that are not of the system.
pub(super) fn spoken(messages: &[Value]) -> Vec<Value> {
    messages.iter().filter(|message| !is_of_system(message)).cloned().collect()
}

/// Whether thinking is on.
pub(super) fn thinks(body: &Value) -> bool {
    matches!(kind_of_thinking(body), Some("enabled" | "adaptive"))
}

fn kind_of_thinking(body: &Value) -> Option<&str> {
    body.pointer("/thinking/type").and_then(Value::as_str)
}

pub(super) fn body(body: &Value, takes_system_amid: bool) -> Result<(), Refused> {
    let Some(object) = body.as_object() else { return no("The request body is not valid JSON") };
    if let Some(field) = object.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return no(format!("{field}: Extra inputs are not permitted"));
    }
    let max_tokens = match object.get("max_tokens").map(Value::as_u64) {
        None => return no("max_tokens: Field required"),
        Some(None | Some(0)) => return no("max_tokens: must be greater than or equal to 1"),
        Some(Some(tokens)) => tokens,
    };
    if !object.get("model").is_some_and(Value::is_string) {
        return no("model: Field required");
    }
    if object.get("system").is_some_and(|system| !system.is_string() && !system.is_array()) {
        return no("system: Input should be a valid list");
    }
    texts(object.get("system"), "system")?;
    sampling(object)?;
    tools(object)?;
    thinking(object, body, max_tokens)?;
    if let Some(Value::Array(stops)) = object.get("stop_sequences")
        && stops.iter().any(|stop| stop.as_str().is_none_or(|stop| stop.trim().is_empty()))
    {
        return no("stop_sequences: each stop sequence must contain non-whitespace");
    }
    if let Some(format) = body.pointer("/output_config/format/schema") {
        schema(format)?;
    }
    if marks(body) > MOST_MARKS {
        return no(format!("A maximum of {MOST_MARKS} blocks with cache_control may be provided"));
    }
    let turns = turns(body, takes_system_amid)?;
    let has_calls = turns.iter().any(Turn::has_calls);
    if has_calls && object.get("tools").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return no("Requests which include `tool_use` or `tool_result` blocks must define tools.");
    }
    if version(object) >= (4, 6) && turns.last().is_some_and(|turn| !turn.user) {
        return no(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        );
    }
    messages(&turns, kind_of_thinking(body) == Some("enabled"), thinks(body))
}

pub(super) fn no<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::new(400, message))
}

fn sampling(object: &Map<String, Value>) -> Result<(), Refused> {
    let number = |field: &str| object.get(field).filter(|value| !value.is_null());
    for field in ["temperature", "top_p"] {
        let fits = |value: &Value| value.as_f64().is_some_and(|value| (0.0..=1.0).contains(&value));
        if number(field).is_some_and(|value| !fits(value)) {
            return no(format!("{field}: range: 0..1"));
        }
    }
    let version = version(object);
    if version >= (4, 7) && ["temperature", "top_p", "top_k"].into_iter().any(|field| number(field).is_some())
    {
        return no("`temperature`, `top_p` and `top_k` are not supported by this model.");
    }
    if version >= (4, 1) && number("temperature").is_some() && number("top_p").is_some() {
        return no("`temperature` and `top_p` cannot both be specified for this model. Please use only one.");
    }
    Ok(())
}

/// The generation of the model, as its name tells: `claude-sonnet-4-5` is of 4.5.
fn version(object: &Map<String, Value>) -> (u64, u64) {
    let model = object.get("model").and_then(Value::as_str).unwrap_or_default();
    // Longer numbers are dates.
    let mut numbers = model.split('-').filter(|word| word.len() <= 2).filter_map(|word| word.parse().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// Whether thinking is signed without being shown: newer models do so unless asked.
pub(super) fn omits_thinking(body: &Value) -> bool {
    match body.pointer("/thinking/display").and_then(Value::as_str) {
        Some(display) => display == "omitted",
        None => body.as_object().is_some_and(|object| version(object) >= (4, 7)),
    }
}

/// Every object of a schema must be closed.
fn schema(value: &Value) -> Result<(), Refused> {
    if value.get("type").and_then(Value::as_str) == Some("object")
        && value.get("additionalProperties") != Some(&Value::Bool(false))
    {
        return no(
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        );
    }
    match value {
        Value::Object(map) => map.values().try_for_each(schema),
        Value::Array(list) => list.iter().try_for_each(schema),
        _ => Ok(()),
    }
}

fn tools(object: &Map<String, Value>) -> Result<(), Refused> {
    let mut names = HashSet::new();
    for (index, tool) in object.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        if !is_name(name, 128) {
            return no(format!(
                "tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            ));
        }
        if !names.insert(name) {
            return no("tools: Tool names must be unique.");
        }
        if tool.pointer("/input_schema/type").and_then(Value::as_str) != Some("object") {
            return no(format!("tools.{index}.custom.input_schema.type: Field required"));
        }
        let fields = [
            "name",
            "description",
            "input_schema",
            "type",
            "cache_control",
            "strict",
            "eager_input_streaming",
        ];
        let unknown =
            tool.as_object().into_iter().flatten().find(|(field, _)| !fields.contains(&field.as_str()));
        if let Some((field, _)) = unknown {
            return no(format!("tools.{index}.custom.{field}: Extra inputs are not permitted"));
        }
        if tool.get("eager_input_streaming").is_some_and(|eager| !eager.is_boolean() && !eager.is_null()) {
            return no(format!(
                "tools.{index}.custom.eager_input_streaming: Input should be a valid boolean"
            ));
        }
    }
    match object.get("tool_choice") {
        None | Some(Value::Null) => Ok(()),
        Some(_) if names.is_empty() => no("tool_choice may only be specified while providing tools"),
        Some(choice) => match choice.get("type").and_then(Value::as_str) {
            Some("auto" | "any" | "none") => Ok(()),
            Some("tool")
                if names.contains(choice.get("name").and_then(Value::as_str).unwrap_or_default()) =>
            {
                Ok(())
            }
            _ => no("tool_choice: Input does not match any of the expected tags or tools"),
        },
    }
}

fn thinking(object: &Map<String, Value>, body: &Value, max_tokens: u64) -> Result<(), Refused> {
    match kind_of_thinking(body) {
        Some("enabled") => {
            let budget = body.pointer("/thinking/budget_tokens").and_then(Value::as_u64).unwrap_or_default();
            if version(object) >= (4, 7) {
                return no(
                    "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\".",
                );
            }
            if budget < SMALLEST_BUDGET {
                return no(format!("thinking.enabled.budget_tokens: must be at least {SMALLEST_BUDGET}"));
            }
            if budget >= max_tokens {
                return no("`max_tokens` must be greater than `thinking.budget_tokens`.");
            }
        }
        Some("adaptive") if version(object) < (4, 6) => {
            return no("adaptive thinking is not supported on this model");
        }
        Some("adaptive") => {}
        Some("between_tools") => return Ok(()),
        Some("disabled") => return Ok(()),
        None if object.get("thinking").is_none_or(Value::is_null) => return Ok(()),
        _ => {
            return no(
                "thinking: Input tag does not match any of the expected tags: 'enabled', 'disabled', 'adaptive'",
            );
        }
    }
    let is = |field: &str, fits: fn(f64) -> bool| {
        object.get(field).is_none_or(|value| value.as_f64().is_none_or(fits))
    };
    if !is("temperature", |value| value.total_cmp(&1.0).is_eq()) {
        return no("`temperature` may only be set to 1 when thinking is enabled.");
    }
    if !is("top_p", |value| value >= 0.95) {
        return no("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.");
    }
    if object.get("top_k").is_some_and(|value| !value.is_null()) {
        return no("`top_k` must be unset when thinking is enabled.");
    }
    if matches!(body.pointer("/tool_choice/type").and_then(Value::as_str), Some("any" | "tool")) {
        return no("Thinking may not be enabled when tool_choice forces tool use.");
    }
    Ok(())
}

fn marks(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(marks).sum(),
        Value::Object(map) => map
            .iter()
            .map(
                |(key, value)| {
                    if key == "cache_control" { usize::from(!value.is_null()) } else { marks(value) }
                },
            )
            .sum(),
        _ => 0,
    }
}
