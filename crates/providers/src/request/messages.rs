//! Views of a request for Anthropic's Messages API (API reference, "Messages").

use serde_json::{Map, Value};

use super::text::{Found, beside};
use super::{Media, decoded_length};
use crate::BadRequest;

pub(super) fn refuse(body: &Map<String, Value>) -> Result<(), BadRequest> {
    crate::anthropic::refuse(body)
}

/// All that counts as input.
pub(super) fn found(body: &Map<String, Value>) -> Found<'_> {
    let mut found = Found::default();
    let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
    for content in body.get("system").into_iter().chain(messages.filter_map(|message| message.get("content")))
    {
        collect(content, &mut found);
    }
    beside(body, &["system", "messages"]).for_each(|value| found.json(Some(value)));
    found
}

/// A text, or blocks: also those inside the results of tools and in documents.
fn collect<'a>(content: &'a Value, found: &mut Found<'a>) {
    found.text(Some(content));
    for block in content.as_array().into_iter().flatten() {
        match block.get("type").and_then(Value::as_str) {
            Some("text") => found.text(block.get("text")),
            Some("thinking" | "redacted_thinking") => found.thought(block),
            Some("image") => found.media.push(Media::Image { low_detail: false }),
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
