//! Views of a request for OpenAI's Responses API (API reference, "Responses").

use serde_json::{Map, Value};

use super::text::{Found, beside};
use super::{Media, decoded_length, sound};
use crate::BadRequest;
use crate::refused::{self, refuse_field};

/// Refused with a value: history and prompts that are kept at the server can't be counted beforehand, and what runs in the
/// background is never seen again.
const NEVER: [(&str, &str); 5] = [
    (
        "previous_response_id",
        "send the conversation itself, because history kept at the provider can't be counted",
    ),
    ("conversation", "send the conversation itself, because history kept at the provider can't be counted"),
    ("prompt", "send the prompt itself, because one kept at the provider can't be counted"),
    ("background", "an answer in the background can't be metered"),
    ("context_management", "a summary made at the provider has no price"),
];

pub(super) fn refuse(body: &Map<String, Value>) -> Result<(), BadRequest> {
    let said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    for (field, why) in NEVER {
        if body.get(field).is_some_and(said) {
            return Err(refuse_field(field, why));
        }
    }
    if items(body).any(|item| item.get("type").and_then(Value::as_str) == Some("item_reference")) {
        return Err(refuse_field(
            "input",
            "send items themselves, because those kept at the provider can't be counted",
        ));
    }
    refused::check(body)
}

/// All that counts as input.
pub(super) fn found(body: &Map<String, Value>) -> Found<'_> {
    let mut found = Found::default();
    for field in ["instructions", "input"] {
        found.text(body.get(field));
        list(body.get(field)).for_each(|item| collect(item, &mut found));
    }
    beside(body, &["instructions", "input"]).for_each(|value| found.json(Some(value)));
    found
}

/// One item of a conversation.
fn collect<'a>(item: &'a Value, found: &mut Found<'a>) {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    match text("type") {
        None | Some("message") => content(item.get("content"), found),
        Some("function_call" | "custom_tool_call") => {
            for field in ["call_id", "name", "arguments", "input"] {
                found.text(item.get(field));
            }
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            found.text(item.get("call_id"));
            content(item.get("output"), found);
        }
        Some("reasoning") => {
            found.thought(item);
            // Without its words in any form it is looked up at the provider, by its id.
            let words = text("encrypted_content").is_some() || list(item.get("content")).next().is_some();
            if !words && text("id").is_some() {
                found.media.push(Media::File { bytes: None });
            }
        }
        // A summary that only the provider can read, of any length.
        Some("compaction" | "compaction_summary") => found.media.push(Media::File { bytes: None }),
        Some("computer_call_output") => found.media.push(Media::Image { low_detail: false }),
        _ => found.json(Some(item)),
    }
}

/// A text, or parts.
fn content<'a>(content: Option<&'a Value>, found: &mut Found<'a>) {
    found.text(content);
    for part in list(content) {
        let text = |field: &str| part.get(field).and_then(Value::as_str);
        match text("type") {
            Some("input_text" | "output_text" | "text" | "summary_text" | "reasoning_text") => {
                found.text(part.get("text"));
            }
            Some("refusal") => found.text(part.get("refusal")),
            Some("input_image") => {
                found.media.push(Media::Image { low_detail: text("detail") == Some("low") });
            }
            Some("input_audio") => {
                let sound = part.get("input_audio").unwrap_or(part);
                let text = |field: &str| sound.get(field).and_then(Value::as_str).unwrap_or_default();
                found.media.push(sound::medium(text("data"), text("format")));
            }
            Some("input_file") => {
                found.media.push(Media::File { bytes: text("file_data").map(decoded_length) });
            }
            _ => found.json(Some(part)),
        }
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn items(body: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    list(body.get("input"))
}
