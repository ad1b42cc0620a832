//! What Anthropic's API refuses, as far as a converter could get it wrong.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::simulator::asked::{Incoming, Refused};
use crate::simulator::signature;

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

/// Whether thinking is on.
pub(super) fn thinks(body: &Value) -> bool {
    matches!(kind_of_thinking(body), Some("enabled" | "adaptive"))
}

fn kind_of_thinking(body: &Value) -> Option<&str> {
    body.pointer("/thinking/type").and_then(Value::as_str)
}

pub(super) fn body(body: &Value) -> Result<(), Refused> {
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
    if marks(body) > MOST_MARKS {
        return no(format!("A maximum of {MOST_MARKS} blocks with cache_control may be provided"));
    }
    messages(&turns(body)?, kind_of_thinking(body) == Some("enabled"), thinks(body))
}

fn no<T>(message: impl Into<String>) -> Result<T, Refused> {
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
    let model = object.get("model").and_then(Value::as_str).unwrap_or_default();
    let newer = ["-4-1", "-4-5", "-4-6", "-4-7"].iter().any(|part| model.contains(part));
    if newer && number("temperature").is_some() && number("top_p").is_some() {
        return no("`temperature` and `top_p` cannot both be specified for this model. Please use only one.");
    }
    Ok(())
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
        let fields = ["name", "description", "input_schema", "type", "cache_control", "strict"];
        let unknown =
            tool.as_object().into_iter().flatten().find(|(field, _)| !fields.contains(&field.as_str()));
        if let Some((field, _)) = unknown {
            return no(format!("tools.{index}.custom.{field}: Extra inputs are not permitted"));
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
            if budget < SMALLEST_BUDGET {
                return no(format!("thinking.enabled.budget_tokens: must be at least {SMALLEST_BUDGET}"));
            }
            if budget >= max_tokens {
                return no("`max_tokens` must be greater than `thinking.budget_tokens`.");
            }
        }
        Some("adaptive") => {}
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

/// The texts in a list of blocks.
fn texts(content: Option<&Value>, at: &str) -> Result<(), Refused> {
    for block in content.and_then(Value::as_array).into_iter().flatten() {
        if block.get("type").and_then(Value::as_str) == Some("text") {
            match block.get("text").and_then(Value::as_str) {
                Some("") | None => return no(format!("{at}: text content blocks must be non-empty")),
                Some(text) if text.trim().is_empty() => {
                    return no(format!("{at}: text content blocks must contain non-whitespace text"));
                }
                Some(_) => {}
            }
        }
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

/// A turn: all that one side says before the other speaks.
struct Turn<'a> {
    user: bool,
    blocks: Vec<&'a Value>,
}

/// The messages, those of one side in a row as one turn.
fn turns(body: &Value) -> Result<Vec<Turn<'_>>, Refused> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, message) in messages.iter().enumerate() {
        let user = match message.get("role").and_then(Value::as_str) {
            Some("user") => true,
            Some("assistant") => false,
            _ => return no(format!("messages.{index}.role: Input should be 'user' or 'assistant'")),
        };
        if let Some((field, _)) = message
            .as_object()
            .into_iter()
            .flatten()
            .find(|(field, _)| !matches!(field.as_str(), "role" | "content"))
        {
            return no(format!("messages.{index}.{field}: Extra inputs are not permitted"));
        }
        let last = index + 1 == messages.len();
        let blocks: Vec<&Value> = match message.get("content") {
            Some(Value::String(text)) if text.is_empty() && (user || !last) => {
                return no(format!("messages.{index}: all messages must have non-empty content"));
            }
            Some(Value::String(text)) if !user && last && text.ends_with(char::is_whitespace) => {
                return no("messages: final assistant content cannot end with trailing whitespace");
            }
            Some(text @ Value::String(_)) => vec![text],
            Some(Value::Array(blocks)) if blocks.is_empty() => {
                return no(format!("messages.{index}: all messages must have non-empty content"));
            }
            Some(Value::Array(blocks)) => blocks.iter().collect(),
            _ => return no(format!("messages.{index}.content: Field required")),
        };
        texts(message.get("content"), &format!("messages.{index}"))?;
        match turns.last_mut() {
            Some(turn) if turn.user == user => turn.blocks.extend(blocks),
            _ => turns.push(Turn { user, blocks }),
        }
    }
    Ok(turns)
}

fn messages(turns: &[Turn<'_>], must_think: bool, thinks: bool) -> Result<(), Refused> {
    match turns.first() {
        None => return no("messages: at least one message is required"),
        Some(turn) if !turn.user => return no("messages: first message must use the \"user\" role"),
        Some(_) => {}
    }
    if thinks && turns.last().is_some_and(|turn| !turn.user) {
        return no("When thinking is enabled, a final `assistant` message must start with a thinking block");
    }
    let mut called: Vec<&str> = Vec::new();
    let mut ids = HashSet::new();
    for turn in turns {
        let kinds: Vec<&str> = turn.blocks.iter().map(|block| kind(block)).collect();
        let known: &[&str] = if turn.user {
            &["text", "image", "document", "tool_result", "search_result"]
        } else {
            &["text", "thinking", "redacted_thinking", "tool_use"]
        };
        if let Some(other) = kinds.iter().find(|kind| !known.contains(kind)) {
            return no(format!(
                "messages: Input tag '{other}' found using 'type' does not match any of the expected tags"
            ));
        }
        let results: Vec<&str> = turn.blocks.iter().filter_map(|block| text(block, "tool_use_id")).collect();
        if let Some(id) = results.iter().find(|id| !called.contains(id)) {
            return no(format!(
                "messages: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            ));
        }
        if let Some(id) = called.iter().find(|id| !results.contains(id)) {
            return no(format!(
                "messages: `tool_use` ids were found without `tool_result` blocks immediately after: {id}"
            ));
        }
        if kinds.iter().skip_while(|kind| **kind == "tool_result").any(|kind| *kind == "tool_result") {
            return no("messages: `tool_result` blocks must come first in the content after a `tool_use`");
        }
        for block in &turn.blocks {
            self::block(block)?;
        }
        called = turn
            .blocks
            .iter()
            .filter(|block| kind(block) == "tool_use")
            .filter_map(|block| text(block, "id"))
            .collect();
        if let Some(id) = called.iter().find(|id| !is_name(id, 256)) {
            return no(format!(
                "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$': {id}"
            ));
        }
        if !called.iter().all(|id| ids.insert(*id)) {
            return no("messages: `tool_use` ids must be unique");
        }
    }
    // Only the calls whose results end the request must still have their thinking.
    let results_last =
        turns.last().is_some_and(|turn| turn.blocks.iter().any(|block| kind(block) == "tool_result"));
    let assistant = turns.iter().rev().find(|turn| !turn.user).and_then(|turn| turn.blocks.first());
    match assistant.map(|block| kind(block)) {
        Some(found) if must_think && results_last && !found.ends_with("thinking") => no(format!(
            "messages: Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final \
             `assistant` message must start with a thinking block."
        )),
        _ => Ok(()),
    }
}

fn block(block: &Value) -> Result<(), Refused> {
    match kind(block) {
        "thinking" => {
            let (thinking, signature) =
                (text(block, "thinking"), text(block, "signature").unwrap_or_default());
            let right = thinking.is_some_and(|thinking| signature::of_text(thinking) == signature);
            if right { Ok(()) } else { no("messages: Invalid `signature` in `thinking` block") }
        }
        "redacted_thinking" if !text(block, "data").is_some_and(signature::is_ours) => {
            no("messages: Invalid `data` in `redacted_thinking` block")
        }
        "tool_use" if !block.get("input").is_some_and(Value::is_object) => {
            no("messages: tool_use.input: Input should be a valid dictionary")
        }
        "tool_result" => {
            let content = block.get("content");
            texts(content, "messages: tool_result")?;
            content.and_then(Value::as_array).into_iter().flatten().try_for_each(self::block)
        }
        "image" => source(block, &["image/jpeg", "image/png", "image/gif", "image/webp"]),
        "document" => source(block, &["application/pdf", "text/plain"]),
        _ => Ok(()),
    }
}

fn source(block: &Value, media_types: &[&str]) -> Result<(), Refused> {
    let source = block.get("source").unwrap_or(&Value::Null);
    let has = |field| text(source, field).is_some_and(|text| !text.is_empty());
    match text(source, "type") {
        Some("base64" | "text") => {
            let media_type = text(source, "media_type").unwrap_or_default();
            if !media_types.contains(&media_type) {
                return no(format!("messages: source.media_type: Input should be one of {media_types:?}"));
            }
            if has("data") { Ok(()) } else { no("messages: source.data: Field required") }
        }
        Some("url") if has("url") => Ok(()),
        Some("file") if has("file_id") => Ok(()),
        Some("content") => Ok(()),
        _ => no("messages: source: Input does not match any of the expected tags"),
    }
}

fn kind(block: &Value) -> &str {
    if block.is_string() { "text" } else { text(block, "type").unwrap_or_default() }
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn is_name(name: &str, most: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=most).contains(&name.len()) && name.bytes().all(fits)
}
