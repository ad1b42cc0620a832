//! Views of a chat in our inner shape (OpenAI, API reference, "Chat Completions").

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::text::{self, Found, beside, hidden, json_length, shown};
use super::{Media, bad, decoded_length, sound};
use crate::BadRequest;

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

/// Every text that counts as input.
pub(super) fn input_text(body: &Map<String, Value>) -> Vec<Cow<'_, str>> {
    let mut found = Found::default();
    messages(body).for_each(|message| texts(message, &mut |text| found.texts.push(text.into())));
    beside(body, &["messages"]).for_each(|value| found.json(Some(value)));
    found.texts
}

/// What is not text.
pub(super) fn media(body: &Map<String, Value>) -> Vec<Media> {
    let mut found = Vec::new();
    messages(body).for_each(|message| media_of(message, &mut found));
    if kept(body) {
        found.push(Media::File { bytes: None });
    }
    found
}

/// The length of all text in bytes, without building it.
pub(super) fn input_length(body: &Map<String, Value>) -> u64 {
    let mut length = 0;
    messages(body).for_each(|message| texts(message, &mut |text| length += text.len() as u64));
    length + beside(body, &["messages"]).map(json_length).sum::<u64>()
}

/// Whether it goes on from content that is kept at the provider (Google, "Context caching").
fn kept(body: &Map<String, Value>) -> bool {
    ["cachedContent", "cached_content"]
        .into_iter()
        .any(|field| body.get(field).is_some_and(|kept| !kept.is_null()))
}

fn messages(body: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    body.get("messages").and_then(Value::as_array).into_iter().flatten()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// Every text of a message: content, names, refusals, reasoning, calls of tools and their ids.
fn texts<'a>(message: &'a Value, take: &mut impl FnMut(&'a str)) {
    let field = |name: &str| message.get(name).and_then(Value::as_str);
    ["content", "name", "tool_call_id", "refusal"].into_iter().filter_map(field).for_each(&mut *take);
    for part in list(message, "content") {
        match part.get("type").and_then(Value::as_str) {
            Some("thinking" | "reasoning" | "redacted_thinking") => {
                shown(part).into_iter().for_each(&mut *take);
            }
            _ => [part.get("text"), part.get("refusal"), Some(part)]
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .for_each(&mut *take),
        }
    }
    thoughts(message).into_iter().for_each(&mut *take);
    for call in list(message, "tool_calls") {
        call.get("id").and_then(Value::as_str).into_iter().for_each(&mut *take);
    }
    let functions =
        list(message, "tool_calls").filter_map(|call| call.get("function").or_else(|| call.get("custom")));
    for function in functions.chain(message.get("function_call")) {
        let texts = ["name", "arguments", "input"].into_iter().filter_map(|name| function.get(name));
        texts.filter_map(Value::as_str).for_each(&mut *take);
    }
}

/// Where clients and gateways put reasoning that is in pieces (OpenRouter, "Preserving reasoning blocks"; LiteLLM,
/// "Reasoning content").
const PIECES: [&str; 2] = ["reasoning_details", "thinking_blocks"];

/// The reasoning of a message. The same under several names counts once.
fn thoughts(message: &Value) -> Vec<&str> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    let whole = ["reasoning_content", "reasoning"].into_iter();
    let whole = whole.filter_map(|name| message.get(name).and_then(Value::as_str)).map(|text| vec![text]);
    let pieces = PIECES.into_iter().map(|name| list(message, name).flat_map(shown).collect());
    for told in whole.chain(pieces) {
        if !all.iter().any(|known| letters(known).eq(letters(&told))) {
            all.push(told);
        }
    }
    all.concat()
}

/// What is written in texts, wherever lines and pieces end.
fn letters<'a>(texts: &'a [&str]) -> impl Iterator<Item = char> + 'a {
    texts.iter().flat_map(|text| text.chars()).filter(|letter| !letter.is_whitespace())
}

fn media_of(message: &Value, found: &mut Vec<Media>) {
    found.extend(list(message, "content").filter_map(medium));
    found.extend(PIECES.into_iter().flat_map(|name| list(message, name)).filter_map(hidden));
    // A sound that the model made before, and that is kept at the provider.
    if message.get("audio").is_some_and(|audio| !audio.is_null()) {
        found.push(Media::File { bytes: None });
    }
}

fn medium(part: &Value) -> Option<Media> {
    match part.get("type").and_then(Value::as_str)? {
        "text" | "input_text" | "output_text" | "refusal" => None,
        "thinking" | "reasoning" | "redacted_thinking" => text::hidden(part),
        "image_url" | "input_image" => {
            let detail = part.get("image_url").and_then(|image| image.get("detail")).and_then(Value::as_str);
            Some(Media::Image { low_detail: detail == Some("low") })
        }
        "input_audio" => {
            let text = |field: &str| {
                part.get("input_audio").and_then(|audio| audio.get(field)).and_then(Value::as_str)
            };
            Some(sound::medium(text("data").unwrap_or_default(), text("format").unwrap_or_default()))
        }
        _ => {
            let data = part.get("file").and_then(|file| file.get("file_data")).and_then(Value::as_str);
            Some(Media::File { bytes: data.map(decoded_length) })
        }
    }
}
