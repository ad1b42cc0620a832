//! Views of a request for Anthropic's Messages API (API reference, "Messages").

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::text::{Found, beside, json_length};
use super::{Kinds, Media, decoded_length, picture};
use crate::BadRequest;
use crate::anthropic::tokens_of_tool;

pub(super) fn refuse(body: &Map<String, Value>, kinds: &mut Kinds) -> Result<(), BadRequest> {
    crate::anthropic::refuse(body, kinds)
}

/// How many calls of tools there are, and results of them.
pub(super) fn calls(body: &Map<String, Value>) -> usize {
    let blocks = list(body.get("messages")).flat_map(|message| list(message.get("content")));
    let of_tools = ["tool_use", "tool_result", "server_tool_use"];
    blocks
        .filter(|block| {
            block.get("type").and_then(Value::as_str).is_some_and(|kind| of_tools.contains(&kind))
        })
        .count()
}

/// All that counts as input, with the texts of tools or without.
pub(super) fn found(body: &Map<String, Value>, tools: bool) -> Found<'_> {
    let mut found = Found::default();
    if let Some(system) = body.get("system") {
        collect(system, &mut found);
    }
    for message in list(body.get("messages")) {
        match message.get("content") {
            Some(content) => collect(content, &mut found),
            None => found.json(Some(message)),
        }
    }
    beside(body, &["system", "messages"], tools).for_each(|value| found.json(Some(value)));
    let typed = list(body.get("tools")).filter_map(|tool| tool.get("type").and_then(Value::as_str));
    found.media.extend(typed.filter_map(tokens_of_tool).map(|bytes| Media::Hidden { bytes, all: bytes }));
    references(body, &mut found);
    found
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// A reference to a tool becomes the whole tool, wherever it stands ("Tool search tool"). The first is counted as the tool.
fn references(body: &Map<String, Value>, found: &mut Found<'_>) {
    let blocks = list(body.get("messages")).flat_map(|message| list(message.get("content")));
    let named = blocks
        .flat_map(|block| list(block.get("content")))
        .filter(|inner| inner.get("type").and_then(Value::as_str) == Some("tool_reference"))
        .filter_map(|inner| inner.get("tool_name").and_then(Value::as_str));
    let mut seen: HashMap<&str, u64> = HashMap::new();
    for name in named {
        if let Some(length) = seen.get(name) {
            found.media.push(Media::Hidden { bytes: *length, all: *length });
            continue;
        }
        let tool =
            list(body.get("tools")).find(|tool| tool.get("name").and_then(Value::as_str) == Some(name));
        seen.insert(name, tool.map_or(0, json_length));
    }
}

/// A text, or blocks: also those inside the results of tools and in documents.
fn collect<'a>(content: &'a Value, found: &mut Found<'a>) {
    match content {
        Value::String(_) | Value::Array(_) => {}
        other => return found.json(Some(other)),
    }
    found.text(Some(content));
    for block in content.as_array().into_iter().flatten() {
        match block.get("type").and_then(Value::as_str) {
            Some("text") => found.text(block.get("text")),
            Some("thinking" | "redacted_thinking") => found.thought(block),
            Some("image") => {
                let data = block.get("source").and_then(|source| source.get("data")).and_then(Value::as_str);
                found.media.push(Media::Image { low_detail: false, size: data.and_then(picture::size) });
            }
            Some("document") => document(block, found),
            Some("tool_use") => {
                found.text(block.get("id"));
                found.text(block.get("name"));
                found.json(block.get("input"));
            }
            Some("tool_result") => {
                found.text(block.get("tool_use_id"));
                if let Some(inner) = block.get("content") {
                    collect(inner, found);
                }
            }
            _ => found.json(Some(block)),
        }
    }
}

/// A document is text, blocks, or a file.
fn document<'a>(block: &'a Value, found: &mut Found<'a>) {
    found.text(block.get("title"));
    found.text(block.get("context"));
    let source = |field: &str| block.get("source").and_then(|source| source.get(field));
    match source("type").and_then(Value::as_str) {
        Some("text") => found.text(source("data")),
        Some("content") => {
            if let Some(inner) = source("content") {
                collect(inner, found);
            }
        }
        _ => {
            let data = source("data").and_then(Value::as_str);
            found.media.push(Media::File { bytes: data.map(decoded_length) });
        }
    }
}
