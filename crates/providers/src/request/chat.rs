//! Views of a chat in our inner shape (OpenAI, API reference, "Chat Completions").

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::text::json_length;
use super::{Media, bad, decoded_length};
use crate::BadRequest;

/// Fields that count as input beside the messages.
const SCHEMAS: [&str; 3] = ["tools", "functions", "response_format"];

/// Whether the client itself asked for a chunk with usage.
pub(super) fn asks_usage(body: &Map<String, Value>) -> bool {
    body.get("stream_options").and_then(|options| options.get("include_usage")) == Some(&json!(true))
}

/// Asks for it.
pub(super) fn ask_usage(body: &mut Map<String, Value>) -> Result<(), BadRequest> {
    match body.entry("stream_options").or_insert_with(|| json!({})) {
        Value::Object(options) => {
            options.insert("include_usage".into(), Value::Bool(true));
        }
        options @ Value::Null => *options = json!({"include_usage": true}),
        _ => return Err(bad("stream_options must be an object", "stream_options")),
    }
    Ok(())
}

pub(super) fn input_text(body: &Map<String, Value>) -> Vec<Cow<'_, str>> {
    let messages = messages(body).flat_map(message_text).map(Cow::Borrowed);
    let schemas = SCHEMAS.into_iter().filter_map(|field| body.get(field));
    messages.chain(schemas.map(|schema| Cow::Owned(schema.to_string()))).collect()
}

/// The length of all that in bytes, without building it.
pub(super) fn input_length(body: &Map<String, Value>) -> u64 {
    let messages: u64 = messages(body).flat_map(message_text).map(|text| text.len() as u64).sum();
    messages + SCHEMAS.into_iter().filter_map(|field| body.get(field)).map(json_length).sum::<u64>()
}

pub(super) fn media(body: &Map<String, Value>) -> Vec<Media> {
    messages(body).flat_map(parts).filter_map(medium).collect()
}

fn messages(body: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    body.get("messages").and_then(Value::as_array).into_iter().flatten()
}

fn parts(message: &Value) -> impl Iterator<Item = &Value> {
    message.get("content").and_then(Value::as_array).into_iter().flatten()
}

fn message_text(message: &Value) -> impl Iterator<Item = &str> {
    let field = |name| message.get(name).and_then(Value::as_str);
    let direct = [field("content"), field("name"), field("reasoning_content"), field("refusal")];
    let of_parts = parts(message).flat_map(|part| {
        [part.get("text"), part.get("refusal")]
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .chain(part.as_str())
    });
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let functions = calls.filter_map(|call| call.get("function")).chain(message.get("function_call"));
    let of_calls = functions.flat_map(|function| {
        [function.get("name"), function.get("arguments")].into_iter().flatten().filter_map(Value::as_str)
    });
    direct.into_iter().flatten().chain(of_parts).chain(of_calls)
}

fn medium(part: &Value) -> Option<Media> {
    match part.get("type").and_then(Value::as_str)? {
        "text" | "input_text" | "output_text" | "refusal" => None,
        "image_url" | "input_image" => {
            let detail = part.get("image_url").and_then(|image| image.get("detail")).and_then(Value::as_str);
            Some(Media::Image { low_detail: detail == Some("low") })
        }
        "input_audio" => {
            let data = part.get("input_audio").and_then(|audio| audio.get("data")).and_then(Value::as_str);
            Some(Media::Audio { bytes: decoded_length(data.unwrap_or_default()) })
        }
        _ => {
            let data = part.get("file").and_then(|file| file.get("file_data")).and_then(Value::as_str);
            Some(Media::File { bytes: data.map(decoded_length) })
        }
    }
}
