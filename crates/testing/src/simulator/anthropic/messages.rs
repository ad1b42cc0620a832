//! What Anthropic's API refuses in messages: turns, calls and their results, thinking, pictures.

use std::collections::HashSet;

use serde_json::Value;

use super::check::no;
use crate::simulator::asked::Refused;
use crate::simulator::signature;

/// The texts in a list of blocks.
pub(super) fn texts(content: Option<&Value>, at: &str) -> Result<(), Refused> {
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

/// A turn: all that one side says before the other speaks.
pub(super) struct Turn<'a> {
    pub user: bool,
    blocks: Vec<&'a Value>,
}

impl Turn<'_> {
    /// Whether there are calls of tools in it.
    pub(super) fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| kind(block) == "tool_use")
    }
}

pub(super) fn is_of_system(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some("system")
}

/// The messages, those of one side in a row as one turn; those of the system are none.
pub(super) fn turns(body: &Value, takes_system_amid: bool) -> Result<Vec<Turn<'_>>, Refused> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, message) in messages.iter().enumerate() {
        if takes_system_amid && index > 0 && is_of_system(message) {
            texts(message.get("content"), &format!("messages.{index}"))?;
            continue;
        }
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

pub(super) fn messages(turns: &[Turn<'_>], must_think: bool, thinks: bool) -> Result<(), Refused> {
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

pub(super) fn is_name(name: &str, most: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=most).contains(&name.len()) && name.bytes().all(fits)
}
