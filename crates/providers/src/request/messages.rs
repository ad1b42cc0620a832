//! Views of a request for Anthropic's Messages API (API reference, "Messages").

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Media, decoded_length, text};
use crate::BadRequest;

pub(super) fn refuse(body: &Map<String, Value>) -> Result<(), BadRequest> {
    crate::anthropic::refuse(body)
}

pub(super) fn input_text(body: &Map<String, Value>) -> Vec<Cow<'_, str>> {
    let mut texts = Vec::new();
    for value in ["system", "messages"].into_iter().filter_map(|field| body.get(field)) {
        text::collect(value, &mut texts);
    }
    let schemas = ["tools", "output_config", "output_format"].into_iter().filter_map(|field| body.get(field));
    texts.into_iter().map(Cow::Borrowed).chain(schemas.map(|schema| Cow::Owned(schema.to_string()))).collect()
}

pub(super) fn media(body: &Map<String, Value>) -> Vec<Media> {
    let mut found = Vec::new();
    let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
    messages.filter_map(|message| message.get("content")).for_each(|content| collect(content, &mut found));
    found
}

/// Pictures and documents, also those inside the results of tools.
fn collect(content: &Value, found: &mut Vec<Media>) {
    for block in content.as_array().into_iter().flatten() {
        let data = || block.pointer("/source/data").and_then(Value::as_str);
        let is_text = block.pointer("/source/type").and_then(Value::as_str) == Some("text");
        match block.get("type").and_then(Value::as_str) {
            Some("image") => found.push(Media::Image { low_detail: false }),
            Some("document") if !is_text => found.push(Media::File { bytes: data().map(decoded_length) }),
            Some("tool_result") => {
                if let Some(inner) = block.get("content") {
                    collect(inner, found);
                }
            }
            _ => {}
        }
    }
}
