//! Views of a request for OpenAI's Responses API (API reference, "Responses").

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Media, decoded_length, text};
use crate::BadRequest;
use crate::refused::{self, refuse_field};

/// Refused with a value: history and prompts that are kept at the server can't be counted beforehand, and what runs in the
/// background is never seen again.
const NEVER: [(&str, &str); 4] = [
    (
        "previous_response_id",
        "send the conversation itself, because history kept at the provider can't be counted",
    ),
    ("conversation", "send the conversation itself, because history kept at the provider can't be counted"),
    ("prompt", "send the prompt itself, because one kept at the provider can't be counted"),
    ("background", "an answer in the background can't be metered"),
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

pub(super) fn input_text(body: &Map<String, Value>) -> Vec<Cow<'_, str>> {
    let mut texts = Vec::new();
    for value in ["instructions", "input"].into_iter().filter_map(|field| body.get(field)) {
        text::collect(value, &mut texts);
    }
    let schemas = ["tools", "text"].into_iter().filter_map(|field| body.get(field));
    texts.into_iter().map(Cow::Borrowed).chain(schemas.map(|schema| Cow::Owned(schema.to_string()))).collect()
}

pub(super) fn media(body: &Map<String, Value>) -> Vec<Media> {
    let lists = |item| {
        let list = |field: &str| <Value>::get(item, field).and_then(Value::as_array);
        [list("content"), list("output")].into_iter().flatten().flatten()
    };
    items(body).flat_map(lists).filter_map(medium).collect()
}

fn medium(part: &Value) -> Option<Media> {
    let text = |field: &str| part.get(field).and_then(Value::as_str);
    match text("type")? {
        "input_image" => Some(Media::Image { low_detail: text("detail") == Some("low") }),
        "input_audio" => {
            let data = part.pointer("/input_audio/data").and_then(Value::as_str).or_else(|| text("data"));
            Some(Media::Audio { bytes: decoded_length(data.unwrap_or_default()) })
        }
        "input_file" => Some(Media::File { bytes: text("file_data").map(decoded_length) }),
        _ => None,
    }
}

fn items(body: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    body.get("input").and_then(Value::as_array).into_iter().flatten()
}
