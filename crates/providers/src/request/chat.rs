//! Views of a chat in our inner shape (OpenAI, API reference, "Chat Completions").

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::text::{self, Found, beside, hidden, json_length, shown};
use super::{Kinds, Media, bad, decoded_length, picture, sound};
use crate::BadRequest;
use crate::conversation::{JSON_WORDS, asks_for_any_json};
use crate::hosted::{self, Tools};
use crate::names::refuse_lookalikes;
use crate::refused::{self, names_stored_file, refuse_stored};

/// Types of tools that the client runs.
const TOOLS: [&str; 2] = ["function", "custom"];
pub(super) const RUN: Tools<'_> = Tools { client: &TOOLS, switches: &[] };
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Types of parts, of text and of all else below.
const PARTS: [&str; 15] = [
    "text",
    "input_text",
    "output_text",
    "refusal",
    "thinking",
    "reasoning",
    "redacted_thinking",
    "image_url",
    "input_image",
    "input_audio",
    "file",
    "input_file",
    "video_url",
    "audio_url",
    "document_url",
];
/// Types of parts that are reasoning.
const THOUGHTS: [&str; 3] = ["thinking", "reasoning", "redacted_thinking"];
/// Types of parts that are neither text nor reasoning (OpenAI; OpenRouter and vLLM, "Multimodal inputs"; Mistral, "Document AI").
const MEDIA: [&str; 8] = [
    "image_url",
    "input_image",
    "input_audio",
    "file",
    "input_file",
    "video_url",
    "audio_url",
    "document_url",
];

/// Fields of a message of which no model reads anything, or that are looked at otherwise.
const OF_MESSAGE_NOT_READ: [&str; 7] =
    ["role", "audio", "cache_control", "id", "type", "annotations", "prefix"];
/// The names in a message.
const OF_MESSAGE: [&str; 10] = [
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "audio",
    "reasoning",
    "reasoning_content",
];
/// The names in a part.
const OF_PART: [&str; 9] =
    ["type", "text", "refusal", "image_url", "input_audio", "file", "video_url", "audio_url", "document_url"];

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

/// Every text that counts as input, with the tools or without.
pub(super) fn input_text(body: &Map<String, Value>, tools: bool) -> Vec<Cow<'_, str>> {
    let mut found = Found::default();
    messages(body).for_each(|message| {
        pieces(message, &mut |piece| match piece {
            Piece::Text(text) => found.texts.push(text.into()),
            Piece::JsonText(text) => found.texts.push(text.to_owned().into()),
            Piece::Json(value) => found.json(Some(value)),
        });
    });
    beside(body, seen(body), tools).for_each(|value| found.json(Some(value)));
    if asks_for_any_json(body) {
        found.texts.push(JSON_WORDS.into());
    }
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
    messages(body).for_each(|message| {
        pieces(message, &mut |piece| {
            length += match piece {
                Piece::Text(text) | Piece::JsonText(text) => text.len() as u64,
                Piece::Json(Value::Null) => 0,
                Piece::Json(value) => json_length(value),
            };
        });
    });
    let words = if asks_for_any_json(body) { JSON_WORDS.len() as u64 } else { 0 };
    length + words + beside(body, seen(body), true).map(json_length).sum::<u64>()
}

/// Fields that are looked at by themselves. A wish for JSON counts as the words that it becomes where a server has no mode for it.
fn seen(body: &Map<String, Value>) -> &'static [&'static str] {
    if asks_for_any_json(body) { &["messages", "response_format"] } else { &["messages"] }
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

/// How many calls of tools there are, and results of them.
pub(super) fn calls(body: &Map<String, Value>) -> usize {
    let of_message = |message: &Value| {
        let single =
            ["function_call", "tool_call_id"].into_iter().filter(|field| message.get(field).is_some());
        list(message, "tool_calls").count() + single.count()
    };
    messages(body).map(of_message).sum()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// What of a message counts: a text, JSON in a text, or something unknown, as its JSON.
enum Piece<'a> {
    Text(&'a str),
    JsonText(&'a str),
    Json(&'a Value),
}

/// Every text of a message: content, names, refusals, reasoning, calls of tools and their ids. What is not known counts as
/// JSON: the template of a model may read it.
fn pieces<'a>(message: &'a Value, take: &mut impl FnMut(Piece<'a>)) {
    let Some(object) = message.as_object() else { return take(Piece::Json(message)) };
    for (name, value) in object {
        match (name.as_str(), value) {
            (name, _) if OF_MESSAGE_NOT_READ.contains(&name) => {}
            ("content", Value::Array(parts)) => parts.iter().for_each(|part| part_pieces(part, take)),
            ("content" | "name" | "tool_call_id" | "refusal", Value::String(text)) => take(Piece::Text(text)),
            // Below, because the same thought may stand under several names.
            ("reasoning_content" | "reasoning", Value::String(_)) => {}
            (name, Value::Array(_)) if PIECES.contains(&name) => {}
            ("tool_calls", Value::Array(calls)) => calls.iter().for_each(|call| call_pieces(call, take)),
            ("function_call", Value::Object(_)) => called_pieces(value, take),
            (_, Value::String(_) | Value::Array(_) | Value::Object(_)) => take(Piece::Json(value)),
            (_, Value::Null | Value::Bool(_) | Value::Number(_)) => {}
        }
    }
    thoughts(message).into_iter().for_each(|text| take(Piece::Text(text)));
}

fn part_pieces<'a>(part: &'a Value, take: &mut impl FnMut(Piece<'a>)) {
    let text = |field: &str| match part.get(field) {
        Some(Value::String(text)) => Piece::Text(text),
        _ => Piece::Json(part),
    };
    match (part, part.get("type").and_then(Value::as_str)) {
        (Value::String(text), _) => take(Piece::Text(text)),
        (_, Some("text" | "input_text" | "output_text")) => take(text("text")),
        (_, Some("refusal")) => take(text("refusal")),
        (_, Some(kind)) if THOUGHTS.contains(&kind) => {
            shown(part).into_iter().for_each(|text| take(Piece::Text(text)));
        }
        (_, Some(kind)) if MEDIA.contains(&kind) => {}
        _ => take(Piece::Json(part)),
    }
}

fn call_pieces<'a>(call: &'a Value, take: &mut impl FnMut(Piece<'a>)) {
    let Some(object) = call.as_object() else { return take(Piece::Json(call)) };
    for (name, value) in object {
        match (name.as_str(), value) {
            ("id", Value::String(id)) => take(Piece::Text(id)),
            ("type", Value::String(kind)) if matches!(kind.as_str(), "function" | "custom") => {}
            ("function" | "custom", called) => called_pieces(called, take),
            (_, value) => unknown_pieces(value, take),
        }
    }
}

fn called_pieces<'a>(called: &'a Value, take: &mut impl FnMut(Piece<'a>)) {
    match called {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match (name.as_str(), value) {
            ("name" | "input", Value::String(text)) => take(Piece::Text(text)),
            ("arguments", Value::String(text)) => take(Piece::JsonText(text)),
            (_, value) => unknown_pieces(value, take),
        }),
        other => unknown_pieces(other, take),
    }
}

/// What is not known, as its JSON; numbers and truths never count.
fn unknown_pieces<'a>(value: &'a Value, take: &mut impl FnMut(Piece<'a>)) {
    if matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_)) {
        take(Piece::Json(value));
    }
}

/// Where clients and gateways put reasoning that is in pieces (OpenRouter, "Preserving reasoning blocks"; LiteLLM,
/// "Reasoning content").
const PIECES: [&str; 2] = ["reasoning_details", "thinking_blocks"];

/// The reasoning of a message. The same under several names counts once, in its longest form: a server may read any of them.
fn thoughts(message: &Value) -> Vec<&str> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    let whole = ["reasoning_content", "reasoning"].into_iter();
    let whole = whole.filter_map(|name| message.get(name).and_then(Value::as_str)).map(|text| vec![text]);
    let pieces = PIECES.into_iter().map(|name| list(message, name).flat_map(shown).collect());
    for told in whole.chain(pieces) {
        match all.iter_mut().find(|known| letters(known).eq(letters(&told))) {
            Some(known) if length(known) < length(&told) => *known = told,
            Some(_) => {}
            None => all.push(told),
        }
    }
    all.concat()
}

fn length(texts: &[&str]) -> usize {
    texts.iter().map(|text| text.len()).sum()
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
        kind if THOUGHTS.contains(&kind) => text::hidden(part),
        "image_url" | "input_image" => {
            let image = part.get("image_url");
            let text = |field: &str| image.and_then(|image| image.get(field)).and_then(Value::as_str);
            let url = text("url").or_else(|| image.and_then(Value::as_str));
            let size = url.and_then(picture::size_of_url);
            Some(Media::Image { low_detail: text("detail") == Some("low"), size })
        }
        "input_audio" => {
            let text = |field: &str| {
                part.get("input_audio").and_then(|audio| audio.get(field)).and_then(Value::as_str)
            };
            Some(sound::medium(text("data").unwrap_or_default()))
        }
        kind if MEDIA.contains(&kind) => {
            let data = part.get("file").and_then(|file| file.get("file_data")).and_then(Value::as_str);
            Some(Media::File { bytes: data.map(decoded_length) })
        }
        _ => None,
    }
}

/// Refuses what would cost what has no price, and what is kept at the provider; looks at all kinds of things.
///
/// # Errors
/// Names the field.
pub(super) fn refuse(body: &Map<String, Value>, kinds: &mut Kinds) -> Result<(), BadRequest> {
    refused::check(body, RUN)?;
    for (index, message) in messages(body).enumerate() {
        let Some(message) = message.as_object() else {
            kinds.unknown(None, &ROLES, "role", format_args!("messages.{index}"))?;
            continue;
        };
        refuse_lookalikes(message, &[&OF_MESSAGE, &PIECES], format_args!("messages.{index}"))?;
        kinds.check(message.get("role"), &ROLES, "role", format_args!("messages.{index}"))?;
        if message.get("audio").is_some_and(|audio| !audio.is_null()) {
            return Err(refuse_stored("messages"));
        }
        parts(message.get("content"), index, kinds)?;
        for (at, call) in
            message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            if call.get("function").or_else(|| call.get("custom")).is_none_or(|called| !called.is_object()) {
                let at = format_args!("messages.{index}.tool_calls.{at}");
                kinds.unknown(call.get("type"), &TOOLS, "type", at)?;
            }
        }
    }
    Ok(())
}

/// Whether the client runs a tool.
pub(super) fn runs(tool: &Value) -> bool {
    hosted::tool_or_function(tool, RUN, "tools").is_ok()
}

fn parts(content: Option<&Value>, index: usize, kinds: &mut Kinds) -> Result<(), BadRequest> {
    let parts = match content {
        Some(Value::Array(parts)) => parts,
        None | Some(Value::Null | Value::String(_)) => return Ok(()),
        Some(_) => {
            return kinds.unknown(None, &PARTS, "type", format_args!("messages.{index}.content"));
        }
    };
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_string()) {
        if names_stored_file(part) {
            return Err(refuse_stored("messages"));
        }
        if let Some(part) = part.as_object() {
            refuse_lookalikes(part, &[&OF_PART], format_args!("messages.{index}.content.{at}"))?;
        }
        kinds.check(part.get("type"), &PARTS, "type", format_args!("messages.{index}.content.{at}"))?;
    }
    Ok(())
}
